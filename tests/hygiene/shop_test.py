#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The service of examples/shop needs few lines of nopspan.

A line of nopspan is a line that would disappear, or be shorter, if the service had no nopspan. It has the word nopspan,
or the name of something that exists only for nopspan (NAMES), or it only closes a call that such a line opened.
"""
import re
import unittest

import surroundings

MOST_LINES = 30
# Variables and parameters that exist only for nopspan. A test finds the others that are declared with a type of nopspan.
NAMES = {"span", "m", "headers", "caller"}
OF_NOPSPAN = re.compile(r"\b(nopspan|%s)\b" % "|".join(sorted(NAMES)))
FILES = [path for path in surroundings.files(".h", ".cpp") if path.parts[:2] == ("examples", "shop")]


def code_of(path):
    """The lines without comments and texts. Those may contain brackets."""
    text = re.sub(r'"(\\.|[^"\\])*"', '""', surroundings.read(path))
    return [re.sub(r"//.*", "", line).rstrip() for line in text.splitlines()]


def lines_of_nopspan(path):
    found, opened = [], []
    code = [surroundings.read(path).splitlines()[at] if line.startswith("#include") else line for at, line in enumerate(code_of(path))]
    for number, line in enumerate(code, 1):
        counts = bool(OF_NOPSPAN.search(line))
        closes = []
        for bracket in re.findall(r"[()\[\]{}]", line):
            if bracket in "([{":
                opened.append(counts)
            else:
                closes.append(opened.pop())
        if counts or re.fullmatch(r"\s*}?\)+[;,]", line) and any(closes):
            found.append(f"{path.name}:{number}: {line.strip()}")
    return found


class Shop(unittest.TestCase):
    def test_it_needs_few_lines_of_nopspan(self):
        found = [line for path in FILES for line in lines_of_nopspan(path)]
        print("\n".join(found))
        self.assertLessEqual(len(found), MOST_LINES)
        self.assertGreater(len(found), 10, "this test finds nothing")

    def test_all_variables_of_nopspan_are_counted(self):
        declared = {name for path in FILES for line in code_of(path) for name in re.findall(r"nopspan::\w+&? (\w+)", line)}
        callables = {name for path in FILES for line in code_of(path) for name in re.findall(r"auto& (\w+)\)", line)}
        self.assertEqual((declared | callables) - NAMES, set())


surroundings.main()
