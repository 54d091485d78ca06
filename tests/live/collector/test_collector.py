# SPDX-License-Identifier: Apache-2.0
"""The collector's source delivers to commands exactly what in-process handlers received in the same run."""

import os

import harness
from collector import Collector, CollectorTest
from harness import Counting, Program, wait_until

CANCELLED = 2
# Truncated, so no handler can be attached under this name.
CUT = "work.a_name_of_more_than_sixty_three_bytes_which_is_cut_so_t…"


class SameAsHandlers(CollectorTest):
    def test_batches_have_every_span_with_all_that_it_is(self):
        path = os.path.join(self.temporary_folder(), "ends")
        with Collector() as tracer:
            with Program("workload") as program:
                self.assertEqual(program.ask("run " + path), "done")
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        ends = harness.workload_ends(self, path)
        counts = tracer.counts(program.pid)
        self.assert_nothing_lost(counts)
        self.assert_nothing_twice(tracer.entries(program.pid))
        self.assertEqual(counts["emitted"], len(tracer.entries(program.pid)))
        spans = {span["span_id"]: span for span in tracer.entries(program.pid, "span") if span["name"] != CUT}
        # For a span with an exception, a handler receives both ends.
        expected = {end["span_id"]: end for end in ends}
        self.assertEqual(len(spans), len(expected))
        for span_id, end in expected.items():
            span = spans[span_id]
            same = ("name", "request_id", "parent_id", "root_id", "status", "flags", "duration_ns", "link_count")
            self.assertEqual({key: span[key] for key in same}, {key: end[key] for key in same})
            self.assertEqual(span.get("tracestate", ""), end["tracestate"])
            # A handler receives a span's own labels only, and a tracer receives inherited ones too.
            for key in ("model", "engine", "tenant"):
                if key in end:
                    self.assertEqual(span[key], end[key])
            if end["status"] != CANCELLED:  # a handler receives the reason of a cancellation, not an error type
                self.assertEqual(span.get("error_type", ""), end.get("error.type", end.get("type", "")))
            self.assertEqual(span.get("exception_kind", ""), end.get("kind", ""))
            self.assertEqual(span["comm"], "workload")


class IdleThreads(CollectorTest):
    def test_what_an_idle_thread_holds_is_fetched_once(self):
        with Collector("--max-age", "200ms") as tracer:
            with Program("traced") as program:
                program.ask("begin open")
                program.ask("span inner 5")
                tracer.wait_for_names(program.pid, {"inner": 5})
                program.ask("span later 3")
                program.ask("end")
                program.ask("span last")
                tracer.wait_for_names(program.pid, {"inner": 5, "later": 3, "open": 1, "last": 1})
            tracer.stop()
        self.assertEqual(tracer.names(program.pid), {"inner": 5, "later": 3, "open": 1, "last": 1})
        self.assert_nothing_twice(tracer.entries(program.pid))
        self.assertEqual(tracer.counts(program.pid)["emitted"], 10)
        self.assert_nothing_lost(tracer.counts(program.pid))

    def test_what_threads_hold_when_it_ends_is_fetched(self):
        with Program("traced") as program:
            with Collector("--max-age", "1h") as tracer:
                program.ask("begin open")
                program.ask("span held 7")
                tracer.stop()
            program.ask("end")
        self.assertEqual(tracer.names(program.pid), {"held": 7})
        self.assertEqual(tracer.counts(program.pid)["emitted"], 7)
        self.assert_balanced(tracer.ledger())

    def test_a_thread_that_goes_on_writing_is_fetched_from_too(self):
        with Collector("--max-age", "200ms") as tracer:
            with Program("traced") as program:
                program.ask("begin open")

                def fetched():
                    program.ask("span inner")
                    return tracer.names(program.pid)["inner"] >= 20
                wait_until(fetched, "spans below one that stays open")
                program.ask("end")
            tracer.stop()
        self.assert_nothing_twice(tracer.entries(program.pid))
        self.assert_nothing_lost(tracer.counts(program.pid))


class Filters(CollectorTest):
    def test_the_kernel_leaves_fast_requests_out_and_counts_them(self):
        with Collector("--slower-than", "1h") as tracer:
            # With the pause, a thread flushes when a request has ended, and not in its middle because the buffer is
            # full.
            with Counting(self.temporary_folder(), pause_us=200) as program:
                program.ask("start")
                wait_until(lambda: program.entries() > 5000, "some thousand spans")
                entries = int(program.ask("stop"))
            ledger = tracer.stop()
        counts = tracer.counts(program.pid)
        self.assertEqual(counts["emitted"], entries)
        self.assertGreater(counts["filtered"], entries // 2)
        self.assert_nothing_lost(counts)
        self.assert_balanced(ledger)

    def test_requests_with_errors_come_whole(self):
        with Collector("--errors") as tracer:
            with Program("traced") as program:
                for _ in range(3):
                    program.ask("span fine 10")
                program.ask("points")  # one of its tools fails
            tracer.stop()
        self.assertTrue({"llm.chat", "llm.step", "llm.tool"} <= set(tracer.names(program.pid)))
        self.assert_nothing_lost(tracer.counts(program.pid))

    def test_what_was_fetched_in_part_is_not_filtered_as_a_whole(self):
        # This request lasts longer than --max-age, so it is fetched in part. The filter would drop it when it ends.
        with Collector("--errors", "--max-age", "200ms") as tracer:
            with Program("traced") as program:
                program.ask("begin open")
                program.ask("span inner 5")
                tracer.wait_for_names(program.pid, {"inner": 5})
                program.ask("end")
                program.ask("span fine")
                tracer.wait_for_names(program.pid, {"open": 1})
            tracer.stop()
        self.assert_balanced(tracer.ledger())
        self.assert_nothing_lost(tracer.counts(program.pid))


if __name__ == "__main__":
    harness.main()
