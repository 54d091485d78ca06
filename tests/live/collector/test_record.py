# SPDX-License-Identifier: Apache-2.0
"""nopspan record: the recording, read by independent code, has what in-process handlers received in the same run."""

import collections
import json
import os
import subprocess
import tempfile
import threading

import example_service
import harness
import otlp_attributes
import perfetto_file
import recording
from example_service import PROMPTS, Agent, Server, lines_of
from followed import Followed
from harness import LIBRARY, NOPSPAN, Program, Test, nopspan
from waiting import wait_until


class Record(Followed):
    """nopspan record FILE. A context manager: attached on entry and ended by SIGINT on exit."""

    def __init__(self, path, *options):
        super().__init__([NOPSPAN, "record", path, *map(str, options)], stdout=subprocess.DEVNULL)
        self.path = path

    def wait_until_up(self):
        self.wait_until_it_says("Recording\\.")

    def __exit__(self, failed, *_):
        if self.is_running() and self.stop() != 0 and not failed:
            raise AssertionError("nopspan record failed: %s" % self.said)
        if not failed and os.path.isfile(self.path) and os.path.getsize(self.path) < 2 << 20:
            self.convert()

    def convert(self):
        """Perfetto can read all of the recording."""
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.pftrace")
            subprocess.run([NOPSPAN, "convert", self.path, "--to", "perfetto", "-o", out, "--incomplete", "--flows", "all"],
                           stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
            trace = perfetto_file.read(out)
        if trace.errors or trace.attributes.get("nopspan.clock_error_ns", 0) <= 0:
            raise AssertionError("%s: %s, %s" % (self.path, trace.errors, trace.attributes))


def name_of(entry):
    return entry.fields["name"].decode()


def of_process(entries, pid):
    return [entry for entry in entries if entry.process["pid"] == pid]


def names(entries, pid):
    return collections.Counter(name_of(entry) for entry in of_process(entries, pid) if entry.kind in ("span", "step"))


def entries_so_far(path):
    return [entry for chunk in recording.whole_chunks(path)[0] if chunk.kind in recording.WITH_ENTRIES
            for entry in recording.entries(chunk)]


def with_attributes(entries):
    """[(entry, {key: value})]"""
    found = []
    for of_events in (False, True):
        some = [entry for entry in entries if (entry.kind in ("event", "retry", "gauge")) == of_events]
        found += zip(some, otlp_attributes.decode([entry.fields.get("attributes", b"") for entry in some], of_events))
    return found


def row_of(ledger, pid):
    row, = [row for row in ledger["processes"] if row["pid"] == pid]
    return row


class SameAsHandlers(Test):
    """One run of the example service with failing requests and retries."""

    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        cls.path = os.path.join(folder, "service.rec")
        server_log, agent_log = (os.path.join(folder, name) for name in ("server", "agent"))
        with Record(cls.path, "--binary", LIBRARY):
            with Server(folder, "--fail-rate", "0.3", "--seed", "7", events=server_log) as server:
                agent = Agent(server.url, *PROMPTS * 4, "--concurrency", "4",
                              "--max-attempts", "12", "--retry-delay-ms", "5", events=agent_log)
        assert agent.status == 0
        cls.agent, cls.server = agent, server
        cls.lines = lines_of(agent_log) + lines_of(server_log)
        cls.all = recording.all_entries(cls.path)
        cls.entries = of_process(cls.all, agent.pid) + of_process(cls.all, server.pid)

    def test_nothing_was_lost(self):
        ledger = recording.ledger(self.path)
        for pid in (self.agent.pid, self.server.pid):
            row = row_of(ledger, pid)
            self.assertEqual((row["emitted"], row["lost"], row["balanced"]), (len(of_process(self.all, pid)), 0, True))

    def test_attributes_are_what_handlers_saw(self):
        handlers = example_service.of_handlers(self.lines)
        recorded = collections.defaultdict(list)
        for entry, attributes in with_attributes(self.entries):
            name, probe = name_of(entry), "span_stop"
            if entry.kind in ("gauge", "members") or name == example_service.ITERATION:
                continue
            if entry.kind in ("event", "retry"):
                name, probe = ("llm.step", "retry") if entry.kind == "retry" else (name, "event")
            key = (entry.process["pid"], entry.fields["span_id"], probe, name)
            recorded[key].append(attributes)
        self.assertEqual(set(handlers), set(recorded))
        self.assertGreater(len(handlers), 200)
        for key, texts in handlers.items():
            self.assertEqual(len(texts), len(recorded[key]), key)
            for text in texts:
                attributes = json.loads(text)
                same = [found for found in recorded[key] if example_service.canonical(found) == text]
                self.assertTrue(same, (key, attributes, recorded[key]))

    def test_times_are_the_handlers(self):
        reported = {(line["pid"], int(line["span_id"], 16)): line["measurements"]["duration"] for line in self.lines
                if line["event"].endswith((".stop", ".exception")) and "duration" in line["measurements"]}
        spans = [entry for entry in self.entries if entry.kind == "span" and name_of(entry) != example_service.ITERATION]
        self.assertGreater(len(reported), 100)
        for entry in spans:
            key = (entry.process["pid"], entry.fields["span_id"])
            if key in reported:
                self.assertEqual(entry.fields["duration_ns"], reported[key], name_of(entry))


class Times(Test):
    def test_a_span_of_the_far_future_holds_nothing_up(self):
        path = os.path.join(self.temporary_folder(), "future.rec")
        with Program("traced") as program:
            attached = threading.Event()

            # This is the first span that the recorder receives.
            def work():
                while not attached.is_set():
                    program.ask("at future 9000000000000000000")
                    attached.wait(0.005)
            worker = threading.Thread(target=work)
            worker.start()
            try:
                with Record(path, "--pid", program.pid):
                    attached.set()
                    worker.join()
                    program.ask("span now")
                    wait_until(lambda: names(entries_so_far(path), program.pid)["now"], "a span in the file")
            finally:
                attached.set()


class End(Test):
    def test_it_ends_when_all_processes_of_pid_have_ended(self):
        path = os.path.join(self.temporary_folder(), "spans.rec")
        with Program("traced") as one, Program("traced") as two, Record(path, "--pid", "%d,%d" % (one.pid, two.pid)) as record:
            one.__exit__(None)
            two.ask("span last")
            two.__exit__(None)
            self.assertEqual(record.end(), 0)
        self.assertEqual([json.loads(line)["name"] for line in nopspan("replay", path, "--spans").stdout.splitlines()], ["last"])


if __name__ == "__main__":
    example_service.need()
    harness.main("protoc")
