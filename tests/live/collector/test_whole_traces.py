# SPDX-License-Identifier: Apache-2.0
"""No trace is shown as whole if spans of it are missing. Another tracer has raised the gates before, so that requests
are recorded that began before the attach."""

import collections
import glob
import json
import os
import shutil
import threading

import example_service
import harness
from collector import Collector
from example_service import ITERATION, PROMPTS, Agent, Server, lines_of
from harness import LIBRARY, LONG, Program, Test, nopspan, wait_until
from test_record import Record
from test_trace import Trace, spans_of

REPETITIONS = 100 if LONG else 5


def read(*options):
    """What `nopspan trace --from` shows: the traces, and the last object."""
    *traces, end = [json.loads(line) for line in nopspan("trace", "--json", "--from", *options).stdout.splitlines()]
    return traces, end


class Service(Test):
    """Commands that are repeated in a row while the example service is under load, and a recording in small files that
    begins in the middle of the load. Handlers receive all spans."""

    @classmethod
    def setUpClass(cls):
        cls.folder = cls.folder_of_the_class()
        logs = [os.path.join(cls.folder, "server.jsonl")]
        cls.recording = os.path.join(cls.folder, "spans.rec")
        cls.tracers, over = [], threading.Event()

        def work(url):
            while not over.is_set():
                logs.append(os.path.join(cls.folder, "agent.%d.jsonl" % len(logs)))
                Agent(url, *PROMPTS, "--requests", "32", "--concurrency", "4", "--ignore-eos",
                      events=logs[-1])

        def repeat():
            for _ in range(REPETITIONS):
                with Trace("--json", "--slower-than", "100ms", "--limit", 1, "--max-age", "100ms") as tracer:
                    code = tracer.end()
                cls.tracers.append((code, tracer))
        with Collector(), Server(cls.folder, "--token-delay-us", "1500", events=logs[0]) as server:
            load = threading.Thread(target=work, args=(server.url,))
            load.start()
            try:
                with Trace("--json", "--slower-than", "100ms", "--limit", 1) as tracer:
                    tracer.end()  # there is load
                with Record(cls.recording, "--binary", LIBRARY, "--max-size", "50k", "--keep", 1000):
                    repeat()
            finally:
                over.set()
                load.join()
        cls.expected = collections.defaultdict(set)
        for log in logs:
            for event in lines_of(log):
                if event["event"].endswith(".stop") or event["event"] == ITERATION + "_start":
                    cls.expected[event["request_id"]].add(event["span_id"])

    def assert_whole(self, traces):
        for trace in traces:
            self.assertEqual((trace["end"], set(spans_of(trace))), ("finished", self.expected[trace["request_id"]]))

    def test_repeated_commands_show_whole_traces_only(self):
        incomplete = 0
        for code, tracer in self.tracers:
            self.assertEqual(code, 0, tracer.said)
            *traces, end = tracer.objects()
            self.assertEqual((len(traces), end["traces"]["shown"]), (1, 1))
            self.assert_whole(traces)
            incomplete += end["traces"]["partial"]
        self.assertGreater(incomplete, 0, "no command saw a request that had begun before it")

    def test_a_recording_has_whole_traces_only(self):
        whole = os.path.join(self.folder, "whole.rec")
        with open(whole, "wb") as file:
            for part in self.parts():
                with open(part, "rb") as one:
                    shutil.copyfileobj(one, file)
        traces, _ = read(whole)
        self.assert_whole(traces)
        self.assertGreater(len(traces), REPETITIONS)

    def test_each_file_of_a_recording_has_whole_traces_only(self):
        for part in self.parts():
            self.assert_whole(read(part)[0])
        self.assertGreater(len(self.parts()), 2)

    def parts(self):
        older = glob.glob(self.recording + ".*")
        return [*sorted(older, key=lambda path: -int(path.rpartition(".")[2])), self.recording]


