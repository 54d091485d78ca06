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
LONG = os.environ.get("NOPSPAN_LONG") == "1"
MOST_LINES = 15000
# Headers that span.h must not include, directly or indirectly.
HEAVY = {"atomic", "functional", "memory", "chrono", "string", "iostream", "optional", "variant"}
# Installed only where opentelemetry-cpp is. live.opentelemetry compiles it.
ABSENT = {"nopspan/opentelemetry.h"} - {str(path.relative_to(INCLUDE)) for path in Path(INCLUDE, "nopspan").glob("*.h")}
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", INCLUDE]


def public_headers():
    return sorted(str(path.relative_to(INCLUDE)) for path in Path(INCLUDE, "nopspan").rglob("*.h"))


def table():
    """{header: its smallest example} of the table in docs/developers.md."""
    found = re.findall(r"^\| `(nopspan/\w+\.h)` \| .* \| `(.+)` \|$", surroundings.read(Path("docs/developers.md")), re.M)
    return {header: example for header, example in found if header not in ABSENT}


def including(header):
    return f"#include <{header}>\n"


def in_function(header, body):
    if body.startswith("#include"):
        return body
    standard = "<coroutine>" if header == "nopspan/coroutine.h" else "<cstdio>"
    return f"#include {standard}\n#include <string>\n{including(header)}void example() {{\n{body}}}\n"


def examples():
    """[(file:line, text)] of the blocks between @code and @endcode, and of the table of headers. A block that begins with
    an #include is a file. Other blocks are bodies of functions."""
    for header in public_headers():
        text = Path(INCLUDE, header).read_text(encoding="utf-8")
        for match in re.finditer(r"^ */// @code\n(.*?)^ */// @endcode$", text, re.M | re.S):
            body = re.sub(r"^ */// ?", "", match[1], flags=re.M)
            yield f"{header}:{text.count(chr(10), 0, match.start()) + 1}", in_function(header, body)
    for header, example in table().items():
        yield f"docs/developers.md: {header}", in_function(header, example + "\n")


class Headers(unittest.TestCase):
    def preprocessed(self, compiler, header):
        done = subprocess.run([compiler, "-std=c++17", "-E", "-I", INCLUDE, "-x", "c++", "-"], input=including(header),
                              stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def test_all_of_include_is_installed(self):
        in_tree = {str(path.relative_to("include")) for path in surroundings.files(".h") if path.parts[0] == "include"}
        self.assertEqual({str(path.relative_to(INCLUDE)) for path in Path(INCLUDE).rglob("*.h")} | ABSENT, in_tree)

    def test_developers_md_lists_each(self):
        self.assertEqual(sorted(table()), [header for header in public_headers() if "/detail/" not in header])

    def test_each_row_of_a_table_is_one_line(self):
        broken = [f"{header}:{number}" for header in public_headers()
                  for number, line in enumerate(Path(INCLUDE, header).read_text(encoding="utf-8").splitlines(), 1)
                  if re.match(r" */// ?\|", line) and not line.endswith("|")]
        self.assertEqual(broken, [])

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
        """Alone with the options of one of four users per compiler, or of all with NOPSPAN_LONG=1. With the options of
        the others, all headers compile together. hygiene.interface_headers compiles each alone too."""
        bare = ["-fno-exceptions", "-fno-rtti"]
        everything = "".join(map(including, public_headers()))
        jobs = []
        for compiler in surroundings.COMPILERS:
            for options in (["-std=c++17"], ["-std=c++17", *bare], ["-std=c++20"], ["-std=c++20", *bare]):
                command = [compiler, *options, *STRICT, "-x", "c++", "-"]
                alone = options == (["-std=c++20"] if compiler == "g++" else ["-std=c++17", *bare])
                for text in map(including, public_headers()) if alone or LONG else [everything]:
                    # Included twice, to test the include guard.
                    jobs.append((" ".join([text, *command]), command, text * 2))
        self.assertEqual(surroundings.compile_all(jobs), [])

    def test_they_compile_after_the_macros_of_others(self):
        """Those of Qt and Windows, and the names that projects have for attributes and for what they trace."""
        macros = [*(f"-D{name}=" for name in ("emit", "slots", "near", "far", "interface", "small")), "-Dsignals=public", "-DERROR=0",
                  "-DDELETE=1", "-Dmajor(x)=x", "-Dminor(x)=x", "-Dlikely(x)=x", "-Dunlikely(x)=x",
                  *(f"-D{name}=1" for name in ("BATCH", "ENGINE", "EVENT", "GAUGE", "KIND", "LABEL", "REQUEST", "SPAN", "STEP", "TIME", "USAGE")),
                  *(f"-D{name}=__attribute__((__{name}__))" for name in ("cold", "noinline", "unused", "always_inline", "weak"))]
        text = "#define NPM_IMPLEMENTATION\n" + including("nopspan_mini.h") + "".join(map(including, (name for name in public_headers() if "gmock" not in name and "opentelemetry" not in name)))
        jobs = [(compiler, [compiler, "-std=c++20", shell, *macros, *STRICT, "-x", "c++", "-"], text)
                for compiler in surroundings.COMPILERS for shell in ("-DNOPSPAN_SHELL=0", "-DNOPSPAN_SHELL=1")]
        self.assertEqual(surroundings.compile_all(jobs), [])

    def test_each_opens_with_its_purpose_and_an_example(self):
        for header in public_headers():
            if "/detail/" not in header and header != "nopspan/probes.h":
                top = Path(INCLUDE, header).read_text(encoding="utf-8").split("#ifndef")[0]
                self.assertRegex(top, r"^// SPDX[^\n]*\n/// @file\n/// \w", header)
                self.assertIn("/// @code\n", top, header)
                if header != "nopspan/version.h":
                    self.assertIn("\n/// Thread safety: ", top, header)

    def test_examples_compile(self):
        found = list(examples())
        self.assertGreater(len(found), 20)
        jobs = []
        for place, text in found:
            standard = "c++20" if "<coroutine>" in text else "c++17"
            for compiler in surroundings.COMPILERS:
                command = [compiler, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-Wno-unused", "-fsyntax-only", "-I",
                           INCLUDE, "-x", "c++", "-"]
                jobs.append((f"{place} with {compiler}", command, text))
        failures = surroundings.compile_all(jobs)
        self.assertEqual(failures, [], "\n".join(failures))

    def test_probes_header_is_c_and_bpf_too(self):
        header = including("nopspan/probes.h")
        # Compiles without any system header, as a program that includes vmlinux.h must.
        jobs = [(compiler, [compiler, "-std=c99", *STRICT, "-nostdinc", "-x", "c", "-"], header) for compiler in ("gcc", "clang")]
        jobs.append(("bpf", ["clang", "-target", "bpf", "-nostdinc", *STRICT, "-x", "c", "-"], header))
        self.assertEqual(surroundings.compile_all(jobs), [])

    def test_c_header_is_c_and_old_cxx_too(self):
        strict = [*STRICT, "-Wconversion", "-Wshadow", "-Wcast-align"]
        jobs = [(f"{compiler} -std={standard}", [compiler, f"-std={standard}", *strict, "-x", language, "-"], including("nopspan/c.h") * 2)
                for compiler in ("gcc", "clang") for language, standard in (("c", "c99"), ("c", "c11"), ("c++", "c++11"))]
        self.assertEqual(surroundings.compile_all(jobs), [])


surroundings.need(*surroundings.COMPILERS)
surroundings.main()
