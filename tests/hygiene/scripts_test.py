#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scripts declare the records as the probes' header does, and their heads explain what an operator must know."""
import re
import unittest

import surroundings

BLOCK = re.compile(r"^/\* BEGIN (struct \w+) \*/\n(.*?)^/\* END (struct \w+) \*/\n", re.M | re.S)


def blocks(path):
    """{struct: text} of the BEGIN/END blocks in a file."""
    found = {}
    for begin, text, end in BLOCK.findall(surroundings.read(path)):
        assert begin == end and begin not in found, f"{path}: BEGIN {begin}, END {end}"
        found[begin] = text
    return found


SIZES = {"unsigned int": 4, "unsigned long": 8, "char": 1}


def offsets(struct, text):
    """{struct_field: offset} of a record. Records have no padding."""
    at, found = 0, {}
    for kind, field, count in re.findall(r"^  (unsigned \w+|char) (\w+)(?:\[(\d+)\])?;", text, re.M):
        assert at % SIZES[kind] == 0, f"padding before {field}"
        found[struct.removeprefix("struct ") + "_" + field] = at
        at += SIZES[kind] * int(count or 1)
    return found


class Scripts(unittest.TestCase):
    def scripts(self):
        scripts = [path for path in surroundings.files(".bt", ".stp") if path.parts[0] == "scripts"]
        self.assertTrue(scripts)
        return scripts

    def test_the_header_marks_every_record(self):
        text = surroundings.read("include/nopspan/probes.h")
        structs = set(re.findall(r"^(struct \w+) \{", text, re.M))
        self.assertEqual(set(blocks("include/nopspan/probes.h")), structs)

    def test_scripts_carry_the_records_verbatim(self):
        records = blocks("include/nopspan/probes.h")
        for path in self.scripts():
            for struct, text in blocks(path).items():
                self.assertIn(struct, records, str(path))
                self.assertEqual(text, records[struct], f"{struct} in {path}")

    def test_scripts_mark_every_record_that_they_define(self):
        for path in self.scripts():
            text = surroundings.read(path)
            defined = set(re.findall(r"^\s*(struct nopspan_\w+)\s*\{", text, re.M))
            self.assertEqual(defined, set(blocks(path)), f"{path}: a record outside BEGIN and END")
            used = set(re.findall(r"\((struct nopspan_\w+) \*\)", text))
            self.assertLessEqual(used, defined, f"{path} uses a record that it does not define")

    def test_scripts_come_after_their_records(self):
        """bpftrace requires structs before the first probe."""
        for path in self.scripts():
            text = surroundings.read(path)
            first_probe = re.search(r"^(BEGIN|usdt:|probe )", text, re.M)
            for match in BLOCK.finditer(text):
                self.assertLess(match.end(), first_probe.end(), str(path))

    def test_heads_say_what_they_must(self):
        readme = surroundings.read("scripts/README.md")
        for path in self.scripts():
            text = surroundings.read(path)
            head = text[:re.search(r"^[^/#]", text, re.M).start()]
            self.assertIn(f"// usage: {'stap' if path.suffix == '.stp' else 'bpftrace'} scripts/{path.name}", head, str(path))
            self.assertIn(f"`{path.name}", readme, "scripts/README.md does not have it")

    def test_heads_are_short(self):
        """At most 25 lines of comment come before the first line of code. The explanations are in scripts/README.md."""
        for path in surroundings.files(".bt", ".stp", ".awk", ".sh"):
            if path.parts[0] != "scripts":
                continue
            comments = 0
            for line in BLOCK.sub("", surroundings.read(path)).splitlines():
                if line and not line.startswith(("//", "#")):
                    break
                comments += bool(line)
            self.assertLessEqual(comments, 25, str(path))

    def test_bpftrace_scripts_fit_on_two_screens(self):
        """Without the structs and the line of the licence. What needs more belongs to the program nopspan."""
        scripts = [path for path in self.scripts() if path.suffix == ".bt"]
        self.assertLessEqual(len(scripts), 10)
        for path in scripts:
            lines = re.sub(r"(?ms)^/\* BEGIN struct.*?^/\* END struct [^\n]*\n\n?", "", surroundings.read(path)).splitlines()
            self.assertLessEqual(len(lines) - 1, 80, str(path))

    def test_bpftrace_scripts_print_whole_lines(self):
        """The halves of a line that two printf() print get mixed with a line that a probe prints on another CPU."""
        for path in self.scripts():
            if path.suffix == ".bt":
                for text in re.findall(r'printf\("((?:[^"\\]|\\.)*)"', surroundings.read(path)):
                    self.assertTrue(text.endswith("\\n"), f"{path}: {text}")

    def test_the_readme_explains_every_script_and_map(self):
        readme = surroundings.read("scripts/README.md")
        for path in self.scripts():
            section = re.search(rf"(?m)^### {re.escape(path.name)}\n((?:(?!### ).*\n)*)", readme)
            self.assertTrue(section and re.search(rf"(?m)^\| \[`{re.escape(path.name)}", readme), str(path))
            # Maps whose names begin with _ are internal.
            maps = set(re.findall(r"@([a-z]\w*)", surroundings.read(path))) if path.suffix == ".bt" else set()
            self.assertEqual({of for of in maps if f"`@{of}`" not in section[1]}, set(), str(path))
            cleared = set(re.findall(r"(?m)^  clear\(@(_\w+)\);", surroundings.read(path)))
            internal = set(re.findall(r"@(_\w+)\b", surroundings.read(path))) if path.suffix == ".bt" else set()
            self.assertEqual(internal - cleared, set(), f"{path} does not clear them at its end")

    def test_scripts_take_the_filters_that_all_have(self):
        for path in self.scripts():
            usage = re.search(r"usage: (.*)", surroundings.read(path))[1]
            self.assertIn("[PID [TENANT", usage, str(path))

    def test_constants_of_systemtap_scripts_agree_with_the_header(self):
        """SystemTap has no structs, so its scripts define the offsets of the fields that they read, and the header's
        constants."""
        struct = "struct nopspan_span"
        values = offsets(struct, blocks("include/nopspan/probes.h")[struct])
        self.assertEqual(values["nopspan_span_reserved"], 216)
        header = re.findall(r"^#define (NOPSPAN_\w+) (\w+?)(?:UL?)?(?: |$)", surroundings.read("include/nopspan/probes.h"), re.M)
        values.update((name, int(value, 0)) for name, value in header if value[0].isdigit())
        scripts = [path for path in self.scripts() if path.suffix == ".stp"]
        self.assertTrue(scripts)
        for path in scripts:
            text = surroundings.read(path)
            defined = dict(re.findall(r"^@define ((?:nopspan_|NOPSPAN_)\w+) %\( (\w+) %\)$", text, re.M))
            self.assertTrue(defined, str(path))
            for name, value in defined.items():
                self.assertEqual(int(value, 0), values.get(name), f"{name} in {path}")
            self.assertEqual(set(re.findall(r"@(nopspan_\w+|NOPSPAN_\w+)", text)), set(defined), str(path))


surroundings.main()
