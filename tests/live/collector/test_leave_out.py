# SPDX-License-Identifier: Apache-2.0
"""--leave-out: nothing of a tracer is in the memory of a process while it is named, so a checkpoint of it can run."""

import contextlib
import json
import os

import harness
from collector import Collector, CollectorTest
from harness import LIBRARY, Program, nopspan
from waiting import wait_until

LOST_ITS_PROBES = "had lost its probes, as after the restore of a checkpoint. It is traced from now on"


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
        self.assertNotIn(LOST_ITS_PROBES, "\n".join(tracer.said))

    def test_from_the_start_with_its_children(self):
        self.name("pid %d" % self.left.pid)
        with Collector("--leave-out", self.path) as tracer:
            tracer.wait_until_it_sees(self.other)
            child = int(self.left.ask("fork"))
            for pid in (self.left.pid, child):
                self.assertFalse(is_attached(pid))
            tracer.stop()
        self.left.ask("reap")

    def test_processes_that_are_restored_meanwhile_are_attached_to_again(self):
        with Collector() as tracer:
            with contextlib.ExitStack() as running:
                restored = [running.enter_context(Program("traced_static")) for _ in range(10)]
                for program in restored:
                    tracer.wait_until_it_sees(program)
                for program in restored:
                    self.assertEqual(program.ask("restore"), "moved")
                    self.assertEqual(program.ask("span restored.unseen"), "0")
                for program in restored:
                    program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised again")
                    self.assertEqual(program.ask("span restored.seen"), "1")
                for program in restored:
                    tracer.wait_for_names(program.pid, {"restored.seen": 1})
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        for program in restored:
            self.assert_nothing_lost(tracer.counts(program.pid))
            self.assertNotIn("restored.unseen", tracer.names(program.pid))
            self.assertEqual([line for line in tracer.said if "process %d " % program.pid in line],
                             ["nopspan: process %d (traced_static) %s" % (program.pid, LOST_ITS_PROBES)])

    def test_a_process_whose_gate_cannot_be_raised_is_named_once(self):
        with Collector() as tracer:
            with Program("traced_static") as restored:
                tracer.wait_until_it_sees(restored)
                self.assertEqual(restored.ask("restore writable"), "moved")
                wait_until(lambda: "its gate is down" in "\n".join(tracer.said), "the process to be named")
                self.left.ask("span left.seen 5")
                tracer.wait_for_names(self.left.pid, {"left.seen": 5})
            ledger = tracer.stop()
        self.assertEqual(["process %d" % restored.pid in line for line in tracer.said if "(traced_static)" in line], [True])
        self.assertIn(restored.pid, [one["pid"] for one in ledger["unattached"]], ledger)

    def test_a_file_that_is_not_understood_is_refused(self):
        self.name("pid 1", "4711")
        done = nopspan("record", "--leave-out", self.path, "--binary", LIBRARY, os.path.join(self.temporary_folder(), "x"))
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertIn('%s:2: "4711" is not "pid NUMBER" or "cgroup NAME"' % self.path, done.stderr)


if __name__ == "__main__":
    harness.main()
