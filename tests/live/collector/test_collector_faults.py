# SPDX-License-Identifier: Apache-2.0
"""The collector's ledger balances if programs are faster than the collector, if programs are killed, and if the collector
is killed. Nothing is delivered twice, and nothing is lost without a count."""

import contextlib
import os
import random
import time

import harness
from collector import Collector, CollectorTest
from harness import LONG, Counting, Program, program_path, wait_until
from test_collector_overload import standing_still

# Kernels on which the last buffer of a killed thread can be read.
SEES_ENDS = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 16)


class Faults(CollectorTest):
    def assert_streams_are_whole(self, rows):
        """The sequence of each thread begins at 0 and has no gap. Losses can only be at the end of a thread."""
        threads = {}
        for sequence_id, sequence in rows:
            threads.setdefault(sequence_id, set()).add(sequence)
        for sequences in threads.values():
            self.assertEqual(sequences, set(range(len(sequences))))


class Starved(Faults):
    """Threads that discard entries because the process has no room for them."""

    def check(self, times, *options, standstill=False):
        with Collector("--count", "--max-age", "1h", *options, binary=program_path("starved")) as tracer:
            with Program("starved") as program:
                with standing_still(tracer.tracer()) if standstill else contextlib.nullcontext():
                    entries = sum(int(program.ask("starved 7")) for _ in range(times))
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        counts = tracer.counts(program.pid)
        self.assertEqual((counts["emitted"], counts["discarded"]), (entries, entries), counts)

    def test_what_a_thread_threw_away_is_counted_when_another_has_its_header(self):
        self.check(20)

    def test_so_it_is_if_there_was_no_room_to_report_it(self):
        self.check(100, "--buffer", "4K", standstill=True)


class WithoutMemory(Faults):
    """Spans that the library cannot record have no sequence numbers."""

    def collector(self, *options):
        return Collector("--count", *options, binary=program_path("starved"))

    def check(self, tracer, program, spans):
        ledger = tracer.stop()
        self.assert_balanced(ledger)
        counts = tracer.counts(program.pid)
        self.assertEqual((counts["emitted"], counts["no_memory"]), (spans, spans), counts)
        self.assertEqual(ledger["total"]["lost"], spans)

    def test_they_are_in_the_ledger_of_each_collector_that_was_attached(self):
        with Program("starved") as program:
            with self.collector() as first:
                self.assertEqual(program.ask("limited 7"), "7")
                with self.collector() as second:
                    self.assertEqual(program.ask("limited 5"), "12")
                    self.check(second, program, 5)
                self.check(first, program, 12)

    def test_so_are_those_of_a_program_that_began_after_the_attach(self):
        with self.collector() as tracer, Program("starved") as program:
            program.wait_for_gate(lambda gate: gate, "the gate")
            self.assertEqual(program.ask("limited 7"), "7")
            self.check(tracer, program, 7)


