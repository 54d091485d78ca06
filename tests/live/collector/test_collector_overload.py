# SPDX-License-Identifier: Apache-2.0
"""Programs that are faster than the collector, and a collector that is stopped. The programs continue, and each of
their entries is delivered or counted as lost."""

import contextlib
import os
import signal
import subprocess
import time

import harness
from collector import LOSSES, Collector, CollectorTest
from waiting import wait_until
from harness import LONG, NOPSPAN, PATIENCE_S, Counting, Program, text_of

ENTRIES = 1_000_000 if LONG else 100_000
STANDSTILL_S = 10 if LONG else 1


def state_of(pid):
    """"" if the process is gone."""
    return text_of("/proc/%d/stat" % pid).rpartition(") ")[2][:1]


@contextlib.contextmanager
def standing_still(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: state_of(pid) == "T", "process %d to stand still" % pid)
        yield
        assert state_of(pid) == "T"
    finally:
        os.kill(pid, signal.SIGCONT)


class OverloadTest(CollectorTest):
    def assert_adds_up(self, ledger):
        """Each row closes, and the total is the sum of all rows."""
        self.assert_balanced(ledger)
        rows = (ledger["others"], *ledger["processes"])
        for name in ("emitted", "delivered", "filtered", "lost", *LOSSES):
            self.assertEqual(ledger["total"][name], sum(row[name] for row in rows), name)

    def assert_all_is_told(self, counts, entries):
        """Each entry is delivered, or lost because there was no room. No other loss may happen here."""
        self.assertEqual(counts["emitted"], entries, counts)
        self.assertEqual(counts["delivered"] + counts["ring_full"], entries, counts)
        self.assertEqual(counts["held_by_killed"], 0)


class Overload(OverloadTest):
    def check(self, threads):
        with Collector("--count", "--buffer", "64K") as tracer:
            with contextlib.ExitStack() as ended:
                programs = [ended.enter_context(Counting(self.temporary_folder(), threads=threads)) for _ in range(2)]
                for program in programs:
                    program.ask("start")
                for program in programs:
                    wait_until(lambda program=program: program.entries() > ENTRIES, "many spans")
                    self.assert_balanced(tracer.ledger_now())  # also while it runs
                made = {program.pid: int(program.ask("stop")) for program in programs}
            ledger = tracer.stop()
        for pid, entries in made.items():
            self.assert_all_is_told(tracer.counts(pid), entries)
        self.assertGreater(ledger["total"]["ring_full"], 0)
        self.assert_adds_up(ledger)

    def test_ledgers_close_to_the_entry(self):
        for threads in (1, 4):
            with self.subTest(threads=threads):
                self.check(threads)


class Duration(OverloadTest):
    def test_ends_while_programs_are_faster(self):
        for command in (["record", "--force", "/dev/null"], ["trace", "--limit", "0"]):
            with self.subTest(command), Counting(self.temporary_folder(), threads=4) as program:
                recorder = subprocess.Popen([NOPSPAN, *command, "--pid", str(program.pid), "--duration", "1s"],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    program.ask("start")
                    self.assertEqual(recorder.wait(PATIENCE_S), 0)
                finally:
                    program.ask("stop")
                    recorder.wait(PATIENCE_S)


class StandingStill(OverloadTest):
    def test_programs_do_their_work_meanwhile(self):
        for which in (Collector.tracer, lambda command: command.pid):
            with self.subTest(which):
                self.check(which)

    def check(self, which):
        with Collector("--brief", "--buffer", "256K") as tracer:
            with Program("traced") as program:
                program.ask("span before 10")
                made = 10
                with standing_still(which(tracer)):
                    # The program answers when it has made all of them.
                    end = time.monotonic() + STANDSTILL_S
                    while made < 20_000 or time.monotonic() < end:
                        program.ask("span meanwhile 1000")
                        made += 1000
                program.ask("span after 10")
                made += 10
            ledger = tracer.stop()
            counts = tracer.counts(program.pid)
            self.assert_all_is_told(counts, made)
            self.assertGreater(counts["ring_full"], 0)
            self.assert_adds_up(ledger)
            rows = tracer.sequences(program.pid)
            self.assertEqual(len(rows), counts["delivered"])
            self.assert_nothing_twice(rows)


class FarBehind(OverloadTest):
    """A slow command, so that the collector lags behind its buffer."""

    @staticmethod
    def collector(*programs):
        pids = ",".join(str(program.pid) for program in programs)
        return Collector("--brief", "--slow", 20, "--buffer", "256M", "--max-age", "50ms", "--pid", pids, binary=None)

    def check_one_that_is_gone(self, end):
        program = Counting(self.temporary_folder(), threads=2)
        with self.collector(program) as tracer:
            with standing_still(tracer.tracer()):
                program.ask("start")
                wait_until(lambda: program.entries() > 20_000, "many spans")
                end(program)
            made = program.entries()
            tracer.wait_while_it_runs(lambda: len(tracer.lines) > made, "what lies in the buffer")
            ledger = tracer.stop()
        self.assert_adds_up(ledger)
        self.assert_nothing_lost(tracer.counts(program.pid))
        self.assert_nothing_twice(tracer.sequences(program.pid))
        return made, tracer.counts(program.pid)["emitted"]

    def test_what_a_program_made_that_has_ended_is_its_own(self):
        def end(program):
            program.ask("stop")
            program.__exit__(None)
        made, emitted = self.check_one_that_is_gone(end)
        self.assertEqual(emitted, made)

    def test_what_a_program_made_that_was_killed_is_its_own(self):
        made, emitted = self.check_one_that_is_gone(Counting.kill)
        # Each thread may have made one more span than it has counted.
        self.assertTrue(made <= emitted <= made + 2, (made, emitted))

    def test_what_is_fetched_ahead_of_the_buffer_is_no_gap_for_good(self):
        with Program("traced") as program, Counting(self.temporary_folder()) as other:
            with self.collector(program, other) as tracer:
                program.ask("begin open")
                with standing_still(tracer.tracer()):
                    other.ask("start")
                    wait_until(lambda: other.entries() > 40_000, "many spans")
                    others = int(other.ask("stop"))
                made = 1
                # Parts of the program's batch are fetched while its earlier batches still wait in the ring buffer.
                while len(tracer.lines) < others:
                    program.ask("span inner 40")
                    made += 40
                    time.sleep(0.01)  # so that each batch is fetched once or twice
                program.ask("end")
                tracer.wait_while_it_runs(lambda: len(tracer.lines) >= others + made, "what lies in the buffer")
                tracer.stop()
        counts = tracer.counts(program.pid)
        self.assertEqual((counts["emitted"], counts["delivered"]), (made, made), counts)
        self.assert_nothing_twice(tracer.sequences(program.pid))


if __name__ == "__main__":
    harness.main()