class Process(Test):
    """Requests of one process, in which each step is known."""

    def setUp(self):
        before = Collector()
        before.__enter__()
        self.addCleanup(before.__exit__)

    @staticmethod
    def ends(tracer, *pids):
        """{the names of a trace's spans: its end}"""
        return {tuple(span["name"] for span in trace["spans"]): trace["end"] for trace in tracer.traces(*pids)}

    @staticmethod
    def threads_at_attach(tracer, pid):
        counts, = [row for row in tracer.last()["ledger"]["processes"] if row["pid"] == pid]
        return counts["threads_at_attach"]

    @staticmethod
    def ask(program, *commands):
        for command in commands:
            program.ask(command)

    def test_a_request_that_began_before_the_attach_is_partial(self):
        with Program("traced") as program:
            self.ask(program, "begin cut", "span lost")
            with Trace("--json", "--pid", program.pid, "--limit", 1) as tracer, \
                    Trace("--json", "--incomplete") as every:
                self.ask(program, "span inner", "end", "complete given 1 60000000000")
                self.ask(program, "begin whole", "span inner", "end")
                self.assertEqual(tracer.end(), 0)
                every.stop()
        self.assertEqual(self.ends(tracer, program.pid), {("whole", "inner"): "finished"})
        self.assertEqual(tracer.last()["traces"]["incomplete_not_shown"], 2)
        self.assertEqual(self.threads_at_attach(tracer, program.pid), 1)
        self.assertEqual(self.ends(every, program.pid),
                         {("cut", "inner"): "partial", ("given",): "partial", ("whole", "inner"): "finished"})

    def test_the_text_counts_partial_traces(self):
        with Program("traced") as program:
            program.ask("begin cut")
            with Trace("--pid", program.pid) as tracer, Trace("--pid", program.pid, "--incomplete") as every:
                program.ask("end")
                for each in tracer, every:
                    each.stop()
        self.assertIn("0 traces shown, 1 began before the attach (use --incomplete to show them); 1 spans and events "
                      "received", tracer.said)
        self.assertIn("incomplete: began before the attach", every.lines[0])

    def test_an_attach_while_a_request_runs_makes_it_partial(self):
        with Trace("--json", "--incomplete", "--max-age", "100ms") as tracer, Program("traced") as program:
            self.ask(program, "begin before", "end", "begin meanwhile")
            with Program("traced_static") as other:
                other.wait_for_gate(bool, "the collector to attach to the other file")

                def is_whole():
                    other.ask("span other")
                    return "finished" in self.ends(tracer, other.pid).values()
                wait_until(is_whole, "the attach to end")
            self.ask(program, "end", "begin after", "end")
            tracer.stop()
        self.assertEqual(self.ends(tracer, program.pid),
                         {("before",): "finished", ("meanwhile",): "partial", ("after",): "finished"})

    def test_a_program_that_is_executed_after_the_attach_is_whole(self):
        with Trace("--json", "--incomplete") as tracer, Program("traced") as program:
            program.ask("span one")
            self.assertEqual(program.ask("exec").split()[0], "ready")
            program.ask("span two")
            tracer.stop()
        self.assertEqual(self.ends(tracer, program.pid), {("one",): "finished", ("two",): "finished"})
        self.assertEqual(self.threads_at_attach(tracer, program.pid), 0)

    def test_a_recording_knows_what_began_before_the_attach(self):
        path = os.path.join(self.temporary_folder(), "spans.rec")
        with Program("traced") as program:
            self.ask(program, "begin cut", "span lost")
            with Record(path, "--pid", program.pid):
                self.ask(program, "end", "begin whole", "span inner", "end")
        copy = path + ".copy"
        self.assertEqual(nopspan("record", "--from", path, copy).returncode, 0)
        for source in path, copy:
            (trace,), end = read(source)
            self.assertEqual([span["name"] for span in trace["spans"]], ["whole", "inner"])
            self.assertEqual((end["traces"]["partial"], end["traces"]["incomplete_not_shown"]), (1, 1))
            (cut, whole), end = read(source, "--incomplete")
            self.assertEqual((cut["end"], whole["end"]), ("partial", "finished"))
            self.assertIn("before_attach", cut["spans"][0]["flags"])


if __name__ == "__main__":
    example_service.need()
    harness.main()
