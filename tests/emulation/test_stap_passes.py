# SPDX-License-Identifier: Apache-2.0
"""Each SystemTap script parses, and its names, types and probes are found (stap -p2), with every combination of
arguments. This needs no kernel, because a folder replaces the kernel's headers. test_spans_stp.py checks that the
script compiles for a kernel and counts correctly."""

import glob
import os
import subprocess
import sys
import tempfile
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, folder) for folder in ("live", "support")]
import ability
from harness import BUILT_LIBRARY as LIBRARY, PROGRAMS, SOURCE

CONFIG = "".join("CONFIG_%s=y\n" % name for name in ("TRACEPOINTS", "ARCH_SUPPORTS_UPROBES", "UPROBES"))
# The only headers that stap looks for before it compiles.
HEADERS = {".config": CONFIG, "Module.symvers": "", "include/config/kernel.release": "6.1.0\n"}


class StapPasses(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.headers = folder.name
        for name, text in HEADERS.items():
            path = os.path.join(self.headers, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                file.write(text)

    def check(self, *arguments):
        done = subprocess.run(["stap", "-r", self.headers, "-p2", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        # stap also warns that there is no kernel to read symbols from, which is not the script's fault.
        warnings = [line for line in done.stderr.splitlines()
                    if "WARNING" in line and "symbol table missing" not in line]
        self.assertEqual(warnings, [], done.stderr)
        return done.stdout

    def test_scripts_with_their_arguments(self):
        scripts = glob.glob(os.path.join(SOURCE, "scripts", "*.stp"))
        self.assertTrue(scripts)
        for script in scripts:
            for arguments in (("0", "", LIBRARY), ("4242", "acme", os.path.join(PROGRAMS, "traced_static"))):
                with self.subTest(script=script, arguments=arguments):
                    probes = self.check(script, *arguments).partition("# probes")[2]
                    self.assertIn('process("%s").statement(' % arguments[2], probes)

    def test_a_script_that_is_wrong_is_found(self):
        with self.assertRaises(AssertionError):
            self.check("-e", 'probe process("%s").provider("nopspan").mark("no_such_mark") { }' % LIBRARY)
        with self.assertRaises(AssertionError):
            self.check("-e", 'probe process("%s").provider("nopspan").mark("span_stop") { print($arg7) }' % LIBRARY)


if __name__ == "__main__":
    ability.need("stap")
    unittest.main()
