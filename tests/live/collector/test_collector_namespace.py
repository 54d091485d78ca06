# SPDX-License-Identifier: Apache-2.0
"""Pid and time namespaces: a traced program in a namespace of its own, and a collector in one."""

import os
import signal
import sys
import time

import ability
import harness
from collector import Collector, CollectorTest
from followed import children_of
from harness import Counting, Program, nopspan, program_path, text_of, wait_until
from test_collector_faults import SEES_ENDS
from test_collector_overload import standing_still, state_of

INSIDE = "NOPSPAN_IN_PID_NAMESPACE"


def in_namespace(*command):
    return [*harness.own_mounts("--pid", "--fork", "--kill-child", "--mount-proc"), *command]


def child_of(pid):
    """The innermost process of a chain of wrappers, each with one child. The collector has children of its own."""
    children = children_of(pid) if text_of("/proc/%d/comm" % pid) != "collect\n" else []
    return child_of(children[0]) if children else pid


class WrappedCollector(Collector):
    """A collector that another command runs, in a pid namespace of its own unless the command is given."""

    def __init__(self, *options, command=None):
        super().__init__(*options, wrapper=command or in_namespace())

    def wait_until_up(self):
        super().wait_until_up()
        self.pid = child_of(self.pid)

    def stop(self, signal_number=signal.SIGINT):
        os.kill(self.pid, signal_number)
        self.end()
        return self.ledger()


class ProgramInANamespace(CollectorTest):
    def setUp(self):
        if INSIDE in os.environ:
            self.skipTest("seen from outside")

    def test_is_reported_by_its_pid_outside(self):
        with Collector("--max-age", "200ms") as tracer:
            with Program("traced", command=in_namespace(program_path("traced"))) as program:
                pid = child_of(program.process.pid)
                self.assertNotEqual(program.pid, pid)
                program.ask("begin open")
                program.ask("span fetched 3")
                tracer.wait_for_names(pid, {"fetched": 3})
                program.ask("end")
            tracer.stop()
        self.assertEqual(tracer.names(pid), {"fetched": 3, "open": 1})
        self.assert_nothing_lost(tracer.counts(pid))
        self.assertEqual(tracer.counts(pid)["namespace_pid"], program.pid)

    def test_is_looked_at_when_it_is_killed_though_its_thread_was_there_before(self):
        with Program("traced", command=in_namespace(program_path("traced"))) as program:
            pid = child_of(program.process.pid)
            with Collector() as before:
                program.ask("begin open")
                with Collector("--max-age", "1h", "--pid", pid) as tracer:
                    program.ask("span held 4")
                    os.kill(pid, 9)
                    wait_until(lambda: not os.path.exists("/proc/%d" % pid), "its end")
                    tracer.stop()
                before.stop()
            program.kill()
        if SEES_ENDS:
            self.assertEqual((tracer.names(pid), before.names(pid)), ({"held": 4}, {"held": 4}))

    def test_takes_no_room_from_others_if_it_has_no_pid(self):
        with WrappedCollector("--buffer", "64K") as tracer, Program("traced") as outside:
            there = ["nsenter", "--target", str(tracer.pid), "--pid", program_path("traced")]
            with Program("traced", command=there) as program:
                program.ask("span before 1")
                with standing_still(tracer.tracer()):
                    for _ in range(200):
                        outside.ask("thread_span outside")
                    for _ in range(5):
                        program.ask("thread_span inside")
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        self.assertEqual(tracer.names(program.pid), {"before": 1, "inside": 5})
        self.assertEqual((ledger["total"]["emitted"], ledger["total"]["lost"]), (6, 0))


