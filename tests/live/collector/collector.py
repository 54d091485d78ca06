# SPDX-License-Identifier: Apache-2.0
"""The collector's source in live tests: programs/collect prints each span and event, and the ledger."""

import collections
import itertools
import json
import signal
import subprocess

import harness
from followed import Followed
from harness import LIBRARY, program_path
from waiting import wait_until

LOSSES = ("ring_full", "unreadable", "too_large", "malformed", "missed", "discarded", "no_memory", "over_limit",
          "reentrant")


class Collector(Followed):
    """programs/collect, run by another command if there is a `wrapper`. A context manager: attached on entry and ended by
    SIGINT on exit."""

    def __init__(self, *options, binary=LIBRARY, wrapper=()):
        self._rows, self._read_lines = [], 0
        # Attaches to the file before any process maps it, so that a program's first spans are not missed.
        super().__init__([*wrapper, program_path("collect"), *map(str, options), *(["--binary", binary] if binary else [])],
                         stdin=subprocess.PIPE)

    def _read(self, stream, lines):
        # Ignores an incomplete line of a killed collector.
        super()._read(itertools.takewhile(lambda line: line.endswith(b"\n"), stream), lines)

    def wait_until_up(self):
        self.wait_while_it_runs(lambda: self.lines, "the collector to attach")

    def stop(self, signal_number=signal.SIGINT):
        """Ends it as a user does. Returns the ledger."""
        code = super().stop(signal_number)
        if code != 0:
            raise AssertionError("the collector ended with %d: %s" % (code, "\n".join(self.said)))
        return self.ledger()

    def _asked(self, question):
        answers = len([line for line in self.lines if line.startswith('{"%s"' % question)])
        self.process.stdin.write(question.encode() + b"\n")
        self.process.stdin.flush()
        found = []

        def answered():
            found[:] = [line for line in list(self.lines) if line.startswith('{"%s"' % question)]
            return len(found) > answers
        wait_until(answered, "the collector to answer")
        return json.loads(found[-1])[question]

    def ledger_now(self):
        return self._asked("ledger")

    def entries(self, pid=None, kind=None):
        """The entries that the command has received so far: dictionaries, in order. Each line is parsed once."""
        for line in self.lines[self._read_lines:]:
            self._read_lines += 1
            if line.startswith('{"kind"'):
                self._rows.append(json.loads(line))
        return [row for row in self._rows if pid in (None, row["pid"]) and kind in (None, row["kind"])]

    def sequences(self, pid):
        """[(sequence_id, sequence), …] of a process, as --brief prints them."""
        rows = (line[1:].split() for line in list(self.lines) if line.startswith("="))
        return [(sequence_id, int(sequence)) for number, sequence_id, sequence in rows if int(number) == pid]

    def names(self, pid=None, kind="span"):
        return collections.Counter(row["name"] for row in self.entries(pid, kind))

    def names_but_canaries(self, pid):
        return {name: count for name, count in self.names(pid).items() if name != "canary"}

    def wait_until_it_sees(self, program, command="span canary"):
        """Waits until it has found and attached to the program's file. A raised gate would not prove this, because
        another tracer may have raised it."""
        def sees():
            program.ask(command)
            return self.names(program.pid)["canary"]
        wait_until(sees, "a span of the program to be seen")

    def wait_for_names(self, pid, names):
        wait_until(lambda: all(self.names(pid)[name] >= count for name, count in names.items()), "spans %s" % names)

    def ledger(self):
        return json.loads(self.lines[-1])["ledger"]

    def counts(self, pid=None):
        """The counts of one process, or the total."""
        ledger = self.ledger()
        if pid is None:
            return ledger["total"]
        rows = [row for row in ledger["processes"] if row["pid"] == pid]
        if len(rows) != 1:
            raise AssertionError("%d rows of process %d in %s" % (len(rows), pid, ledger))
        return rows[0]


class CollectorTest(harness.Test):
    def assert_balanced(self, ledger):
        for row in (ledger["total"], ledger["others"], *ledger["processes"]):
            self.assertTrue(row["balanced"], row)
            self.assertEqual(row["emitted"], row["delivered"] + row["filtered"] + row["lost"], row)

    def assert_nothing_lost(self, counts):
        self.assertEqual({name: counts[name] for name in LOSSES if counts[name]}, {}, counts)
        self.assertEqual(counts["held_by_killed"], 0)

    def assert_nothing_twice(self, rows):
        keys = [(row["sequence_id"], row["sequence"]) if isinstance(row, dict) else row for row in rows]
        self.assertEqual([key for key, count in collections.Counter(keys).items() if count > 1], [])
