# SPDX-License-Identifier: Apache-2.0
"""A process may pass anything to the batch site. The collector must survive it with bounded memory, and its results for
other processes must not change."""

import contextlib
import os
import re

import harness
from collector import Collector, CollectorTest
from harness import Program, nopspan, program_path
from hostile import NOBODY, as_user
from test_record import Record
from test_trace import Trace

STATIC = program_path("hostile")


def most_memory(command):
    """The largest resident sizes that a command and its tracer had, added up, in bytes."""
    return sum(int(re.search(r"VmHWM:\s*(\d+)", harness.text_of(f"/proc/{pid}/status"))[1]) * 1024
               for pid in (command.pid, command.tracer()))


class Hostile(CollectorTest):
    def attacks(self, *commands, options=()):
        """Runs these commands of a hostile program under a collector. Returns the collector and the program's
        counts."""
        with Collector("--max-age", "100ms", *options, binary=STATIC) as tracer:
            with Program("hostile") as program:
                program.ask("good 3")
                for command in commands:
                    program.ask(command)
                program.ask("good 4")
                # At its end, a collector delivers for less than a second.
                tracer.wait_while_it_runs(lambda: tracer.names(program.pid).get("hostile.good") == 7, "what is good")
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        self.assertEqual(tracer.names(program.pid)["hostile.good"], 7)
        return tracer, tracer.counts(program.pid)

    def test_wild_pointers_are_counted_as_unreadable(self):
        _, counts = self.attacks("wild_pointers")
        # Three entries with each of six invalid headers, and six times the same three entries at invalid addresses.
        self.assertEqual((counts["unreadable"], counts["malformed"]), (6 * 3 + 3, 0))

    def test_entries_on_an_absent_page_are_counted_as_unreadable(self):
        tracer, counts = self.attacks("absent 20")
        self.assertEqual((counts["unreadable"], counts["malformed"]), (20, 0))
        self.assertNotIn("hostile.absent", tracer.names())

    def test_wrong_sizes_are_survived(self):
        _, counts = self.attacks("wrong_sizes")
        self.assertGreater(counts["malformed"], 0)
        self.assertGreater(counts["too_large"], 0)

    def test_endless_streams_are_bounded(self):
        _, counts = self.attacks("endless_streams 5000", options=("--buffer", "64M"))
        # Plus seven valid ones, and a span by the library itself.
        self.assertEqual((counts["emitted"], counts["delivered"]), (5_008, 5_008))

    def test_wild_sequences_are_not_believed(self):
        _, counts = self.attacks("wild_sequences")
        self.assertLess(counts["emitted"], 1 << 40)

    def test_steps_with_members_that_nobody_knows_are_bounded(self):
        _, counts = self.attacks("steps 3000", options=("--buffer", "256M"))
        self.assertEqual(counts["malformed"], 0)
        with Program("hostile") as program, Program("steps") as engine:
            # An attach to the file of another test would mark the requests as partial.
            pids = ("--pid", program.pid, "--pid", engine.pid)
            with Trace("--json", "--memory", "4M", "--buffer", "64M", *pids) as trace:
                program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
                engine.ask("begin 10")
                engine.ask("step 5")
                program.ask("good 3")
                program.ask("steps 3000")
                program.ask("endless_step 1000")  # half a million keys, 12 MB
                engine.ask("step 5")
                engine.ask("end")
                trace.wait_while_it_runs(lambda: len(trace.traces(engine.pid)) == 10, "the requests of the engine")
                self.assertLess(most_memory(trace), 200 << 20)  # the ring buffer is mapped twice
                trace.stop()
        for shown in trace.traces(engine.pid):
            self.assertEqual({linked["name"]: linked["count"] for linked in shown["linked"]},
                             {"engine.step": 10, "llama.gpu": 10})

    def test_a_step_without_end_is_bounded_in_all_commands(self):
        path = os.path.join(self.temporary_folder(), "steps.rec")
        with Record(path, "--buffer", "64M") as record:
            with Program("hostile") as program:
                program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
                program.ask("endless_step 1000")
            self.assertLess(most_memory(record), 300 << 20)
            record.stop()
        for command in (["trace", "--memory", "4M"], ["top", "--plain"], ["hist", "--of", "step-tokens"], ["replay"]):
            with self.subTest(command[0]):
                source = [path] if command[0] == "replay" else ["--from", path]
                self.assertNotEqual(nopspan(*command, *source, "--json", check=True).stdout, "")

    def test_lists_of_threads_that_lead_nowhere_are_survived(self):
        for attack in ("list_without_end", "list_to_itself", "wild_list"):
            with self.subTest(attack):
                with Collector("--max-age", "100ms", binary=STATIC) as tracer:
                    with Program("hostile") as program, Program("traced_static") as other:
                        program.ask(attack)
                        tracer.wait_until_it_sees(other)
                        other.ask("begin open")
                        other.ask("span fetched")
                        tracer.wait_for_names(other.pid, {"fetched": 1})
                    self.assertLess(most_memory(tracer), 100 << 20)
                    ledger = tracer.stop()
                self.assert_balanced(ledger)

    def test_what_it_claims_to_hold_does_not_delay_the_end(self):
        with Collector("--count", "--max-age", "1h", binary=STATIC) as tracer:
            with Program("hostile") as program:
                program.ask("heavy_list 16000")
                ledger = tracer.stop()
        self.assert_balanced(ledger)
        # 8 GiB of entries would be 70 million entries. How many are read in time depends on the machine.
        emitted = tracer.counts(program.pid)["emitted"]
        self.assertGreater(emitted, 0)
        self.assertLess(emitted, 10_000_000)

    def test_what_processes_claim_to_hold_does_not_displace_what_another_one_holds(self):
        with contextlib.ExitStack() as stack:
            hostile = [stack.enter_context(as_user(NOBODY, program_path("hostile"))) for _ in range(6)]
            for program in hostile:
                self.assertEqual(program.stdout.readline()[:5], "ready")
            with Collector("--count", "--max-age", "1h", binary=program_path("traced_static")) as tracer:
                with Program("traced_static") as victim:
                    victim.ask("begin open")
                    for _ in range(50):
                        victim.ask("span held")
                    for program in hostile:
                        program.stdin.write("heavy_list 1000\n")
                        program.stdin.flush()
                        self.assertEqual(program.stdout.readline(), "0\n")
                    tracer.stop()
        self.assertEqual(tracer.counts(victim.pid)["delivered"], 50)
        self.assert_nothing_lost(tracer.counts(victim.pid))

    def test_a_process_with_more_threads_than_are_read_is_named(self):
        with Collector("--count", "--max-age", "1h", binary=STATIC) as tracer:
            with Program("hostile") as program:
                program.ask("heavy_list 16385")
                ledger = tracer.stop()
        self.assert_balanced(ledger)
        row, = [row for row in ledger["unattached"] if row["pid"] == program.pid]
        self.assertIn("more than 16384 threads", row["why"])
        self.assertEqual("\n".join(tracer.said).count("more than 16384 threads"), 1)

    def test_what_a_living_thread_has_thrown_away_is_counted(self):
        with Collector("--max-age", "1h", binary=STATIC) as tracer:
            with Program("hostile") as program:
                program.ask("discarding_list")
                ledger = tracer.stop()
        self.assert_balanced(ledger)
        self.assertEqual(tracer.counts(program.pid)["discarded"], 5)

    def test_other_processes_data_is_as_without_it(self):
        path = os.path.join(self.temporary_folder(), "ends")
        with Collector("--max-age", "100ms", "--buffer", "64M") as tracer:
            with Program("hostile") as program, Program("workload") as workload:
                program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
                for command in ("wild_pointers", "wrong_sizes", "garbage 500", "endless_streams 5000", "wild_sequences",
                                "amplified", "list_without_end"):
                    program.ask(command)
                self.assertEqual(workload.ask("run " + path), "done")
                program.ask("garbage 500")
            self.assertLess(most_memory(tracer), 250 << 20)  # the ring buffer is mapped twice
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        ends = {end["span_id"] for end in harness.workload_ends(self, path)}
        spans = {row["span_id"] for row in tracer.entries(workload.pid, "span")}
        self.assertEqual(ends - spans, set())
        self.assert_nothing_lost(tracer.counts(workload.pid))


if __name__ == "__main__":
    harness.main()
