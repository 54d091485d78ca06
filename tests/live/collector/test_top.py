# SPDX-License-Identifier: Apache-2.0
"""nopspan top as text, as JSON and from a recording. For the same run of the example service, all must show the same
numbers. tests/collector/test_top.py looks at a terminal."""

import collections
import json
import os
import re

import example_service
import harness
from example_service import PROMPTS, Agent, Server
from followed import Followed
from harness import LIBRARY, NOPSPAN, Test, nopspan
from test_record import Record
from test_trace import Trace, spans_of

BY = ("--by", "process,name,model", "--total")
COUNTS = {"SPANS": "spans", "ERRORS": "errors", "CANC": "cancelled", "IN TOK": "input_tokens",
          "OUT TOK": "output_tokens", "RETRIES": "retries"}


class Top(Followed):
    """nopspan top --json, with a table every tenth of a second."""

    def __init__(self, *options, binary=LIBRARY):
        super().__init__([NOPSPAN, "--json", "top", "--binary", binary, "--interval", "100ms", *options])

    def wait_until_up(self):
        self.wait_for_line(bool, "a table")

    def last(self):
        return json.loads(self.lines[-1])


def rows_in(document, pids):
    """{(process, name, model): numbers since the beginning} of these processes. Rates are omitted, because they depend
    on the time."""
    return {(row["process"], row["name"], row["model"]):
            {key: value for key, value in row["total"].items() if not key.endswith("_per_s")}
            for row in document["rows"] if int(row["process"].split()[-1]) in pids}


def rows_of_text(lines):
    """The rows of a table as text: {(process, name, model): {title: text}}, in order."""
    head = next(i for i, line in enumerate(lines) if line.startswith("PROCESS"))
    titles = re.split("  +", lines[head])
    cells = (re.split("  +", line) for line in lines[head + 1:])
    return {tuple("" if cell == "-" else cell for cell in row[:3]): dict(zip(titles, row))
            for row in cells if len(row) == len(titles) and row[0] != "other"}


def number(text):
    """The number in a cell, and its possible error. Three digits are shown."""
    digits, unit = re.fullmatch(r"([\d.]+)([kMG]?)", text).groups()
    value = float(digits) * 1000 ** " kMG".index(unit or " ")
    return value, 0.005 * value if unit else 0


class TheSameNumbers(Test):
    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        cls.recording = os.path.join(folder, "service.rec")
        # Only one table, at the end.
        plain = Followed([NOPSPAN, "top", "--binary", LIBRARY, *BY, "--plain", "--count", "1", "--interval", "1h"])
        live, recorder, cls.trace = Top(*BY), Record(cls.recording, "--binary", LIBRARY), Trace("--json")
        with live, recorder, cls.trace, plain:
            with Server(folder, "--fail-rate", "0.3", "--seed", "7") as server:
                agent = Agent(server.url, *PROMPTS * 4, "--concurrency",
                              "2", "--max-attempts", "12", "--retry-delay-ms", "5")
        assert agent.status == 0
        cls.pids = {"chat_server %d" % server.pid: server.pid, "agent %d" % agent.pid: agent.pid}
        cls.plain = plain.lines
        cls.rows = rows_in(live.last(), cls.pids.values())

    def test_are_in_the_table_of_text(self):
        self.assertEqual(sum(line.startswith("PROCESS") for line in self.plain), 1)
        shown = {row: cells for row, cells in rows_of_text(self.plain).items() if row[0] in self.pids}
        self.assertEqual(set(shown), set(self.rows))
        for row, numbers in self.rows.items():
            for title, what in COUNTS.items():
                value, off_by = number(shown[row][title])
                self.assertAlmostEqual(value, numbers[what], delta=off_by, msg=(row, title))

    def test_are_those_of_the_recording(self):
        done = nopspan("--json", "top", "--from", self.recording, *BY, check=True)
        self.assertEqual(rows_in(json.loads(done.stdout), self.pids.values()), self.rows)
        for what in ("spans", "errors", "input_tokens", "output_tokens", "first_tokens", "retries"):
            self.assertGreater(sum(row[what] for row in self.rows.values()), 0, what)

    def test_have_traces_of_the_same_spans_live_and_recorded(self):
        done = nopspan("--json", "trace", "--from", self.recording, check=True)
        pids = set(self.pids.values())
        recorded = {found["trace_id"]: found for found in map(json.loads, done.stdout.splitlines())
                    if found["type"] == "trace" and pids & {process["pid"] for process in found["processes"]}}
        live = {found["trace_id"]: found for found in self.trace.traces(*pids)}
        self.assertEqual(set(recorded), set(live))
        for trace_id, found in live.items():
            self.assertEqual(spans_of(recorded[trace_id]), spans_of(found))
            self.assertEqual(recorded[trace_id]["end"], found["end"])
        spans = collections.Counter(span.name for found in live.values() for span in spans_of(found).values())
        # A linked span is part of each request that it links to.
        linked = {group["name"] for found in live.values() for group in found.get("linked", [])}
        self.assertEqual(linked, {"engine.step"})
        in_rows = collections.Counter()
        for (_, name, _), numbers in self.rows.items():
            if name not in linked:
                in_rows[name] += numbers["spans"]
        self.assertEqual(spans, in_rows)


if __name__ == "__main__":
    example_service.need()
    harness.main("protoc")
