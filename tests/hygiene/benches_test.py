#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scripts of bench/ refuse wrong arguments with exit status 2 and a message, before they build or measure."""
import subprocess
import unittest

import surroundings

VERSION = "OLD and NEW are two versions, not %d"
# The arguments of a script, and what stderr must contain.
WRONG = {
    ("compare.sh",): VERSION % 0,
    ("compare.sh", "."): VERSION % 1,
    ("compare.sh", ".", ".", "."): VERSION % 3,
    ("compare.sh", "--fast", ".", "."): "there is no option --fast",
    ("compare.sh", ".", ".", "--rounds"): "--rounds needs a value",
    ("compare.sh", "--rounds", "0", ".", "."): '--rounds needs a number of at least 1, not "0"',
    ("compare.sh", "--seconds", "1.5", ".", "."): '--seconds needs a number of at least 1, not "1.5"',
    ("compare.sh", "--only", "(", ".", "."): '--only needs an extended regular expression, not "("',
    ("compare.sh", "no-such-revision", "."): '"no-such-revision" is not a revision of this repository',
    ("compare.sh", ".", "bench"): '"bench" is not a revision of this repository',
    ("bindings.sh", "0"): "usage: ",
    ("collector.sh", "0"): "usage: ",
    ("collector.sh", "1", "2"): "usage: ",
    ("export.sh", "0"): "usage: ",
    ("export.sh", "1", "2", "3"): "usage: ",
    ("opentelemetry.sh", "buster"): "usage: ",
    ("opentelemetry.sh", "sid", "2"): "usage: ",
    ("steps.sh", "0"): "usage: ",
    ("steps.sh", "1", "2", "3"): "usage: ",
}


class Benches(unittest.TestCase):
    def test_wrong_arguments_end_with_status_2(self):
        for (script, *arguments), message in WRONG.items():
            with self.subTest(script=script, arguments=arguments):
                done = subprocess.run([surroundings.SOURCE / "bench" / script, *arguments], cwd=surroundings.SOURCE, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn(message, done.stderr)


surroundings.main()