class CollectorInANamespace(CollectorTest):
    """Runs this file again in a pid namespace."""

    def setUp(self):
        if INSIDE not in os.environ:
            self.skipTest("run inside")

    def test_delivers_all_and_closes(self):
        with Collector("--count") as tracer:
            with Counting(self.temporary_folder(), pause_us=100) as program:
                program.ask("start")
                wait_until(lambda: program.entries() > 2000, "some thousand spans")
                entries = int(program.ask("stop"))
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        self.assertEqual(tracer.counts(program.pid)["delivered"], entries)
        self.assert_nothing_lost(tracer.counts(program.pid))

    def nested(self):
        """A program in a namespace below, and its pid here."""
        program = Program("traced", command=in_namespace(program_path("traced")))
        pid = child_of(program.process.pid)
        self.assertNotEqual(program.pid, pid)
        return program, pid

    def test_traces_what_runs_in_a_namespace_below(self):
        before, before_pid = self.nested()
        with before, Collector("--max-age", "200ms") as tracer:
            after, after_pid = self.nested()
            with after:
                for program, pid in ((before, before_pid), (after, after_pid)):
                    program.ask("begin open")
                    program.ask("span fetched 3")
                    tracer.wait_for_names(pid, {"fetched": 3})
                    program.ask("end")
                    program.ask("thread_span thread")
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        for program, pid in ((before, before_pid), (after, after_pid)):
            self.assertEqual(tracer.names(pid), {"fetched": 3, "open": 1, "thread": 1})
            self.assert_nothing_lost(tracer.counts(pid))
            self.assertEqual(tracer.counts(pid)["namespace_pid"], program.pid)
        self.assertEqual(tracer.names(), tracer.names(before_pid) + tracer.names(after_pid))

    def test_traces_only_one_process_below(self):
        program, pid = self.nested()
        other, other_pid = self.nested()
        with program, other, Collector("--pid", pid, binary=None) as tracer:
            program.ask("span wanted 3")
            other.ask("span other")
            tracer.wait_for_names(pid, {"wanted": 3})
            tracer.stop()
        self.assertEqual((tracer.names(pid), tracer.names(other_pid)), ({"wanted": 3}, {}))

    def test_reads_threads_from_before_the_attach_that_are_killed(self):
        for inside in (False, True):
            with self.subTest(inside=inside):
                program = self.nested()[0] if inside else Program("traced")
                pid = child_of(program.process.pid) if inside else program.pid
                with program:
                    with Collector() as before:
                        program.ask("begin open")
                        with Collector("--max-age", "1h") as tracer:
                            program.ask("span held 4")
                            os.kill(pid, 9)
                            wait_until(lambda: state_of(pid) in ("", "Z", "X"), "its end")
                            tracer.stop()
                        before.stop()
                    program.kill()
                if SEES_ENDS:
                    self.assertEqual(tracer.names(pid), {"held": 4})

    def test_counts_losses_of_a_process_of_which_nothing_arrived(self):
        with Collector("--count", "--buffer", "64K") as tracer, Program("traced") as filler:
            with standing_still(tracer.tracer()):
                # A batch for each span, so that not even a small one has room afterwards.
                for _ in range(1000):
                    filler.ask("thread_span filler")
                program, pid = self.nested()
                with program:
                    program.ask("thread_span lost_for_lack_of_room")
                    program.ask("thread_span lost_for_lack_of_room")
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        self.assertEqual((tracer.counts(pid)["emitted"], tracer.counts(pid)["ring_full"]), (2, 2))

    def test_names_and_counts_what_it_cannot_trace_without_btf(self):
        hidden = [*ability.own_mounts(), "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"]
        program, pid = self.nested()
        with program, Program("traced") as same:
            with WrappedCollector(command=hidden) as tracer:
                tracer.wait_until_it_says(r"process %d \(traced\) is not traced" % pid)
                program.ask("span below 3")
                program.ask("thread_span below")
                same.ask("span beside 2")
                tracer.wait_for_names(same.pid, {"beside": 2})
                wait_until(lambda: tracer.ledger_now()["total"]["missed"] >= 3, "its entries to be counted")
                ledger = tracer.stop()
            doctor = nopspan("doctor", pid, command=hidden)
        self.assert_balanced(ledger)
        self.assertEqual(tracer.names(), {"beside": 2})
        self.assertEqual((tracer.counts(pid)["delivered"], tracer.counts(pid)["missed"]), (0, 3))
        self.assertEqual(doctor.returncode, 1)
        self.assertIn("is in a pid namespace below this one", doctor.stdout)


def in_time_namespace(offset_s, *command):
    return ["unshare", "--time", "--monotonic", str(offset_s), "--fork", "--kill-child", *command]


class TimeNamespaces(CollectorTest):
    def setUp(self):
        if INSIDE in os.environ:
            self.skipTest("seen from outside")
        if not os.path.exists("/proc/self/timens_offsets"):
            self.skipTest("the kernel has no time namespaces")

    def check(self, offset_s, start=Collector):
        """A program with this offset, of which one span was open at the attach."""
        command = in_time_namespace(offset_s, program_path("traced")) if offset_s else None
        with Program("traced", command=command) as program, Program("traced") as tracing:
            pid = child_of(program.process.pid)
            with Collector() as keeps_the_gate_up:
                program.ask("begin early")
                # Attaches to other processes would mark spans that run meanwhile.
                with start("--max-age", "200ms", "--pid", str(pid), "--pid", str(tracing.pid)) as tracer:
                    program.ask("end")
                    tracing.ask("span here")
                    tracer.wait_for_names(pid, {"early": 1})
                    began = time.time_ns()
                    program.ask("span late")
                    program.ask("begin around")
                    program.ask("span fetched")
                    tracer.wait_for_names(pid, {"late": 1, "fetched": 1})
                    ended = time.time_ns()
                    program.ask("end")
                    tracer.stop()
                keeps_the_gate_up.stop()
        rows = {row["name"]: row for row in tracer.entries(pid)}
        for name in ("late", "fetched", "around"):
            self.assertTrue(began - 1000000 <= rows[name]["start_unix_ns"] <= ended, (began, rows[name], ended))
        self.assertEqual({name: row["before_attach"] for name, row in rows.items()},
                         {"early": True, "late": False, "fetched": False, "around": False})
        self.assert_nothing_lost(tracer.counts(pid))

    def test_spans_of_a_process_in_one_have_the_right_time(self):
        for offset_s in (100000, -1):
            with self.subTest(offset_s=offset_s):
                self.check(offset_s)

    def test_spans_have_the_right_time_if_the_collector_is_in_one(self):
        for offset_s in (0, 100000):
            with self.subTest(offset_s=offset_s):
                self.check(offset_s, lambda *options: WrappedCollector(*options, command=in_time_namespace(5000)))


if __name__ == "__main__":
    if harness.is_among_own_processes() and INSIDE not in os.environ:
        status = os.spawnvpe(os.P_WAIT, "unshare", in_namespace(sys.executable, *sys.argv), {**os.environ, INSIDE: "1"})
        if status != 0:
            sys.exit(status)
    harness.main("unshare", "nsenter")
