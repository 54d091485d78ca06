# SPDX-License-Identifier: Apache-2.0
"""perf finds the probes as SDT events of the build-id cache, and raises the gate."""

import os
import re
import signal
import subprocess

import harness
from harness import GATE_SPANS, LIBRARY, Program, wait_until


class Perf(harness.Test):
    def setUp(self):
        self.folder = self.temporary_folder()
        self.cache = os.path.join(self.folder, "cache")
        self.perf("buildid-cache", "--add", LIBRARY)

    def perf(self, *arguments):
        done = subprocess.run(["perf", "--buildid-dir", self.cache, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False)
        self.assertEqual(done.returncode, 0, "perf %s: %s" % (arguments, done.stdout))
        return done.stdout

    def add_event(self, name):
        added = self.perf("probe", "-f", "-x", LIBRARY, "--add", name)
        # perf appends a number if another event already has the name.
        event = re.search(r"^\s*(%s\w*)\s" % name, added, re.M).group(1)
        self.addCleanup(self.perf, "probe", "--del", event)

    def test_the_cache_lists_every_probe(self):
        listed = self.perf("list", "sdt")
        for probe in harness.PROBES:
            self.assertRegex(listed, r"sdt_nopspan:%s\b" % probe)

    def test_record_of_span_stop(self):
        self.add_event("sdt_nopspan:span_stop")
        self.add_event("sdt_nopspan_batch:batch")
        data = os.path.join(self.folder, "perf.data")
        control, acknowledge = os.path.join(self.folder, "control"), os.path.join(self.folder, "acknowledge")
        os.mkfifo(control)
        os.mkfifo(acknowledge)
        with Program("traced") as program:
            self.assertEqual(program.gate(), 0, "a probe that nobody records costs nothing")
            # Starts disabled, so that perf acknowledges when it has enabled the events.
            # Without build ids, because perf would enter other mount namespaces for them, and so leave a chroot.
            recorder = self.until_interrupted("perf", "record", "-q", "-B", "-e", "sdt_nopspan:*", "-a", "-D", "-1",
                                              "-o", data, "--control", "fifo:%s,%s" % (control, acknowledge),
                                              stderr=subprocess.DEVNULL)
            with open(control, "w", encoding="ascii") as write:
                write.write("enable\n")
            with open(acknowledge, encoding="ascii") as read:
                self.assertIn("ack", read.readline())
            wait_until(lambda: program.gate() & GATE_SPANS, "the gate to go up")
            self.assertEqual(program.gate() & ~GATE_SPANS, 0, "the provider nopspan_batch is not recorded")
            self.assertEqual(program.ask("span by_perf 10"), "10")
            recorder.send_signal(signal.SIGINT)
            recorder.wait(harness.PATIENCE_S)
            program.wait_for_gate(lambda gate: gate == 0, "the gate at zero when perf has ended")
            lines = self.perf("script", "-i", data, "-F", "pid,event,trace").splitlines()
        mine = [line for line in lines if line.split()[:1] == [str(program.pid)]]
        self.assertEqual(len(mine), 10, "\n".join(lines))
        # As numbers, because perf prints no strings of SDT events. arg5 is the status, arg3 the duration.
        self.assertRegex(mine[0], r"arg3=\d+ .*arg5=0 ")


if __name__ == "__main__":
    harness.run_in_tracefs()
    # The kernel's events are machine-wide.
    _perf = harness.hold_lock("/run/lock/nopspan-perf") if os.geteuid() == 0 else None
    harness.main("perf", "unshare", own_processes=False)
