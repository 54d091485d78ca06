#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The headers as a shell, which needs no library: on Windows, on 32-bit machines, and where a program asks for it by
-DNOPSPAN_SHELL=1."""
import concurrent.futures
import errno
import os
import platform
import re
import shlex
import subprocess
import sys
import unittest
from pathlib import Path

from surroundings import BUILD, CC, CMAKE, CXX, CXX_FLAGS, HERE, SOURCE, fresh

from ability import need

SHELL = os.path.join(HERE, "shell")
INCLUDE = Path(SOURCE, "include")
MINGW, I686 = "x86_64-w64-mingw32-g++-posix", "i686-linux-gnu-g++"
STRICT = "-Wall -Wextra -Werror"
ASKED = "-DNOPSPAN_SHELL=1"
# The compiler and options of each build of everything.cpp. Those of other machines link all libraries statically, so that
# nothing of these needs to be installed to run them.
BUILDS = [f"{command} -std=c++{standard}"
          for command, standards in (
              (f"g++ {ASKED} -O1 -fsanitize=address,undefined", (17,)), (f"g++ {ASKED} -O2", (20,)),
              (f"clang++ {ASKED} -O2", (17,)), (f"clang++ {ASKED} -O0", (20,)),
              (f"{MINGW} -O0 -static", (17, 20)), (f"{MINGW} -O2 -static", (17, 20)),
              (f"{I686} -O2 -static", (17,)), (f"{I686} -O0 -static", (20,)))
          for standard in standards]
# Functions that are defined in span.h, because they need its SpanOptions, and those that only nopspan::recording calls.
ELSEWHERE = {"span_begin", "async_begin", "attach_batch_tap", "detach_batch_tap", "for_each_held_batch", "copies"}


# It needs the headers of opentelemetry-cpp.
WITHOUT_SHELL = "opentelemetry.h"


def headers():
    return sorted(f"nopspan/{path.name}" for path in INCLUDE.glob("nopspan/*.h") if path.name != WITHOUT_SHELL)


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(function, items))


def run(command, text=None):
    done = subprocess.run(shlex.split(command), input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def runs_here(compiler):
    return compiler != MINGW and (compiler != I686 or platform.machine() == "x86_64")


class Shell(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = fresh("shell")

    def built(self, name, command):
        """Builds a program, and returns its path."""
        program = os.path.join(self.folder, name)
        status, said = run(f"{command} {STRICT} -I {INCLUDE} -o {program}")
        self.assertEqual(status, 0, f"{command}\n{said}")
        self.assertEqual(said, "", command)
        return program

    def test_the_programs_include_each_public_header(self):
        text = "".join(Path(SHELL, name).read_text(encoding="utf-8") for name in ("everything.cpp", "matchers.cpp"))
        self.assertEqual(sorted(set(re.findall(r"#include <(nopspan/.*)>", text))), headers())

    def test_each_function_of_the_library_has_a_body(self):
        """A function without one is found only if everything.cpp uses it."""
        found = 0
        for path in INCLUDE.rglob("*.h"):
            text = path.read_text(encoding="utf-8")
            if "NOPSPAN_NAMESPACE" in text and path.name != "config.h":
                self.assertTrue("\nNOPSPAN_SHELL_HEADER\n" in text, path.name)
            for declaration in re.findall(r"^ *(?!#|//).*\bNOPSPAN_(?:API|C_API|C_CALL)\b([^;]*);", text, re.M):
                if "(" not in declaration:  # the pointer to the gate
                    continue
                found += 1
                name = re.search(r"([\w~]+|operator\S+)\(", declaration)[1]
                defined = rf"^inline [\w:<>&* ]*\b{re.escape(name)}\("
                self.assertTrue("_SHELL" in declaration or name in ELSEWHERE or re.search(defined, text, re.M),
                                f"{path.name}: {name}()")
        self.assertGreater(found, 210)

    def test_a_program_in_c_links_and_runs(self):
        for compiler in (f"gcc {ASKED}", f"clang {ASKED}", MINGW.replace("g++", "gcc"), I686.replace("g++", "gcc") + " -static"):
            for level in ("-O0", "-O2"):
                program = self.built("service", f"{compiler} -std=c99 -Wpedantic {level} {SOURCE}/examples/c/service.c")
                if not compiler.startswith(MINGW[:6]):
                    self.assertEqual(run(program, "acme hello there\n"), (0, "HELLO THERE\n"), compiler)

    def test_everything_links_and_runs(self):
        def build(number_and_options):
            number, options = number_and_options
            program = self.built(f"everything_{number}", f"{options} {SHELL}/everything.cpp")
            return options, program + ".exe" * options.startswith(MINGW)

        for options, program in in_parallel(build, enumerate(BUILDS)):
            self.assertTrue(os.path.exists(program), options)
            if not runs_here(options.split()[0]):
                continue
            try:
                self.assertEqual(run(program), (0, "0 failures\n"), options)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
                print(f"this kernel runs no programs of {options.split()[0]}", file=sys.stderr)

    def test_optimized_code_contains_nothing_of_nopspan(self):
        text = """
            #include <nopspan/llm.h>
            int twice(int n) {
              nopspan::Span span{nopspan::llm::chat, [&](auto& m) { m.output_tokens(n); }};
              span.set("n", n).event("twice");
              return nopspan::span("inner", nopspan::Context::current(), [&] { return 2 * n; });
            }"""
        for compiler in (f"g++ {ASKED}", f"clang++ {ASKED}", MINGW, I686):
            status, said = run(f"{compiler} -std=c++17 -O2 -S -I {INCLUDE} -o - -x c++ -", text)
            self.assertEqual(status, 0, said)
            self.assertIn("twice", said)
            self.assertNotIn("nopspan", said, compiler)
            self.assertNotIn("call", said, compiler)

    def test_matchers_find_no_event(self):
        program = self.built("matchers", f"g++ {ASKED} -std=c++17 {SHELL}/matchers.cpp -lgmock_main -lgmock -lgtest -pthread")
        status, said = run(program)
        self.assertEqual(status, 0, said)

    def test_files_with_the_library_and_with_the_shell_are_in_one_program(self):
        objects = []
        for kind, option in (("shell", ASKED), ("library", "")):
            for level in ("-O0", "-O2"):
                objects.append((f"mixed_{kind}{level}.o", f"{CXX} {CXX_FLAGS} -std=c++17 {level} {option} -c {SHELL}/mixed.cpp"))
        in_parallel(lambda item: self.built(*item), objects)
        library = BUILD
        for level in ("-O0", "-O2"):
            for order in (("shell", "library"), ("library", "shell")):
                files = " ".join(os.path.join(self.folder, f"mixed_{kind}{level}.o") for kind in order)
                program = self.built("mixed", f"{CXX} {CXX_FLAGS} {files} -L {library} -lnopspan -Wl,-rpath,{library}")
                self.assertEqual(run(program), (0, "library 1, shell 0, 4 events\n"), f"{order} {level}")

    def test_a_project_with_the_sources_needs_no_condition(self):
        """The target nopspan::nopspan exists on every platform, and by -DNOPSPAN_SHELL=ON it is a shell on this one."""
        for kind, options in (("windows", f"-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_CXX_COMPILER={MINGW} "
                                          f"-DCMAKE_C_COMPILER={MINGW.replace('g++', 'gcc')}"),
                              ("asked", f"-DNOPSPAN_SHELL=ON -DCMAKE_CXX_COMPILER={CXX} -DCMAKE_C_COMPILER={CC}")):
            build = os.path.join(self.folder, f"project_{kind}")
            for command in (f"{CMAKE} -S {HERE}/projects/subdirectory -B {build} -G Ninja -DNOPSPAN_SOURCE={SOURCE} {options} "
                            f"-DNOPSPAN_CONSUMER_PROGRAM={SHELL}/everything.cpp", f"{CMAKE} --build {build}"):
                status, said = run(command)
                self.assertEqual(status, 0, said)
            if kind == "asked":
                self.assertEqual(run(f"{build}/program"), (0, "0 failures\n"))

    def test_headers_and_cmake_agree_on_the_platform(self):
        """clang preprocesses for every machine, without its headers."""
        library = {"x86_64-linux-gnu", "aarch64-linux-gnu", "x86_64-linux-musl"}
        shell = {"riscv64-linux-gnu", "powerpc64le-linux-gnu", "s390x-linux-gnu", "aarch64_be-linux-gnu", "x86_64-linux-gnux32",
                 "aarch64-linux-android", "arm-linux-gnueabihf", "arm64-apple-macos13", "x86_64-unknown-freebsd14"}
        for target in sorted(library | shell):
            status, said = run(f"clang++ --target={target} -E -dM -I {INCLUDE} -x c++ -", "#include <nopspan/detail/platform.h>\n")
            self.assertEqual((status, re.findall("define NOPSPAN_SHELL (.)", said)), (0, ["1" if target in shell else "0"]), target)
        for target in ("s390x-linux-gnu", "riscv64-linux-gnu"):
            status, said = run(f"{CMAKE} -S {HERE}/projects/subdirectory -B {self.folder}/cmake_{target} -G Ninja "
                               f"-DNOPSPAN_SOURCE={SOURCE} -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY "
                               f"-DNOPSPAN_CONSUMER_PROGRAM={SHELL}/everything.cpp " +
                               " ".join(f"-DCMAKE_{language}_COMPILER=clang{plus} -DCMAKE_{language}_COMPILER_TARGET={target}"
                                        for language, plus in (("C", ""), ("CXX", "++"), ("ASM", ""))))
            self.assertIn("nopspan is a shell", said)
            self.assertEqual(status, 0, said)

    def test_headers_compile_alone_and_strictly(self):
        strict = f"{STRICT} -Wpedantic -Wshadow -Wextra-semi -fno-exceptions -fno-rtti -fsyntax-only -I {INCLUDE} -x c++ -"
        everything = sorted(str(path.relative_to(INCLUDE)) for path in INCLUDE.rglob("*.h")
                            if path.name not in ("testing_gmock.h", WITHOUT_SHELL))
        jobs = [(compiler, f"#include <{header}>\n") for header in everything for compiler in (f"clang++ {ASKED}", I686)]
        for (compiler, text), (_, said) in zip(jobs, in_parallel(lambda job: run(f"{job[0]} -std=c++17 {strict}", job[1]), jobs)):
            self.assertEqual(said, "", f"{compiler}: {text}")

    def test_a_compiler_before_cxx17_reports_one_error(self):
        """And no more, also if the program uses what the header declares."""
        jobs = [(compiler, header) for compiler in ("g++", "clang++", MINGW) for header in headers()]
        command = f"-std=c++14 -fsyntax-only -I {INCLUDE} -x c++ -"
        program = "#include <{}>\n#include <string>\nint main() {{ nopspan::Span span; nopspan::stats(); }}\n"
        for (compiler, header), (_, said) in zip(jobs, in_parallel(lambda job: run(f"{job[0]} {command}", program.format(job[1])), jobs)):
            if header in ("nopspan/c.h", "nopspan/probes.h", "nopspan/version.h"):  # these are C too
                continue
            errors = [line for line in said.splitlines() if re.search(r"\berror:", line)]
            self.assertEqual(len(errors), 1, f"{compiler} {header}\n{said}")
            self.assertIn("nopspan needs C++17: give the compiler -std=c++17 or later", errors[0])


need("g++", "clang++", MINGW, I686)
unittest.main(verbosity=2)
