# SPDX-License-Identifier: Apache-2.0
"""--leave-out: nothing of a tracer is in the memory of a process while it is named, so a checkpoint of it can run."""

import json
import os

import harness
from collector import Collector, CollectorTest
from harness import LIBRARY, Program, nopspan
from waiting import wait_until


def is_attached(pid):
    process, = json.loads(nopspan("ps", "--json", pid).stdout)["processes"]
    copy, = process["copies"]
    return copy["attached"]


class LeaveOut(CollectorTest):
    def setUp(self):
        self.path = os.path.join(self.temporary_folder(), "leave-out")
        self.left, self.other = (self.enterContext(Program("traced")) for _ in range(2))

    def name(self, *lines):
        with open(self.path, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)

    def wait_until_left_out(self):
        wait_until(lambda: not is_attached(self.left.pid), "nothing to be attached")
        self.assertEqual(self.left.gate(), 0)

    def test_while_a_running_tracer_reads_its_name(self):
        with Collector("--leave-out", self.path) as tracer:
            for program in (self.left, self.other):
                tracer.wait_until_it_sees(program)
                self.assertTrue(is_attached(program.pid))
            self.assertIn("attached: do not checkpoint now: %d (traced)" % self.left.pid, nopspan("ps", self.left.pid).stderr)
            self.assertIn("attached: do not checkpoint now", nopspan("doctor", self.left.pid).stdout)
            self.left.ask("begin left.open")
            self.left.ask("span left.held 5")
            self.name("# a checkpoint", "pid %d" % self.left.pid)
            self.wait_until_left_out()
            self.assertNotIn("do not checkpoint", nopspan("ps", self.left.pid).stderr)
            self.left.ask("span left.unseen 5")
            self.assertTrue(is_attached(self.other.pid))
            self.other.ask("span other.seen 5")
            tracer.wait_for_names(self.left.pid, {"left.held": 5})
            with Program("traced") as new:
                tracer.wait_until_it_sees(new)
            self.name()
            tracer.wait_until_it_sees(self.left)
            self.left.ask("end")
            tracer.wait_for_names(self.other.pid, {"other.seen": 5})
            ledger = tracer.stop()
        self.assertNotIn("left.unseen", tracer.names(self.left.pid))
        self.assert_balanced(ledger)
        for program in (self.left, self.other):
            self.assert_nothing_lost(tracer.counts(program.pid))
        self.assertIn("process %d (traced) is left out: nothing of nopspan is attached to it" % self.left.pid,
                      "\n".join(tracer.said))

    def test_from_the_start_with_its_children(self):
        self.name("pid %d" % self.left.pid)
        with Collector("--leave-out", self.path) as tracer:
            tracer.wait_until_it_sees(self.other)
            child = int(self.left.ask("fork"))
            for pid in (self.left.pid, child):
                self.assertFalse(is_attached(pid))
            tracer.stop()
        self.left.ask("reap")

    def test_a_file_that_is_not_understood_is_refused(self):
        self.name("pid 1", "4711")
        done = nopspan("record", "--leave-out", self.path, "--binary", LIBRARY, os.path.join(self.temporary_folder(), "x"))
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertIn('%s:2: "4711" is not "pid NUMBER" or "cgroup NAME"' % self.path, done.stderr)


if __name__ == "__main__":
    harness.main()
