# SPDX-License-Identifier: Apache-2.0
"""--sample takes the same requests on every host. Entries that the kernel filters take no room in the buffer."""

import base64
import re

import consistent_sampling
import harness
from collector import Collector, CollectorTest
from waiting import wait_until
from harness import Counting, Program

NOBODY = 1_000_000_000  # one request in this many


def trace_id_of(request_id):
    """The 16 bytes of an id in any of its forms (probes/README.md)."""
    if re.fullmatch("[A-Za-z0-9_-]{21}[AQgw]", request_id):
        return base64.urlsafe_b64decode(request_id + "==")
    if re.fullmatch("[0-9a-fA-F]{32}", request_id):
        return bytes.fromhex(request_id)
    value = 0x6c62272e07bb014262b821756295c58d
    for byte in request_id.encode():
        value = (value ^ byte) * (2**88 + 0x13b) % 2**128
    return value.to_bytes(16, "big")


def is_sampled(row, one_in):
    """Whether --sample takes it. All commands take the same requests, on every host."""
    request_id = row["request_id"]
    return not request_id or consistent_sampling.is_sampled(request_id, trace_id_of(request_id), one_in)


class Sample(CollectorTest):
    @staticmethod
    def make_entries(program):
        for number in range(20):
            program.ask("span single 20")
            program.ask("attach order-%d" % number)
            program.ask("span foreign 3")
            program.ask("detach")
            program.ask("begin outer")
            program.ask("span inner 5")
            program.ask("end")
            program.ask("points")  # includes gauges, which belong to no request

    def check(self, program, everything, sample, one_in):
        """Compares the entries that two finished collectors delivered."""
        def keys(rows):
            return sorted((row["sequence_id"], row["sequence"]) for row in rows)
        rows = everything.entries(program.pid)
        wanted = [row for row in rows if is_sampled(row, one_in)]
        self.assertTrue(0 < len(wanted) < len(rows))
        self.assertEqual(keys(sample.entries(program.pid)), keys(wanted))
        counts = sample.counts(program.pid)
        self.assertEqual((counts["emitted"], counts["delivered"], counts["filtered"]),
                         (len(rows), len(wanted), len(rows) - len(wanted)))
        self.assert_nothing_lost(counts)
        self.assert_balanced(sample.ledger())

    def test_is_of_the_same_requests_as_everywhere(self):
        for one_in in (2, 7):
            with self.subTest(one_in=one_in):
                with Collector() as everything, Collector("--sample", one_in) as sample:
                    with Program("traced") as program:
                        self.make_entries(program)
                self.check(program, everything, sample, one_in)

    def test_is_counted_from_the_beginning_of_a_program_that_ran_before(self):
        with Program("traced") as program:
            with Collector("--pid", program.pid, binary=None) as everything, \
                    Collector("--sample", 7, "--pid", program.pid, binary=None) as sample:
                self.make_entries(program)
            self.check(program, everything, sample, 7)

    def test_what_it_has_not_takes_no_room(self):
        with Collector("--count", "--buffer", "64K", "--sample", NOBODY) as tracer:
            with Counting(self.temporary_folder(), threads=2) as program:
                program.ask("start")
                wait_until(lambda: program.entries() > 100_000, "many spans")
                entries = int(program.ask("stop"))
            ledger = tracer.stop()
        counts = tracer.counts(program.pid)
        self.assertEqual((counts["emitted"], counts["filtered"]), (entries, entries), counts)
        self.assert_nothing_lost(counts)
        self.assert_balanced(ledger)

    def test_what_was_fetched_in_part_is_counted_once(self):
        with Collector("--sample", NOBODY, "--max-age", "200ms") as tracer:
            with Program("traced") as program:
                program.ask("begin open")
                program.ask("span inner 5")

                def filtered():
                    rows = tracer.ledger_now()["processes"]
                    return [row["filtered"] for row in rows if row["pid"] == program.pid] == [5]
                wait_until(filtered, "the spans to be fetched")
                program.ask("span inner 3")
                program.ask("end")
            ledger = tracer.stop()
        counts = tracer.counts(program.pid)
        self.assertEqual((counts["emitted"], counts["filtered"]), (9, 9), counts)
        self.assert_balanced(ledger)


if __name__ == "__main__":
    harness.main()
