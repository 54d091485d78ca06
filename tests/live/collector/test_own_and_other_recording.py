# SPDX-License-Identifier: Apache-2.0
"""A program that records itself (nopspan::recording), while `nopspan record` records it too: both recordings have the
same entries, field by field."""

import os

import harness
import recording
from harness import NOPSPAN, Program, Test, program_path, wait_until
from test_record import Record, entries_so_far

# Each recorder samples the offset between the two clocks itself.
MOST_OFFSET_NS = 1_000_000


def comparable(entry):
    """An entry without its start. Only a program that records itself names its instance."""
    fields = {name: value for name, value in entry.fields.items() if name != "start_ns"}
    process = {name: value for name, value in entry.process.items() if name not in ("attached_ns", "instance")}
    return repr((sorted(process.items()), entry.thread_id, entry.sequence_id, entry.sequence, sorted(fields.items())))


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
        for kind in recording.ENTRY_KINDS:
            mine, others = (sorted((comparable(entry), entry.fields["start_ns"]) for entry in all_of_it if entry.kind == kind)
                            for all_of_it in (ours, theirs))
            self.assertEqual([entry for entry, _ in mine], [entry for entry, _ in others])
            for (entry, a), (_, b) in zip(mine, others):
                self.assertLess(abs(a - b), MOST_OFFSET_NS, entry)
        own_total, other_total = ({name: count for name, count in recording.ledger(path)["total"].items()
                                   if count and name not in ("threads_at_attach", "balanced")} for path in (own, other))
        self.assertEqual(own_total, other_total)


if __name__ == "__main__":
    if not os.path.exists(NOPSPAN) or not os.path.exists(program_path("recorded")):
        harness.ability.unable("nopspan or nopspan::recording is not built")
    harness.main()
