# SPDX-License-Identifier: Apache-2.0
"""--cgroup of nopspan top, record and trace: the processes of a cgroup and of those below it, and no others."""

import json
import os
import signal
import subprocess
import sys

import harness
from cgroup import Cgroup
from collector import Collector, CollectorTest, Counting
from followed import wait_until
from harness import LIBRARY, NOPSPAN, PATIENCE_S, SOURCE, Program
from test_record import Record, nopspan
from test_trace import Trace, spans_of

sys.path.insert(0, os.path.join(SOURCE, "tests", "support"))
import recording


class CgroupOption(CollectorTest):
    def setUp(self):
        # The cgroup can be removed when the programs are gone: they end before it.
        self.group = self.enterContext(Cgroup(self, "nopspan-collector"))
        self.inside, self.outside = (self.enterContext(Program("traced")) for _ in range(2))
        self.group.put(self.inside.pid)

    def make_spans(self):
        for _ in range(10):  # the first ones of a process tell where it is
            self.inside.ask("span cgroup.inside 5")
            self.outside.ask("span cgroup.outside 6")

    def test_of_record(self):
        path = os.path.join(self.temporary_folder(), "spans.rec")
        with Record(path, "--binary", LIBRARY, "--cgroup", self.group.name):
            self.make_spans()
        lines = [json.loads(line) for line in nopspan("replay", path, "--spans").stdout.splitlines()]
        self.assertEqual([line["name"] for line in lines], ["cgroup.inside"] * 50)
        ledger = recording.ledger(path)
        self.assert_closes(ledger)
        self.assertEqual([(row["pid"], row["delivered"]) for row in ledger["processes"]], [(self.inside.pid, 50)])

    def test_of_top(self):
        top = subprocess.Popen([NOPSPAN, "--json", "top", "--binary", LIBRARY, "--cgroup", self.group.name, "--total",
                                "--interval", "100ms"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self.assertTrue(top.stdout.readline(), "a first table says that it is attached")
            self.make_spans()
            top.send_signal(signal.SIGINT)
            out, _ = top.communicate(timeout=PATIENCE_S)
        finally:
            top.kill()
            top.wait()
        last = json.loads(out.splitlines()[-1])
        self.assertEqual([(row["name"], row["total"]["spans"]) for row in last["rows"]], [("cgroup.inside", 50)])
        self.assertTrue(last["ledger"]["closes"])

    def test_of_trace_is_of_traces_with_a_span_there(self):
        with Trace("--json", "--cgroup", self.group.name) as trace:
            for program in (self.inside, self.outside):
                # One request of both, and one of its own.
                for request, name in ((os.getpid(), "both"), (program.pid, "alone")):
                    program.ask("attach order-%d" % request)
                    program.ask("span cgroup.%s 2" % name)
                    program.ask("detach")
        found = trace.traces(self.inside.pid, self.outside.pid)
        spans = sorted(sorted((span.pid, span.name) for span in spans_of(one).values()) for one in found)
        both = sorted((pid, "cgroup.both") for pid in (self.inside.pid, self.outside.pid) for _ in range(2))
        self.assertEqual(spans, sorted([both, [(self.inside.pid, "cgroup.alone")] * 2]))

    def test_follows_a_program_that_is_moved(self):
        with Collector("--cgroup", self.group.name) as tracer:
            self.make_spans()
            tracer.wait_for_names(self.inside.pid, {"cgroup.inside": 45})  # by then it is known where both are
            self.group.put(self.outside.pid)
            self.outside.ask("span cgroup.moved 7")
            tracer.wait_for_names(self.outside.pid, {"cgroup.moved": 7})
            self.make_spans()
            ledger = tracer.stop()
        names = tracer.names(self.outside.pid)
        self.assertEqual(names["cgroup.moved"], 7)
        self.assertGreaterEqual(names["cgroup.outside"], 60)  # and of those before the move what it still held
        self.assertEqual(tracer.names(self.inside.pid), {"cgroup.inside": 100})
        self.assert_closes(ledger)
        for program in (self.inside, self.outside):
            self.assert_nothing_lost(tracer.counts(program.pid))

    def test_has_a_whole_ledger_under_load(self):
        with Collector("--count", "--cgroup", self.group.name) as tracer:
            with Counting(self.temporary_folder(), pause_us=100) as wanted, \
                    Counting(self.temporary_folder(), pause_us=100) as other:
                self.group.put(wanted.pid)
                for program in (wanted, other):
                    program.ask("start")
                for program in (wanted, other):
                    wait_until(lambda program=program: program.entries() > 3000, "some thousand spans")
                entries = int(wanted.ask("stop"))
                other.ask("stop")
            ledger = tracer.stop()
        self.assertEqual([row["pid"] for row in ledger["processes"]], [wanted.pid])
        self.assertEqual(tracer.counts(wanted.pid)["delivered"], entries)
        self.assert_closes(ledger)


if __name__ == "__main__":
    harness.main("protoc")