class KilledPrograms(Faults):
    def killed(self, tracer, seed, **options):
        """A program that is killed at a random point of its work."""
        program = Counting(self.temporary_folder(), **options)
        program.ask("start")
        wait_until(lambda: program.entries() > 0, "its first span")
        time.sleep(random.Random(seed).uniform(0, 0.05))
        program.kill()
        return program

    def check_killed(self, tracer, program):
        counts = tracer.counts(program.pid)
        rows = tracer.sequences(program.pid)
        self.assert_nothing_twice(rows)
        self.assertEqual(counts["emitted"], counts["delivered"] + counts["ring_full"], counts)
        self.assertEqual(len(rows), counts["delivered"])
        # Every counted span was written. Each thread may have written one more, which is not counted yet.
        self.assertLessEqual(program.entries(), counts["emitted"] + counts["held_by_killed"])
        self.assertLessEqual(counts["emitted"], program.entries() + len(program.threads()))
        if SEES_ENDS:
            self.assertEqual(counts["held_by_killed"], 0)

    def test_all_that_they_wrote_is_delivered(self):
        with Collector("--brief", "--buffer", "64M") as tracer:
            programs = [self.killed(tracer, seed, threads=2, pause_us=(1, 20, 500)[seed % 3], depth=seed % 5)
                        for seed in range(30 if LONG else 12)]
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        for program in programs:
            self.check_killed(tracer, program)
            self.assertEqual(tracer.counts(program.pid)["ring_full"], 0)
            self.assert_streams_are_whole(tracer.sequences(program.pid))

    def test_all_is_delivered_or_counted_if_there_was_no_room(self):
        with Collector("--brief", "--buffer", "64K") as tracer:
            programs = [self.killed(tracer, seed, threads=1 + seed % 3) for seed in range(30 if LONG else 6)]
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        self.assertGreater(ledger["total"]["ring_full"], 0)
        for program in programs:
            self.check_killed(tracer, program)

    def test_what_an_idle_one_held_is_delivered(self):
        with Collector("--max-age", "1h") as tracer:
            program = Program("traced")
            program.ask("begin open")
            program.ask("span held 9")
            program.kill()
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        counts = tracer.counts(program.pid)
        if SEES_ENDS:
            self.assertEqual(tracer.names(program.pid), {"held": 9})
            self.assertEqual((counts["emitted"], counts["held_by_killed"]), (9, 0))

    def test_so_is_what_it_held_from_before_the_collector_knew_its_thread(self):
        with Collector() as before, Program("traced") as program:
            program.ask("begin open")
            with Collector("--max-age", "1h") as tracer:
                # The thread has announced itself to the other collector only.
                program.ask("span held 4")
                program.kill()
                tracer.stop()
            before.stop()
        if SEES_ENDS:
            self.assertEqual(tracer.names(program.pid), {"held": 4})
            self.assertEqual(before.names(program.pid), {"held": 4})


class KilledCollectors(Faults):
    def test_the_next_one_delivers_nothing_again(self):
        with Counting(self.temporary_folder(), pause_us=100) as program:
            program.ask("start")
            reported = []
            for seed in range(4):
                with Collector("--brief", "--max-age", "50ms") as tracer:
                    wait_until(lambda: len(tracer.lines) > 500, "some spans")
                    time.sleep(random.Random(seed).uniform(0, 0.1))
                    tracer.kill()
                reported += tracer.sequences(program.pid)
            with Collector("--brief") as last:
                wait_until(lambda: len(last.lines) > 500, "some spans")
                program.ask("stop")
                ledger = last.stop()
        self.assert_nothing_twice(reported + last.sequences(program.pid))
        self.assert_balanced(ledger)
        self.assert_nothing_lost(last.counts(program.pid))

    def test_nor_what_the_one_before_had_fetched(self):
        with Program("traced") as program:
            with Collector("--max-age", "50ms") as first:
                program.ask("begin open")
                program.ask("span early 5")
                first.wait_for_names(program.pid, {"early": 5})
                first.kill()
            with Collector("--max-age", "50ms") as second:
                program.ask("span late 2")
                second.wait_for_names(program.pid, {"late": 2})
                program.ask("end")
                ledger = second.stop()
        self.assertEqual(first.names(program.pid), {"early": 5})
        self.assertEqual(second.names(program.pid), {"late": 2, "open": 1})
        self.assert_balanced(ledger)

    def test_one_that_ends_early_closes_while_the_other_goes_on(self):
        with Collector("--count") as other:
            with Counting(self.temporary_folder(), pause_us=100) as program:
                program.ask("start")
                for _ in range(3):
                    with Collector("--brief") as one:
                        wait_until(lambda: len(one.lines) > 500, "some spans")
                        ledger = one.stop()
                    self.assert_balanced(ledger)
                    self.assert_nothing_lost(one.counts(program.pid))
                    self.assert_nothing_twice(one.sequences(program.pid))
                entries = int(program.ask("stop"))
            other.stop()
        self.assertEqual(other.counts(program.pid)["delivered"], entries)
        self.assert_nothing_lost(other.counts(program.pid))


if __name__ == "__main__":
    harness.main()
