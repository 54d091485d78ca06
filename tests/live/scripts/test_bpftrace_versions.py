# SPDX-License-Identifier: Apache-2.0
"""The scripts count the same under newer bpftraces than this Debian's: every test of scripts, with each of them.

With NOPSPAN_LONG=1 alone: 0.23 and 0.27 come from Debian's trixie and sid, fetched once by suite-bpftrace.sh. For one by
hand: NOPSPAN_SUITE=sid BPFTRACE=$PWD/tests/live/scripts/suite-bpftrace.sh ctest --preset dev -R live.spans_bt -V
"""

import glob
import os
import re
import subprocess
import sys
import unittest

import harness
from harness import LONG, SOURCE, Test

HERE = os.path.dirname(os.path.abspath(__file__))
RUNS_IT = os.path.join(HERE, "suite-bpftrace.sh")
# The suites, and the first version that each must have: an older one shows nothing new.
SUITES = {"trixie": (0, 23), "sid": (0, 27)}
# 0.23 loses one of two first counts of a key that two CPUs make at the same moment, and says so ("File exists"):
# count(), sum() and histograms, mended in 0.24. On one CPU there are no two.
ON_ONE_CPU = ("trixie",)
# These compare texts of the bpftrace that the scripts' heads were made with, not counts.
OF_ONE_VERSION = ("test_parse.py", "test_examples.py")
OTHERS = ("test_perf_spans_sh.py", os.path.basename(__file__))
PATIENCE_S = 600


def tests_of_scripts():
    """(name, text) of the files of this folder."""
    files = []
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        if os.path.basename(path) not in OF_ONE_VERSION + OTHERS:
            with open(path, encoding="utf-8") as file:
                files.append((os.path.basename(path), file.read()))
    return files


def environment(suite):
    # The file itself waits for the library in /usr/local.
    return {**os.environ, "BPFTRACE": RUNS_IT, "NOPSPAN_SUITE": suite, "NOPSPAN_LIVE_INSTALLED": "0"}


class Versions(Test):
    def test_every_script_is_in_them(self):
        with open(os.path.join(HERE, "installed.py"), encoding="utf-8") as file:
            texts = file.read() + "".join(text for _, text in tests_of_scripts())
        scripts = [name for name in os.listdir(os.path.join(SOURCE, "scripts")) if name.endswith(".bt")]
        self.assertTrue(scripts)
        self.assertEqual([name for name in scripts if '"%s"' % name not in texts], [])

    def check_version(self, suite):
        done = subprocess.run([RUNS_IT, "--version"], env=environment(suite), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        version = re.match(r"bpftrace v(\d+)\.(\d+)", done.stdout.splitlines()[-1])
        self.assertTrue(version, done.stdout)
        self.assertGreaterEqual(tuple(map(int, version.groups())), SUITES[suite])

    def check(self, suite, file):
        on = [min(os.sched_getaffinity(0))] if suite in ON_ONE_CPU else os.sched_getaffinity(0)
        # timeout ends all that the file started.
        command = ["timeout", str(PATIENCE_S), "taskset", "--cpu-list", ",".join(map(str, on)),
                   sys.executable, os.path.join(HERE, file), "-v"]
        done = subprocess.run(command, env=environment(suite), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode == 77 and os.environ.get("CI") != "true":
            self.skipTest(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout)


def add_tests():
    for suite in SUITES:
        # Ordered by name: the suite's version comes before its files.
        setattr(Versions, "test_%s" % suite, unittest.skipUnless(LONG, "NOPSPAN_LONG=1")(
            lambda self, suite=suite: self.check_version(suite)))
        for file, _ in tests_of_scripts():
            setattr(Versions, "test_%s_%s" % (suite, file[len("test_"):-len(".py")]), unittest.skipUnless(LONG, "NOPSPAN_LONG=1")(
                lambda self, suite=suite, file=file: self.check(suite, file)))


if __name__ == "__main__":
    # Without the locks of harness.main(): the files take them.
    harness.need(*(["debootstrap", "taskset", "timeout"] if LONG else []))
    add_tests()
    unittest.main()
