# SPDX-License-Identifier: Apache-2.0
"""Each mutant of table.py makes a test fail. A mutant is one changed text in one file.

The folder of the file, which the build compiles as one, is compiled in the same way but without optimization. Then the
shared library is linked again, and a test program of the build runs with it. Or a test program that contains the code is
linked again. Of nopspan_mini.h, only the file with its implementation is compiled."""

import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import tempfile
import unittest
from collections import namedtuple
from pathlib import Path

from table import MUTANTS as ALL_MUTANTS

SOURCE = Path(os.environ["NOPSPAN_SOURCE"])
BUILD = Path(os.environ["NOPSPAN_BUILD_DIR"])
LONG = os.environ.get("NOPSPAN_LONG") == "1"
# Without those that need opentelemetry-cpp.
MUTANTS = [mutant for mutant in ALL_MUTANTS if mutant.tests != "opentelemetry"]
MINI = "include/nopspan_mini.h"
PATIENCE_S = 120

# What is linked again for a mutant, and the target in the build that has the mutant's object.
Linked = namedtuple("Linked", "output target")
# Of the prefixes of a mutant's tests.
LINKED = {"": Linked("libnopspan.so", "nopspan"), "internals": Linked("unit_internals", "nopspan_static"),
          "mini": Linked("unit_mini", "unit_mini"), "recording": Linked("libnopspan-recording.so", "nopspan_recording"),
          "collector": Linked("collector_test", "nopspan_collector")}
# The test program that runs with a shared library that is linked again.
UNIT = BUILD / "tests" / "unit"
PRELOADED = {"": UNIT / "unit_public", "Mcp.*": UNIT / "unit_mcp", "cases": BUILD / "tests" / "cases" / "cases_reader",
             "recording": UNIT / "unit_recording"}


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False, **options)


def path_of(mutant):
    return SOURCE / (mutant.file if mutant.file.startswith(("include/", "src/")) else "src/library/" + mutant.file)


def kind_of(tests):
    """(the prefix of the tests, the rest)"""
    kind, _, rest = tests.partition(":")
    return (kind, rest) if kind in LINKED else ("", tests)


class Build:
    """How the build makes what is linked again."""

    def __init__(self):
        self.compilations = {}
        targets = "|".join(linked.target for linked in LINKED.values())
        for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
            command = shlex.split(entry["command"])
            target = "-o" in command and re.search(rf"/({targets})\.dir/(Unity/|mini.c.o)", command[command.index("-o") + 1])
            if target and target[2] == "mini.c.o":
                self.compilations[target[1], SOURCE / MINI] = command
            elif target:
                for included in re.findall(r'#include "(.*)"', Path(entry["file"]).read_text(encoding="utf-8")):
                    self.compilations[target[1], Path(included)] = command
        self.links = {kind: self.link_of(linked.output) for kind, linked in LINKED.items()}

    @staticmethod
    def link_of(target):
        commands = run(["ninja", "-C", BUILD, "-t", "commands", target]).stdout.splitlines()
        link = [line for line in commands if line.startswith(": && ") and re.search(r" -o \S*%s" % re.escape(target), line)][-1]
        return shlex.split(link.removeprefix(": && ").removesuffix(" && :"))

    def compile(self, mutant, folder):
        """Returns (the object in the build, the mutant's object, the compiler's message if it fails)."""
        path = path_of(mutant)
        changed, compiled = folder / path.name, str(folder / "mutant.o")
        changed.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        command = list(self.compilations[LINKED[kind_of(mutant.tests)[0]].target, path])
        made = command[command.index("-o") + 1]
        command[command.index("-o") + 1] = compiled
        if mutant.file == MINI:
            command = [f"-I{folder}" if word == f"-I{SOURCE / 'include'}" else word for word in command]
        else:
            united = Path(command[command.index("-c") + 1]).read_text(encoding="utf-8")
            (folder / "united.cxx").write_text(united.replace(f'"{path}"', f'"{changed}"'), encoding="utf-8")
            command[command.index("-c") + 1] = str(folder / "united.cxx")
        done = run([*command, "-O0", "-Wno-error"], cwd=BUILD)
        return made, compiled, done.stdout if done.returncode != 0 else ""

    def mutate(self, mutant, folder):
        """Compiles the mutant and links it. Returns the library or program, or the compiler's message."""
        made, compiled, message = self.compile(mutant, folder)
        if message:
            return None, message
        link = [compiled if word == made else word for word in self.links[kind_of(mutant.tests)[0]]]
        output = link.index("-o") + 1
        link[output] = str(folder / Path(link[output]).name)
        if compiled not in link:
            # The object in the build is in an archive, from which the linker takes no file whose symbols are defined.
            link.insert(output + 1, compiled)
        linked = run(link, cwd=BUILD)
        return (Path(link[output]), "") if linked.returncode == 0 else (None, linked.stdout)


