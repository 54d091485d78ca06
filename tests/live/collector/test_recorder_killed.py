# SPDX-License-Identifier: Apache-2.0
"""nopspan record is killed at random points while a program makes spans. Each recording can be read up to its last
complete chunk. The next recorder continues, and no span is recorded twice."""

import collections
import json
import os
import random
import time

import harness
from collector import CollectorTest, Counting
from waiting import wait_until
from harness import LONG
from test_record import Record, nopspan


def spans(path, pid):
    """The spans of a process according to `nopspan replay`."""
    lines = (json.loads(line) for line in nopspan("replay", path, "--spans").stdout.splitlines())
    return [line for line in lines if line["pid"] == pid]


class KilledRecorders(CollectorTest):
    @staticmethod
    def record(path, program):
        return Record(path, "--pid", program.pid, "--max-age", "50ms")

    def killed(self, path, program, seed):
        with self.record(path, program) as recorder:
            wait_until(lambda: os.path.getsize(path) > 20_000, "some chunks")
            time.sleep(random.Random(seed).uniform(0, 0.7))  # the recorder flushes twice a second
            recorder.kill()

    def check_cut(self, path):
        """A recording without an end. Its summary must agree with its contents."""
        summary = json.loads(nopspan("replay", path, "--json").stdout)
        self.assertFalse(summary["whole"])
        self.assertGreater(summary["entries"], 0)
        total = summary["ledger"]["total"]
        self.assertEqual(total["delivered"], summary["entries"])
        self.assertTrue(total["balanced"])

    def assert_streams_have_no_gap(self, rows):
        threads = collections.defaultdict(list)
        for row in rows:
            threads[row["sequence_id"]].append(int(row["sequence"]))
        for sequences in threads.values():
            self.assertEqual(sorted(sequences), list(range(min(sequences), max(sequences) + 1)))

    def test_nothing_is_there_twice_and_the_last_lost_nothing(self):
        folder = self.temporary_folder()
        killed = [os.path.join(folder, "%d.rec" % number) for number in range(30 if LONG else 6)]
        last = os.path.join(folder, "last.rec")
        with Counting(folder, pause_us=500) as program:
            program.ask("start")
            for seed, path in enumerate(killed):
                self.killed(path, program, seed)
            with self.record(last, program):
                wait_until(lambda: os.path.getsize(last) > 20_000, "some chunks")
                entries = int(program.ask("stop"))
        found = {path: spans(path, program.pid) for path in (*killed, last)}
        for path in killed:
            self.check_cut(path)
        for rows in found.values():
            self.assertTrue(rows)
            self.assert_streams_have_no_gap(rows)
        rows = [row for rows in found.values() for row in rows]
        self.assert_nothing_twice(rows)
        self.assertLessEqual(len(rows), entries)
        ids = [row["span_id"] for row in rows if row["type"] == "span"]
        self.assertEqual(len(ids), len(set(ids)))
        summary = json.loads(nopspan("replay", last, "--json").stdout)
        row, = [row for row in summary["ledger"]["processes"] if row["pid"] == program.pid]
        self.assertEqual((row["emitted"], row["delivered"]), (len(found[last]), len(found[last])))
        self.assert_nothing_lost(row)


if __name__ == "__main__":
    harness.main("protoc")
