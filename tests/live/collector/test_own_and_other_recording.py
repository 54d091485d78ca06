# SPDX-License-Identifier: Apache-2.0
"""A program that records itself (nopspan::recording), while `nopspan record` records it too: both recordings have the
same entries, field by field."""

import os

import harness
import recording
from harness import NOPSPAN, Program, Test, program_path, wait_until
from test_record import Record, entries_so_far

# Each recorder samples the offset between the two clocks itself.
TIMES = ("start_time_unix_nano", "end_time_unix_nano", "time_unix_nano")
MOST_OFFSET_NS = 1_000_000


def fields(message):
    """A message without its times, as something that can be compared and printed. Its sequence is compared by itself,
    because the chunks of the recording decide whether a message or its scope has it."""
    if not isinstance(message, recording.Message):
        return message
    plain = {name: [fields(value) for value in values] for name, values in message.items() if name not in TIMES}
    plain["attributes"] = sorted((key, repr(value)) for key, value in message.attributes.items() if key != "nopspan.sequence")
    return plain


def comparable(entry):
    return repr((entry.resource, fields(entry.scope), fields(entry.message), entry.sequence))


def times(message):
    if not isinstance(message, recording.Message):
        return []
    own = [int(value) for name in TIMES for value in message.get(name, [])]
    return own + [time for name, values in sorted(message.items()) if name not in TIMES for value in values for time in times(value)]


class SameEntries(Test):
    def test_both_recordings_have_the_same_fields(self):
        folder = self.temporary_folder()
        own, other = os.path.join(folder, "own.rec"), os.path.join(folder, "other.rec")
        # The tracer is first, so that the program's gate is raised when it is loaded.
        with Record(other, "--binary", program_path("recorded")) as recorder:
            recorder.wait_until_up()
            with Program("recorded", env={"NOPSPAN_CAPTURE_CONTENT": "1"}) as program:
                self.assertEqual(program.ask("open " + own), "")
                for _ in range(3):
                    program.ask("everything")
                # A process that ends before the collector has looked at it is known by its pid only.
                wait_until(lambda: entries_so_far(other), "an entry in the recording of nopspan record")
                self.assertEqual(program.ask("close"), "complete")
        ours, theirs = recording.all_entries(own), recording.all_entries(other)
        self.assertGreater(len(ours), 100)
        self.assertTrue(any(entry.sequence for entry in ours))
        for kind in ("traces", "logs", "metrics", "parts"):
            mine, others = ([entry for entry in all_of_it if entry.kind == kind] for all_of_it in (ours, theirs))
            self.assertEqual(len(mine), len(others), kind)
            self.assertEqual(sorted(map(comparable, mine)), sorted(map(comparable, others)))
            for a, b in zip(sorted(times(e.message) for e in mine), sorted(times(e.message) for e in others)):
                self.assertEqual(len(a), len(b))
                self.assertTrue(all(abs(x - y) < MOST_OFFSET_NS for x, y in zip(a, b)), (a, b))
        counts = [recording.ledger(path)["total"] for path in (own, other)]
        for total in counts:
            total.pop("threads_at_attach")
        self.assertEqual(*counts)


if __name__ == "__main__":
    if not os.path.exists(NOPSPAN) or not os.path.exists(program_path("recorded")):
        harness.ability.unable("nopspan or nopspan::recording is not built")
    harness.main("protoc")
