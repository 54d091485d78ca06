#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rules_test.yml tests each alert of the rules for Prometheus."""
import re
import subprocess
import sys
import unittest
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent / "support"))
import ability  # pylint: disable=wrong-import-position


class Rules(unittest.TestCase):
    def test_each_alert(self):
        test, rules = TESTS / "rules_test.yml", TESTS.parent.parent / "packaging/prometheus/nopspan-rules.yml"
        done = subprocess.run(["promtool", "test", "rules", test], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(set(re.findall(r'alertname="(\w+)"', test.read_text(encoding="utf-8"))),
                         set(re.findall(r"alert: (\w+)", rules.read_text(encoding="utf-8"))))


ability.need("promtool")
unittest.main()
