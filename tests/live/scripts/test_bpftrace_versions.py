# SPDX-License-Identifier: Apache-2.0
"""The scripts count the same with newer versions of bpftrace than this Debian's. Runs each test of the scripts with
each version.

Runs only with NOPSPAN_LONG=1. 0.23 and 0.27 come from Debian's trixie and sid. suite-bpftrace.sh downloads them once.
By hand: NOPSPAN_SUITE=sid BPFTRACE=$PWD/tests/live/scripts/suite-bpftrace.sh ctest --preset dev -R live.spans_bt -V
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
# The suites, and the minimum version of each. An older version would test nothing new.
SUITES = {"trixie": (0, 23), "sid": (0, 27)}
# If two CPUs make the first count of a key at the same time, 0.23 loses one of them and reports "File exists". This
# concerns count(), sum() and histograms, and is fixed in 0.24. These tests therefore run on one CPU.
ON_ONE_CPU = ("trixie",)
# Compares texts and not counts. The texts are those of the bpftrace that printed them.
OF_ONE_VERSION = ("test_examples.py",)
# These tests run perf, or the bpftrace in PATH.
OTHERS = ("test_perf_spans_sh.py", "test_documented_commands.py", os.path.basename(__file__))
PATIENCE_S = 600


def tests_of_scripts():
    """(name, text) of the files in this folder."""
    files = []
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        if os.path.basename(path) not in OF_ONE_VERSION + OTHERS:
            with open(path, encoding="utf-8") as file:
                files.append((os.path.basename(path), file.read()))
    return files


def environment(suite):
    # Each file waits for the library in /usr/local itself.
    return {**os.environ, "BPFTRACE": RUNS_IT, "NOPSPAN_SUITE": suite, "NOPSPAN_LIVE_INSTALLED": "0"}


class Versions(Test):
    def test_every_script_is_in_them(self):
        with open(os.path.join(os.path.dirname(HERE), "project_script.py"), encoding="utf-8") as file:
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
        # timeout also kills the processes that the file started.
        command = ["timeout", str(PATIENCE_S), "taskset", "--cpu-list", ",".join(map(str, on)),
                   sys.executable, os.path.join(HERE, file), "-v"]
        done = subprocess.run(command, env=environment(suite), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode == 77 and os.environ.get("CI") != "true":
            self.skipTest(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout)


def add_tests():
    for suite in SUITES:
        # Sorted by name: the version of a suite comes before its files.
        setattr(Versions, "test_%s" % suite, unittest.skipUnless(LONG, "NOPSPAN_LONG=1")(
            lambda self, suite=suite: self.check_version(suite)))
        for file, _ in tests_of_scripts():
            setattr(Versions, "test_%s_%s" % (suite, file[len("test_"):-len(".py")]), unittest.skipUnless(LONG, "NOPSPAN_LONG=1")(
                lambda self, suite=suite, file=file: self.check(suite, file)))


if __name__ == "__main__":
    # Without the locks of harness.main(), because the files take them.
    harness.need(*(["debootstrap", "taskset", "timeout"] if LONG else []))
    add_tests()
    unittest.main()
