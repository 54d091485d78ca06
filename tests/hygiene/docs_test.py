#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The documents: their links and references exist, and their C++ and CMake is compiled.

Each block marked ```cpp is compiled as a file of its own, as C++17. Blocks marked ```cpp c++20 are C++20, and those marked ```c are C99. A block marked
```cpp, ```c or ```python and the path of a file is an excerpt of that file. Each block marked ```cmake is the end of a
project with the program `app`. tests/live runs the commands, which are marked ```sh.
"""
import os
import re
import subprocess
import tempfile
import textwrap
import unittest
from pathlib import Path

import surroundings

INCLUDE = os.path.join(os.environ["NOPSPAN_STAGE"], "include")
DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "docs/README.md", "docs/adopting.md", "docs/architecture.md", "docs/c.md",
             "docs/compatibility.md", "docs/deployment.md", "docs/developers.md", "docs/engine.md", "docs/export.md", "docs/genai.md",
             "docs/install.md", "docs/metrics.md", "docs/open.md", "docs/operating.md",
             "docs/overhead.md", "docs/overhead-collector.md", "docs/recording.md", "docs/trace.md", "probes/README.md")
MOST_README_LINES = 200
PROJECT = """\
cmake_minimum_required(VERSION 3.25)
project(app LANGUAGES C CXX ASM)
file(WRITE ${CMAKE_BINARY_DIR}/app.cpp "#include <nopspan/span.h>\\nint main() { nopspan::Span span{\\"app\\"}; }\\n")
add_executable(app ${CMAKE_BINARY_DIR}/app.cpp)
"""


def snippets():
    """[(file:line, words after the backquotes, text)] of all fenced blocks."""
    found = []
    for path in surroundings.files(".md"):
        text = surroundings.read(path)
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start()) + 1
            found.append((f"{path}:{line}", match[1].lower().split(), match[2]))
    return found


def excerpts():
    """[(file:line, path of the file from which the block was cut, text)]"""
    return [(place, words[1], text) for place, words, text in snippets() if words[:1] in (["cpp"], ["c"], ["python"]) and "/" in "".join(words[1:])]


class Documents(unittest.TestCase):
    def test_all_exist(self):
        missing = [name for name in DOCUMENTS if not (surroundings.SOURCE / name).is_file()]
        self.assertEqual(missing, [])

    def test_the_readme_is_short(self):
        self.assertLessEqual(surroundings.read("README.md").count("\n"), MOST_README_LINES)

    def test_the_costs_in_the_readme_are_measured(self):
        measured = re.findall(r"(?<![\d.])\d+\.?\d*(?![\d.])", surroundings.read("docs/overhead.md") + surroundings.read("docs/overhead-collector.md"))
        costs = surroundings.read("README.md").partition("\n## What it costs\n")[2].partition("\n\n## ")[0]
        figures = re.findall(r"([\d.]+) ns", costs)
        self.assertGreaterEqual(len(figures), 5)
        for figure in figures:
            digits = len(figure.partition(".")[2])
            self.assertTrue([each for each in measured if f"{float(each):.{digits}f}" == figure], f"{figure} ns is in no table")

    def test_the_changelog_knows_the_version(self):
        header = surroundings.read("include/nopspan/version.h")
        parts = (re.search(rf"NOPSPAN_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))
        self.assertRegex(surroundings.read("CHANGELOG.md"), rf"(?m)^## \[?{re.escape('.'.join(parts))}\b")

    def test_nothing_is_left_to_be_filled_in(self):
        for path in surroundings.files(".md", ".bt", ".sh"):
            self.assertIsNone(re.search(r"@[A-Z][A-Z_]+@|\b(TODO|FIXME)\b", surroundings.read(path)), str(path))

    def test_genai_md_has_every_key_and_its_attribute(self):
        source = surroundings.read("src/library/fields/attribute_keys.cpp")
        table = re.findall(r'^    \{"([^"]+)",\s+(?:Key::\w+|kNoKey),\s+(\{\}|"[^"]+")', source, re.M)
        for names in re.findall(r'string_view k\w+ =((?:\n +"[^"]+")+);', source):
            table += [(key, f'"nopspan.{key}"') for key in re.findall(r"nopspan\.(\w+)", names)]
        self.assertGreater(len(table), 100)
        rows = [line for line in surroundings.read("docs/genai.md").splitlines() if line.startswith("| ")]
        text = surroundings.read("docs/genai.md")
        for key, attribute in table:
            found = [row for row in rows if f"`{key}`" in row.split("|")[1]] or [f"`{key}`" in text and text]
            self.assertTrue(found[0], f"docs/genai.md does not have the key {key}")
            if attribute == "{}" or attribute == f'"nopspan.{key}"':
                continue
            # In full, or as the last part after a sibling: "gen_ai.tool.name, gen_ai.tool.call.id", ".type".
            name = attribute.strip('"')
            said = any(name in row or "." + name.rsplit(".", 1)[-1] in row for row in found)
            self.assertTrue(said, f"docs/genai.md does not say that {key} is {name}")

    def test_links_lead_somewhere(self):
        for path in surroundings.files(".md"):
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", surroundings.read(path)):
                if "://" not in target and not target.startswith("mailto:"):
                    self.assertTrue((surroundings.SOURCE / path.parent / target).exists(), f"{path}: {target}")

    def test_cpp_snippets_compile(self):
        cut = {place for place, _, _ in excerpts()}
        found = [snippet for snippet in snippets() if snippet[1][:1] in (["cpp"], ["c++"], ["cxx"]) and snippet[0] not in cut]
        jobs = []
        for place, words, text in found:
            standard = "c++20" if "c++20" in words[1:] else "c++17"
            for compiler in surroundings.COMPILERS:
                # asio (1.22) does not know that clang has coroutines.
                asio = ["-DASIO_HAS_CO_AWAIT", "-DASIO_HAS_STD_COROUTINE"] if "<asio.hpp>" in text else []
                jobs.append((f"{place} with {compiler} -std={standard}",
                             [compiler, f"-std={standard}", *asio, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", INCLUDE, "-x",
                              "c++", "-"], text))
        for place, words, text in snippets():
            if words == ["c"]:
                jobs.append((f"{place} as C99", ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", INCLUDE,
                                                 "-x", "c", "-"], text))
        failures = surroundings.compile_all(jobs)
        self.assertEqual(failures, [], "\n".join(failures))

    def test_excerpts_are_in_their_files(self):
        """Only the indentation of the whole block may differ."""
        found = excerpts()
        self.assertTrue([place for place, _, _ in found if place.startswith("README.md")])
        for place, path, text in found:
            lines = surroundings.read(path).splitlines()
            wanted = textwrap.dedent(text).splitlines()
            cuts = (textwrap.dedent("\n".join(lines[at:at + len(wanted)])).splitlines() for at in range(len(lines)))
            self.assertIn(wanted, cuts, f"{place}: {path} does not have these lines")

    def test_cmake_snippets_build(self):
        # Some documents have the same snippet.
        for text, place in {text: place for place, words, text in snippets() if words[:1] == ["cmake"]}.items():
            with self.subTest(place), tempfile.TemporaryDirectory() as folder:
                Path(folder, "CMakeLists.txt").write_text(PROJECT + text, encoding="utf-8")
                Path(folder, "nopspan").symlink_to(surroundings.SOURCE)
                # consumer.subdirectory builds the library inside another project, so it is not built here.
                build = ["cmake", "--build", "build", *(["--", "-n"] if "add_subdirectory" in text else [])]
                for command in (["cmake", "-B", "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={os.path.dirname(INCLUDE)}"], build):
                    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
                    self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_libraries_need_no_newer_cmake_than_compatibility_md_says(self):
        """By the versions in CMake's own manual. These names are ignored by older versions, or in parts that need a newer one."""
        ignored = {"UNITY_GROUP", "UNITY_BUILD_MODE", "VERIFY_INTERFACE_HEADER_SETS"}
        elsewhere = {"block", "endblock"}
        text = "\n".join(map(surroundings.read, ("CMakeLists.txt", "cmake/usdt.cmake", "src/library/CMakeLists.txt", "src/recorder/CMakeLists.txt")))
        oldest = re.search(r"^\| CMake, .*? \| (3\.\d+) for the libraries", surroundings.read("docs/compatibility.md"), re.M)[1]
        self.assertIn(f"cmake_minimum_required(VERSION {oldest}...", text)
        used = set(re.findall(r"\w+", re.sub(r"#.*", "", text))) - ignored - elsewhere
        newer, known = [], 0
        for kind in ("command", "property", "variable"):
            listed = subprocess.run(["cmake", f"--help-{kind}-list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            for name in used.intersection(listed):
                known += 1
                manual = subprocess.run(["cmake", f"--help-{kind}", name], stdout=subprocess.PIPE, text=True, check=True).stdout
                since = re.match(r".*\n-+\n+\.\. versionadded:: 3\.(\d+)\n", manual)
                if since and int(since[1]) > int(oldest.partition(".")[2]):
                    newer.append(f"{name}: 3.{since[1]}")
        self.assertEqual(newer, [])
        self.assertGreater(known, 50)

    def test_each_block_names_its_language(self):
        """Otherwise C++ would not be compiled, and commands would not be run."""
        cut = {place for place, _, _ in excerpts()}
        self.assertEqual([place for place, words, _ in snippets()
                          if words[:1] not in (["cpp"], ["c"], ["cmake"], ["sh"], ["text"]) and place not in cut], [])
        hidden = [place for place, words, text in snippets() if words[0] in ("sh", "text") and re.search(r"nopspan::|#include", text)]
        self.assertEqual(hidden, [])


surroundings.need("cmake", *surroundings.COMPILERS)
surroundings.main()
