# SPDX-License-Identifier: Apache-2.0
"""nopspan hist of running programs: its histograms are those of a recording of the same run."""

import contextlib
import json
import os
import shutil
import signal

import harness
from followed import Followed
from harness import NOPSPAN, Program, Test, nopspan
from test_record import Record

GATE_BATCH = 0xFFFF << 16


def without_none(counts):
    return {key: count for key, count in counts.items() if count}


def rows_in(document):
    """The rows of an output, by their keys."""
    rows = {}
    for row in document["rows"]:
        rows[tuple(row[part] for part in document["by"])] = {k: row[k] for k in ("errors", "cancelled", "histogram")}
    assert len(rows) == len(document["rows"])
    return rows


def counts_in(document):
    return {key: row["histogram"]["count"] for key, row in rows_in(document).items()}


def total_of(document):
    """The ledger's total, after checking that it is the sum of all processes and the others."""
    ledger = document["ledger"]
    apart = [*ledger["processes"], ledger["others"]]
    assert all(row["balanced"] for row in apart), ledger
    for name, count in ledger["total"].items():
        assert name == "balanced" or count == sum(row[name] for row in apart), (name, ledger)
    return ledger["total"]


def by_process(document, count="delivered"):
    """{pid: count} of the processes in the ledger."""
    rows = document["ledger"]["processes"]
    counts = {row["pid"]: row[count] for row in rows}
    assert len(counts) == len(rows)
    return counts


class Hist(Followed):
    """nopspan hist --json. A context manager: it counts from entry to SIGINT."""

    def __init__(self, *arguments):
        super().__init__([NOPSPAN, "--json", "hist", *map(str, arguments)])

    def wait_until_up(self):
        self.wait_until_it_says("^Counting ")

    def printed(self):
        return "\n".join(self.lines)

    def stop(self, signal_number=signal.SIGINT):
        """Ends it as a user does. Returns its output."""
        code = super().stop(signal_number)
        if code != 0:
            raise AssertionError("nopspan hist ended with %d: %s" % (code, self.said))
        return self.printed()

    def document(self):
        """Ends it and returns its output as JSON. Checks that nothing was lost."""
        document = json.loads(self.stop())
        total = total_of(document)
        found = sum(counts_in(document).values()) + document["other"]["histogram"]["count"]
        assert total["delivered"] == found and total["lost"] == 0, (document["ledger"], found)
        return document


class Programs(Test):
    def test_ends_with_the_processes_that_it_looks_at(self):
        with Program("traced") as program:
            hist = Hist("--pid", program.pid).__enter__()
            self.addCleanup(hist.kill)
            program.ask("span hist.last 3")
        self.assertEqual(hist.end(), 0, hist.said)
        self.assertEqual(counts_in(json.loads(hist.printed())), {("hist.last", ""): 3})


class Recording(Test):
    def test_has_the_same_histograms(self):
        quantities = ("duration", "ttft", "tool", "engine", "queue", "prefill", "decode", "retry")
        wishes = [("--of", of) for of in quantities]
        wishes += [("--by", "engine,tenant"), ("--errors",), ("--name", "llm.tool"), ("--model", "tiny"),
                   ("--slower-than", "10us"), ("--sample", 2), ("--request", "order-4711")]
        folder = self.temporary_folder()
        path = os.path.join(folder, "spans.rec")
        with Program("workload") as workload, Program("traced") as traced, contextlib.ExitStack() as attached:
            pids = ("--pid", "%d,%d" % (workload.pid, traced.pid))
            attached.enter_context(Record(path, "--binary", harness.LIBRARY))
            # It is attached to all programs that map the library. If one has a raised gate, so has the other.
            traced.wait_for_gate(lambda gate: gate & GATE_BATCH, "the recorder to attach")
            collectors = [attached.enter_context(Hist(*pids, *wish)) for wish in wishes]
            workload.ask("run " + os.path.join(folder, "events.jsonl"))
            for _ in range(3):
                traced.ask("points")
            live = [collector.document() for collector in collectors]
        self.assertGreater(sum(counts_in(live[0]).values()), 2000)
        for wish, document in zip(wishes, live):
            with self.subTest(wish):
                done = nopspan("hist", "--json", "--from", path, *pids, *wish)
                self.assertEqual(done.returncode, 0, done.stderr)
                recorded = json.loads(done.stdout)
                self.assertEqual(rows_in(recorded), rows_in(document))
                self.assertEqual(total_of(recorded)["delivered"], total_of(document)["delivered"])
                self.assertEqual(without_none(by_process(recorded)), without_none(by_process(document)))


class Misuse(Test):
    def test_errors_name_the_mistake(self):
        plain = shutil.which("true")
        cases = [("--of", ("--of", "luck")), ("--errors", ("--of", "retry", "--errors")), ("--interval", ("--interval", "99ms")),
                 (plain, ("--binary", plain)), ("nowhere", ("--binary", "/nowhere"))]
        for word, arguments in cases:
            with self.subTest(arguments):
                done = nopspan("hist", *arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn(word, done.stderr)


if __name__ == "__main__":
    harness.main()
