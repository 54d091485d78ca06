# SPDX-License-Identifier: Apache-2.0
"""Reads the open spans of a process from outside, with a program that knows only nopspan/probes.h."""

import os
import signal
import subprocess

import harness
from opened import Opened


def read_open(target):
    """The lines that the reader prints of a process or a core file, sorted."""
    done = subprocess.run([harness.program_path("open_spans"), str(target)], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return sorted(done.stdout.splitlines())


class OpenSpans(harness.Test):
    def test_of_a_program_that_waits(self):
        with Opened("hold") as opened:
            self.assertEqual(read_open(opened.process.pid), sorted(opened.expected))

    def test_of_a_stopped_program_and_of_its_core(self):
        with Opened("hold") as opened:
            pid = opened.process.pid
            opened.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
            try:
                self.assertEqual(read_open(pid), sorted(opened.expected))
            finally:
                opened.process.send_signal(signal.SIGCONT)
            path = os.path.join(self.temporary_folder(), "core")
            subprocess.run(["gcore", "-o", path, str(pid)], check=True, capture_output=True, timeout=120)
            self.assertEqual(read_open(f"{path}.{pid}"), sorted(opened.expected))

    def test_of_a_child_are_its_own(self):
        with Opened("fork") as opened:
            of_parent, (pid, of_child) = opened.expected[:3], opened.expected[3:]
            self.assertEqual(read_open(opened.process.pid), sorted(of_parent))
            self.assertEqual(read_open(int(pid)), [of_child])


if __name__ == "__main__":
    harness.main("gcore", own_processes=False)
