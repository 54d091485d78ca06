# SPDX-License-Identifier: Apache-2.0
"""Nobody reads the output of a command for a while: no span is lost because of that, and a signal or --duration
ends the command."""

import json
import os
import re
import signal
import subprocess
import time

import harness
import recording
from collector import CollectorTest
from harness import Counting, nopspan, wait_until
from hostile import Unread

SPANS = 50_000


def recorded(data):
    """The number of entries in the whole chunks so far."""
    entries = 0
    try:
        for chunk in recording.chunks(data):
            entries += chunk.entries
    except recording.Cut:
        pass
    return entries


class SlowReader(CollectorTest):
    def work(self, program, command, spans=SPANS):
        program.ask("start")
        wait_until(lambda: program.entries() > spans and command.is_full(), "a full pipe and many spans")

    def test_a_recording_that_is_read_late_has_all_spans(self):
        with Counting(self.temporary_folder(), pause_us=400) as program:
            with Unread("record", "-", "--buffer", "1M", "--pid", program.pid) as record:
                record.wait_until_it_says(b"Recording.")
                self.work(program, record)
                entries = int(program.ask("stop"))
                reader = record.read()
                wait_until(lambda: record.data and recorded(record.data) == entries, "all entries to be read")
                status, said = record.end(self)
                reader.join()
        self.assertEqual(status, 0, said)
        done = nopspan("replay", "-", "--json", input=record.data, text=False, check=True)
        row, = [row for row in json.loads(done.stdout)["ledger"]["processes"] if row["pid"] == program.pid]
        self.assertEqual((row["emitted"], row["delivered"], row["ring_full"]), (entries, entries, 0), row)

    def test_a_recording_that_nobody_reads_ends_and_is_counted(self):
        for signal_number, options in ((signal.SIGINT, ()), (signal.SIGTERM, ()), (None, ("--duration", "2s"))):
            with Counting(self.temporary_folder(), pause_us=400) as program:
                with Unread("record", "-", "--json", "--buffer", "1M", "--pid", program.pid, *options) as record:
                    record.wait_until_it_says(b"Recording.")
                    program.ask("start")
                    if signal_number:
                        wait_until(record.is_full, "a full pipe")
                    else:
                        time.sleep(1.9)
                    status, said = record.end(self, signal_number)
            self.assertEqual(status, 1, said)
            self.assertIn("too slow", said)
            summary = json.loads(said[said.index("{"):])
            row, = [row for row in summary["ledger"]["processes"] if row["pid"] == program.pid]
            self.assertEqual(row["ring_full"], 0, row)
            self.assertGreater(row["export_dropped"], 0, row)
            self.assertEqual(summary["dropped"], row["export_dropped"])
            self.assert_balanced(summary["ledger"])

    def test_traces_that_nobody_reads_lose_no_spans_in_the_ring(self):
        for command, together in ((("trace", "--json"), False), (("trace",), True), (("top", "--json", "--interval", "100ms"), False),
                                  (("hist", "--json", "--interval", "100ms"), False)):
            folder = self.temporary_folder()
            metrics = os.path.join(folder, "ledger.prom")
            with Counting(folder, pause_us=400) as program:
                with Unread(*command, "--metrics", metrics, "--max-age", "100ms", "--pid", program.pid,
                            stderr=subprocess.STDOUT if together else None) as trace:
                    if not together and command[0] != "top":
                        trace.wait_until_it_says(b"Press Ctrl-C")
                    self.work(program, trace, SPANS // 5)
                    status, said = trace.end(self)
            self.assertEqual(status, 1, command)
            if not together:
                self.assertIn("nopspan: stdout: not all of the output could be written in time", said)
            with open(metrics, encoding="utf-8") as file:
                rows = file.read()
            self.assertIn('\nnopspan_entries_lost_total{reason="ring_full"} 0\n', rows)
            self.assertRegex(rows, r"(?m)^nopspan_entries_delivered_total [1-9]")

    def test_a_reader_that_comes_back_has_whole_lines_and_the_count_of_the_others(self):
        with Counting(self.temporary_folder(), pause_us=400) as program:
            with Unread("trace", "--json", "--max-age", "100ms", "--pid", program.pid) as trace:
                trace.wait_until_it_says(b"Press Ctrl-C")
                self.work(program, trace, SPANS // 5)
                program.ask("stop")
                reader = trace.read()
                status, said = trace.end(self)
                reader.join()
        self.assertEqual(status, 0, said)
        lines = [json.loads(line) for line in trace.data.decode().splitlines()]
        end = lines.pop()
        self.assertEqual((end["type"], end["traces"]["shown"], end["traces"]["output_dropped"]), ("end", len(lines), 0))


if __name__ == "__main__":
    harness.main()
