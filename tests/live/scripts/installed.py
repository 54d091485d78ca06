# SPDX-License-Identifier: Apache-2.0
"""For tests of the project's scripts as users run them: the library is in /usr/local, and the programs load it from
there."""

import os
import re
import signal
import sys

import harness
from harness import BUILD, SOURCE
from project_script import Script

WITH_INSTALLED = os.path.join(SOURCE, ".ci", "with-installed.sh")


def main(*commands):
    """Like harness.main(), but with the library installed while the tests run. with-installed.sh runs the file
    again."""
    harness.need(*commands)
    if os.environ.get("NOPSPAN_LIVE_INSTALLED") != "1":
        os.environ["NOPSPAN_LIVE_INSTALLED"] = "1"
        # Searched before the programs' own RUNPATH, which leads to the build tree.
        os.environ["LD_LIBRARY_PATH"] = "/usr/local/lib"
        os.execv(WITH_INSTALLED, [WITH_INSTALLED, BUILD, "--", sys.executable, *sys.argv])
    harness.main(*commands, own_processes=False)


def kill(program):
    """Ends a program that is no longer needed."""
    if program.process.poll() is None:
        program.process.kill()
        program.process.wait()
        program.process.stdin.close()
        program.process.stdout.close()


class TraceScript(Script):
    """trace.bt."""

    def __init__(self, *arguments, canary=None):
        super().__init__("trace.bt", *arguments, canary=canary)

    def wait_until_up(self):
        # One line of each of its probes.
        self.wait_for(lambda: self.canary("up"),
                      [r"\+ canary", r"- canary", r"\. first token", r"\. retry", r"\. canary.tool", r"\. canary.event"])

    def stop(self, signal_number=signal.SIGINT):
        """Like Tracer.stop(), because on a signal it prints only what it has already read."""
        for cpu in sorted(os.sched_getaffinity(0)):
            self.wait_for(lambda cpu=cpu: self.canary("last-on-%d" % cpu, cpu),
                          [r"\+ canary last-on-%d" % cpu])
        return super().stop(signal_number)

    def rows(self):
        """(pid, request id, depth, mark, rest) of each line, without the canaries."""
        rows, in_canary = [], set()
        for line in self.lines:
            row = re.match(r" *\d+ +(\d+) (\S+) +((?:\|  )*)([+.-]) (.*)$", line)
            if not row:
                continue
            pid, name = int(row[1]), row[5].split()[0]
            if (row[4], name) == ("+", "canary"):
                in_canary.add(pid)
            if pid not in in_canary:
                rows.append((pid, row[2], len(row[3]) // 3, row[4], row[5].rstrip()))
            if (row[4], name) == ("-", "canary"):
                in_canary.discard(pid)
        return rows
