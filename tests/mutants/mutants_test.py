# SPDX-License-Identifier: Apache-2.0
"""Each mutant of table.py makes a test fail. A mutant is one changed text in one file of the library.

The folder of the file, which the build compiles as one, is compiled in the same way but without optimization, and the
library is linked again. The test programs of the build then run with that library. unit_internals contains the library,
so it is linked again instead."""

import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

from table import MUTANTS

SOURCE = Path(os.environ["NOPSPAN_SOURCE"])
BUILD = Path(os.environ["NOPSPAN_BUILD_DIR"])
LONG = os.environ.get("NOPSPAN_LONG") == "1"
UNIT = BUILD / "tests" / "unit" / "unit_public"
MCP = UNIT.with_name("unit_mcp")
INTERNALS = "internals:"
CASES = BUILD / "tests" / "cases" / "cases_reader"
PATIENCE_S = 120


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False, **options)


class Library:
    """How the build makes the shared library, and unit_internals, which has the static one."""

    def __init__(self):
        self.compilations = {}
        for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
            command = shlex.split(entry["command"])
            target = "-o" in command and re.search(r"/(nopspan|nopspan_static)\.dir/Unity/", command[command.index("-o") + 1])
            if target:
                for included in re.findall(r'#include "(.*)"', Path(entry["file"]).read_text(encoding="utf-8")):
                    self.compilations[target[1], Path(included)] = command
        self.links = {"nopspan": self.link_of("libnopspan.so"), "nopspan_static": self.link_of("unit_internals")}

    @staticmethod
    def link_of(target):
        commands = run(["ninja", "-C", BUILD, "-t", "commands", target]).stdout.splitlines()
        link = [line for line in commands if line.startswith(": && ") and re.search(r" -o \S*%s" % re.escape(target), line)][-1]
        return shlex.split(link.removeprefix(": && ").removesuffix(" && :"))

    def mutate(self, mutant, folder):
        """Compiles the mutant and links it. Returns the library or program, or the compiler's message."""
        path = SOURCE / "src/library" / mutant.file
        changed, compiled = folder / path.name, str(folder / "mutant.o")
        changed.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        target = "nopspan_static" if is_internal(mutant) else "nopspan"
        command = list(self.compilations[target, path])
        made = command[command.index("-o") + 1]
        command[command.index("-o") + 1] = compiled
        united = Path(command[command.index("-c") + 1]).read_text(encoding="utf-8")
        (folder / "united.cxx").write_text(united.replace(f'"{path}"', f'"{changed}"'), encoding="utf-8")
        command[command.index("-c") + 1] = str(folder / "united.cxx")
        done = run([*command, "-O0", "-Wno-error"], cwd=BUILD)
        if done.returncode != 0:
            return None, done.stdout
        # The linker does not take a file from the archive if its symbols are already defined.
        link = [compiled if word == made else word for word in self.links[target]]
        output = link.index("-o") + 1
        link[output] = str(folder / Path(link[output]).name)
        if is_internal(mutant):
            link.insert(output + 1, compiled)
        linked = run(link, cwd=BUILD)
        return (Path(link[output]), "") if linked.returncode == 0 else (None, linked.stdout)


def is_internal(mutant):
    return mutant.tests.startswith(INTERNALS)


def run_tests(tests, made):
    environment = dict(os.environ)
    programs = {"cases": CASES, "Mcp.*": MCP}
    program = made if tests.startswith(INTERNALS) else programs.get(tests, UNIT)
    if program != made:
        environment["LD_PRELOAD"] = str(made)
    options = [] if tests == "cases" else ["--gtest_brief=1", "--gtest_filter=" + tests.removeprefix(INTERNALS)]
    return run([program, *options], env=environment, timeout=PATIENCE_S)


class Mutants(unittest.TestCase):
    maxDiff = None

    def test_each_changes_a_text_that_occurs_once(self):
        self.assertGreaterEqual(len(MUTANTS), 30)
        for mutant in MUTANTS:
            with self.subTest(mutant.behaviour):
                text = (SOURCE / "src/library" / mutant.file).read_text(encoding="utf-8")
                self.assertEqual(text.count(mutant.old), 1, f"{mutant.file}: {mutant.old}")
                self.assertNotEqual(mutant.old, mutant.new)

    @unittest.skipUnless(LONG, "NOPSPAN_LONG=1")
    def test_their_tests_pass_if_a_file_is_compiled_unchanged(self):
        # Otherwise a mutant would be found because of how it is compiled, linked and loaded.
        library = Library()

        def check(made_of):
            mutants = [mutant for mutant in MUTANTS if (mutant.file, is_internal(mutant)) == made_of]
            with tempfile.TemporaryDirectory(prefix="nopspan-mutant-") as folder:
                made, message = library.mutate(mutants[0]._replace(new=mutants[0].old), Path(folder))
                if made is None:
                    return message[-2000:]
                ran = [run_tests(tests, made) for tests in sorted({mutant.tests for mutant in mutants})]
            return "\n".join(done.stdout[-2000:] for done in ran
                             if done.returncode != 0 or not re.search(r"[1-9]\d* (tests? from|passed)", done.stdout))

        files = sorted({(mutant.file, is_internal(mutant)) for mutant in MUTANTS})
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            results = dict(zip(files, workers.map(check, files)))
        self.assertEqual({file: why for file, why in results.items() if why}, {})

    @unittest.skipUnless(LONG, "NOPSPAN_LONG=1")
    def test_each_is_found(self):
        library = Library()

        def check(mutant):
            with tempfile.TemporaryDirectory(prefix="nopspan-mutant-") as folder:
                made, message = library.mutate(mutant, Path(folder))
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