def run_tests(tests, made):
    environment = dict(os.environ)
    kind, wanted = kind_of(tests)
    program = PRELOADED.get(tests) or PRELOADED.get(kind) or made
    if program != made:
        environment["LD_PRELOAD"] = str(made)
    options = [] if tests == "cases" else ["--gtest_brief=1", "--gtest_filter=" + wanted]
    return run([program, *options], env=environment, timeout=PATIENCE_S)


class Mutants(unittest.TestCase):
    maxDiff = None

    def test_each_changes_a_text_that_occurs_once(self):
        self.assertGreaterEqual(len(MUTANTS), 30)
        for mutant in ALL_MUTANTS:
            with self.subTest(mutant.behaviour):
                text = path_of(mutant).read_text(encoding="utf-8")
                if mutant.file == MINI:
                    text = text.partition("#define NPM_IMPLEMENTED")[2]
                self.assertEqual(text.count(mutant.old), 1, f"{mutant.file}: {mutant.old}")
                self.assertNotEqual(mutant.old, mutant.new)

    @unittest.skipUnless(LONG, "NOPSPAN_LONG=1")
    def test_their_tests_pass_if_a_file_is_compiled_unchanged(self):
        # Otherwise a mutant would be found because of how it is compiled, linked and loaded.
        build = Build()

        def check(made_of):
            mutants = [mutant for mutant in MUTANTS if (mutant.file, kind_of(mutant.tests)[0]) == made_of]
            with tempfile.TemporaryDirectory(prefix="nopspan-mutant-") as folder:
                made, message = build.mutate(mutants[0]._replace(new=mutants[0].old), Path(folder))
                if made is None:
                    return message[-2000:]
                ran = [run_tests(tests, made) for tests in sorted({mutant.tests for mutant in mutants})]
            return "\n".join(done.stdout[-2000:] for done in ran
                             if done.returncode != 0 or not re.search(r"[1-9]\d* (tests? from|passed)", done.stdout))

        files = sorted({(mutant.file, kind_of(mutant.tests)[0]) for mutant in MUTANTS})
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            results = dict(zip(files, workers.map(check, files)))
        self.assertEqual({file: why for file, why in results.items() if why}, {})

    @unittest.skipUnless(LONG, "NOPSPAN_LONG=1")
    def test_each_is_found(self):
        build = Build()

        def check(mutant):
            with tempfile.TemporaryDirectory(prefix="nopspan-mutant-") as folder:
                made, message = build.mutate(mutant, Path(folder))
                if made is None:
                    return f"does not compile: {message[-2000:]}"
                try:
                    return "" if run_tests(mutant.tests, made).returncode != 0 else "no test found it"
                except subprocess.TimeoutExpired:
                    return "the tests hang"

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            results = dict(zip((mutant.behaviour for mutant in MUTANTS), workers.map(check, MUTANTS)))
        self.assertEqual({behaviour: why for behaviour, why in results.items() if why}, {})


if __name__ == "__main__":
    unittest.main(verbosity=2)
