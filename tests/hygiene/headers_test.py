#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The public headers are light, and each compiles alone."""
import os
import re
import subprocess
import unittest
from pathlib import Path

import surroundings

INCLUDE = os.path.join(os.environ["NOPSPAN_STAGE"], "include")
MOST_LINES = 15000
# Headers that span.h must not include, directly or indirectly.
HEAVY = {"atomic", "functional", "memory", "chrono", "string", "iostream", "optional", "variant"}
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", INCLUDE]


def public_headers():
    return sorted(str(path.relative_to(INCLUDE)) for path in Path(INCLUDE, "nopspan").rglob("*.h"))


def including(header):
    return f"#include <{header}>\n"


class Headers(unittest.TestCase):
    def preprocessed(self, compiler, header):
        done = subprocess.run([compiler, "-std=c++17", "-E", "-I", INCLUDE, "-x", "c++", "-"], input=including(header),
                              stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def test_all_of_include_is_installed(self):
        in_tree = {str(path.relative_to("include")) for path in surroundings.files(".h") if path.parts[0] == "include"}
        self.assertEqual(set(public_headers()), in_tree)

    def test_span_h_preprocesses_within_its_budget(self):
        for compiler in surroundings.COMPILERS:
            lines = self.preprocessed(compiler, "nopspan/span.h").count("\n")
            print(f"span.h: {lines} lines with {compiler}")
            self.assertLessEqual(lines, MOST_LINES, compiler)

    def test_span_h_brings_no_heavy_header(self):
        for compiler in surroundings.COMPILERS:
            text = self.preprocessed(compiler, "nopspan/span.h")
            entered = set(re.findall(r'^# \d+ "[^"]*/([^/"]+)" 1', text, re.M))
            self.assertIn("span.h", entered)
            self.assertIn("string_view", entered)  # the pattern does find standard headers
            self.assertEqual(entered & HEAVY, set(), compiler)

    def test_each_compiles_alone(self):
        jobs = []
        for header in public_headers():
            for compiler in surroundings.COMPILERS:
                for options in (["-std=c++17"], ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
                                ["-std=c++20", "-fno-exceptions", "-fno-rtti"], ["-std=c++20"]):
                    command = [compiler, *options, *STRICT, "-x", "c++", "-"]
                    # Included twice, to test the include guard.
                    jobs.append((" ".join([header, *command]), command, including(header) * 2))
        self.assertEqual(surroundings.compile_all(jobs), [])

    def test_probes_header_is_c_and_bpf_too(self):
        header = including("nopspan/probes.h")
        # Without any system header, as beside vmlinux.h.
        jobs = [(compiler, [compiler, "-std=c99", *STRICT, "-nostdinc", "-x", "c", "-"], header) for compiler in ("gcc", "clang")]
        jobs.append(("bpf", ["clang", "-target", "bpf", "-nostdinc", *STRICT, "-x", "c", "-"], header))
        self.assertEqual(surroundings.compile_all(jobs), [])


surroundings.need(*surroundings.COMPILERS)
surroundings.main()
