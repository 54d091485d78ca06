# SPDX-License-Identifier: Apache-2.0
"""nopspan trace: its trees agree with what handlers received in the same run. A trace that satisfies the filter is
complete, and no other trace is shown."""

import base64
import collections
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import unicodedata

import example_service
import harness
from example_service import PROMPTS, Agent, Server, lines_of
from followed import Followed
from harness import LIBRARY, NOPSPAN, PATIENCE_S, Counting, Program, Test, wait_until

STATUSES = ("ok", "error", "cancelled", "exception")
NOBODY = "0" * 16

Span = collections.namedtuple("Span", "parent_id name pid status duration_ns")


class Trace(Followed):
    """nopspan trace. A context manager: attached on entry and ended by SIGINT on exit."""

    def __init__(self, *options, binary=LIBRARY, stdout=subprocess.PIPE, env=None):
        # Attaches to the library before any process maps it, so that a program's first spans are not missed.
        super().__init__([NOPSPAN, "trace", "--binary", binary, *map(str, options)], stdout=stdout, env=env)

    def wait_until_up(self):
        self.wait_until_it_says("^Waiting for requests to end")

    def objects(self):
        return [json.loads(line) for line in list(self.lines)]

    def traces(self, *pids):
        """The traces with a span of one of these processes. Others on this machine are traced too."""
        return [found for found in self.objects()
                if found["type"] == "trace" and set(pids) & {process["pid"] for process in found["processes"]}]

    def last(self):
        last = self.objects()[-1]
        assert last["type"] == "end", last
        return last


def spans_of(trace):
    """{span id: Span} of a trace that --json printed."""
    return {span["span_id"]: Span(span.get("parent_id"), span["name"], trace["processes"][span["process"]]["pid"],
                                  span["status"], span["duration_ns"]) for span in trace["spans"]}


def shared_of(trace):
    """The sums of the linked spans. Absolute times are omitted, because two collectors read the wall clock at different
    times, and the longest step, because it names another request, which a filter may have left out."""
    return [{key: value for key, value in linked.items() if key not in ("spans", "longest") and not key.endswith("_unix_ns")}
            for linked in trace.get("linked", ())]


class ChatService(Test):
    """One run of both programs, under collectors with different filters and with a record by handlers."""

    FILTERS = {"all": (), "name": ("--name", "llm.tool"), "errors": ("--errors",), "slow": ("--slower-than", "60ms"),
               "sample": ("--sample", "2"), "each": ("--all-spans",)}

    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        logs = [os.path.join(folder, name) for name in ("server.jsonl", "agent.jsonl")]
        tracers = {name: Trace("--json", *options) for name, options in cls.FILTERS.items()}
        try:
            for tracer in tracers.values():
                tracer.__enter__()
            with Server(folder, "--fail-rate", "0.2", "--seed", "7", events=logs[0]) as server:
                tracers["pid"] = Trace("--json", "--pid", server.pid).__enter__()
                tracers["peers"] = Trace("--json", "--with-peers", "--pid", server.pid).__enter__()
                agent = Agent(server.url, *PROMPTS * 3, "--concurrency", "2", "--max-attempts", "12",
                              "--retry-delay-ms", "5", events=logs[1])
        finally:
            for tracer in tracers.values():
                tracer.__exit__()
        cls.tracers, cls.agent, cls.server_pid = tracers, agent, server.pid
        cls.ids = [answer["request_id"] for answer in agent.summary["answers"]]
        cls.events = [event for log in logs for event in lines_of(log)]
        cls.shown = {name: {trace["request_id"]: trace for trace in tracer.traces(agent.pid, server.pid)}
                     for name, tracer in tracers.items()}

    def expected(self, request_id):
        """{span id: Span} as handlers received them. They receive no stop of an iteration, so its duration is
        unknown."""
        found = {}
        for event in self.events:
            if event["request_id"] != request_id:
                continue
            name, _, what = event["event"].rpartition(".")
            duration = event["measurements"].get("duration")
            if event["event"] == "agent.operator.iteration_start":
                name, what = "agent.operator.iteration", "stop"
            if what == "stop":
                parent = None if event["parent_id"] == NOBODY else event["parent_id"]
                found[event["span_id"]] = Span(parent, name, event["pid"], STATUSES[event["status"]], duration)
        return found

    def assert_shown(self, name, wanted, some_are=True):
        """Exactly these requests of the agent are shown, and each is complete."""
        ids = [request_id for request_id in self.ids if wanted(self.expected(request_id))]
        self.assertEqual(sorted(set(self.shown[name]) & set(self.ids)), sorted(ids))
        self.assertTrue(not some_are or set(ids) and set(ids) != set(self.ids), "the filter decides nothing here")
        for request_id in ids:
            self.assert_same_tree(self.shown[name][request_id])

    def assert_same_tree(self, trace):
        expected = self.expected(trace["request_id"])
        spans = spans_of(trace)
        self.assertEqual(set(spans), set(expected))
        self.assertEqual("linked" in trace, any(span.name == "engine.prefill" for span in spans.values()))
        for span_id, span in spans.items():
            duration = expected[span_id].duration_ns or span.duration_ns
            self.assertEqual(span, expected[span_id]._replace(duration_ns=duration))

    def test_every_request_is_one_trace_over_both_processes(self):
        self.assertEqual(len(set(self.ids)), len(PROMPTS) * 3)
        for request_id in self.ids:
            trace = self.shown["all"][request_id]
            self.assert_same_tree(trace)
            self.assertEqual({process["pid"] for process in trace["processes"]}, {self.agent.pid, self.server_pid})
            self.assertEqual((trace["end"], trace["over_limit"], trace["duplicates"]), ("finished", 0, 0))
            self.assertEqual(trace["span_count"], len(trace["spans"]))
            self.assertEqual([span["name"] for span in trace["spans"] if "root" in span], ["llm.chat"])
            self.assertEqual(base64.urlsafe_b64decode(request_id + "==").hex(), trace["trace_id"])

    def test_all_spans_shows_each_step(self):
        steps = [linked for trace in self.shown["each"].values() for linked in trace.get("linked", ())]
        self.assertGreater(len(steps), 0)
        for linked in steps:
            self.assertEqual((linked["name"], len(linked["spans"])), ("engine.step", linked["count"]))

    def test_slow_requests_have_all_their_steps(self):
        for request_id in set(self.shown["slow"]) & set(self.ids):
            self.assertEqual(shared_of(self.shown["slow"][request_id]), shared_of(self.shown["all"][request_id]))

    def test_name_shows_traces_that_have_such_a_span(self):
        self.assert_shown("name", lambda spans: any(span.name == "llm.tool" for span in spans.values()))

    def test_errors_shows_traces_in_which_anything_failed(self):
        self.assert_shown("errors", self.has_failed)

    def test_slower_than_shows_traces_whose_root_span_took_as_long(self):
        def is_slow(spans):
            return any(span.parent_id is None and span.duration_ns >= 60_000_000 for span in spans.values())
        self.assert_shown("slow", is_slow, some_are=False)  # depends on the speed of this machine

    @staticmethod
    def has_failed(spans):
        return any(span.status in ("error", "exception") for span in spans.values())

    def test_sample_shows_whole_traces(self):
        for request_id in set(self.ids) & set(self.shown["sample"]):
            self.assert_same_tree(self.shown["sample"][request_id])
            self.assertEqual(shared_of(self.shown["sample"][request_id]), shared_of(self.shown["all"][request_id]))
        self.assertLess(len(self.shown["sample"]), len(self.shown["all"]))

    def test_with_peers_shows_what_the_trace_has_in_other_processes_too(self):
        for request_id in self.ids:
            self.assert_same_tree(self.shown["peers"][request_id])
        self.assertRegex("\n".join(self.tracers["peers"].said), r"(?m)^nopspan: --with-peers: attached to all processes .* now \d+$")

    def test_pid_shows_the_spans_of_this_process_alone(self):
        traces = self.tracers["pid"].traces()
        self.assertEqual([row["pid"] for row in self.tracers["pid"].last()["ledger"]["processes"]], [self.server_pid])
        for request_id in self.ids:
            expected = {id: span for id, span in self.expected(request_id).items() if span.pid == self.server_pid}
            shown = spans_of(self.shown["pid"][request_id])
            self.assertEqual({id: span.name for id, span in shown.items()},
                             {id: span.name for id, span in expected.items()})

    def test_the_counts_add_up(self):
        for name, tracer in self.tracers.items():
            end = tracer.last()
            counts, total = end["traces"], end["ledger"]["total"]
            self.assertTrue(total["balanced"], name)
            self.assertEqual(counts["entries"], counts["outside"] + counts["duplicates"] + counts["over_limit"] +
                             counts["linked"] + counts["step_entries"] + counts["assembled"], name)
            self.assertEqual(counts["held"], 0)
            links = dict(counts["links"])
            self.assertEqual(links.pop("all"), sum(links.values()), name)
            self.assertEqual(links["held"], 0)
            members = dict(counts["steps"]["members"])
            self.assertEqual(members.pop("all"), sum(members.values()), name)
            self.assertEqual(members["held"], 0)
            self.assertEqual(counts["shown"] + counts["filtered"] + counts["incomplete_not_shown"],
                             sum(counts[end] for end in ("finished", "late_parts", "evicted", "partial", "unfinished")), name)


class FilterEarly(Test):
    """The kernel filters exactly: every filtered entry is counted, and no request that it forwards is truncated."""

    FILTERS = {"name": ("--name", "counting.root"), "no such name": ("--name", "no.such"), "model": ("--model", "none"),
               "errors": ("--errors",), "slow": ("--errors", "--slower-than", "1h"), "both": ("--errors", "--name", "counting.inner")}

    def ledgers(self, *options, threads=4, pause_us=50):
        """Each filter's ledger of a process with many spans, and how many spans that process made."""
        tracers = {name: Trace("--json", "--filter-early", *filters, *options) for name, filters in self.FILTERS.items()}
        try:
            for tracer in tracers.values():
                tracer.__enter__()
            with Counting(self.temporary_folder(), threads=threads, pause_us=pause_us) as program:
                program.ask("start")
                wait_until(lambda: program.entries() > 10_000, "some thousand spans")
                made = int(program.ask("stop"))
        finally:
            for tracer in tracers.values():
                tracer.__exit__()
        rows = {}
        for name, tracer in tracers.items():
            self.assertTrue(tracer.last()["ledger"]["total"]["balanced"], name)
            rows[name], = [row for row in tracer.last()["ledger"]["processes"] if row["pid"] == program.pid]
        return rows, made

    def check(self, rows, made):
        for name, row in rows.items():
            with self.subTest(name):
                self.assertEqual(row["malformed"], 0, row)
                self.assertEqual(row["delivered"] + row["filtered"] + row["lost"], made, row)
                self.assertEqual(row["emitted"], made, row)
                self.assertGreater(row["delivered"] if name == "name" else row["filtered"], 0, row)

    def test_everything_is_delivered_filtered_or_lost(self):
        self.check(*self.ledgers())

    def test_also_where_little_is_fetched_again_and_again(self):
        self.check(*self.ledgers("--max-age", "20ms", threads=8, pause_us=2000))

    def test_also_where_the_ring_buffer_is_small(self):
        self.check(*self.ledgers("--buffer", "64k"))


class Requests(Test):
    """Traces of the program `traced`, with names that no other program uses."""

    def name(self, what):
        return "trace_test.%d.%s" % (os.getpid(), what)

    def test_a_trace_is_shown_while_it_runs_and_limit_ends_it(self):
        with Trace("--json", "--limit", 1, "--name", self.name("inner")) as tracer:
            with Program("traced") as program:
                for command in ("begin " + self.name("outer"), "span " + self.name("inner") + " 3", "end"):
                    program.ask(command)
                self.assertEqual(tracer.end(), 0)
        trace, = tracer.traces(program.pid)
        self.assertEqual([span["name"] for span in trace["spans"]], [self.name("outer")] + [self.name("inner")] * 3)
        self.assertEqual({span["parent_id"] for span in trace["spans"][1:]}, {trace["spans"][0]["span_id"]})

    def test_a_long_name_finds_the_spans_whose_name_the_library_has_truncated(self):
        wanted = self.name("ä" * 40)
        with Trace("--json", "--incomplete", "--filter-early", "--name", wanted) as tracer:
            with Program("traced") as program:
                program.ask("span " + wanted)
                program.ask("span " + self.name("other"))
            tracer.stop()
        trace, = tracer.traces(program.pid)
        name, = [span["name"] for span in trace["spans"]]
        self.assertTrue(name.endswith("ä…") and wanted.startswith(name[:-1]), name)

    def test_pid_attaches_to_that_process_alone(self):
        with Program("traced") as one, Program("traced") as other:
            with Trace("--json", "--incomplete", "--pid", one.pid) as tracer:
                one.wait_for_gate(bool, "the gate to be raised")
                for _ in range(20):
                    one.ask("span " + self.name("wanted"))
                    other.ask("span " + self.name("unwanted"))
                    self.assertEqual(other.gate(), 0)
                one.ask("fork")
                tracer.stop()
            one.ask("reap")
            self.assertEqual(other.gate(), 0)
            with Trace("--json", "--incomplete", "--pid", one.pid, "--with-peers") as wide:
                for program in one, other:
                    program.wait_for_gate(bool, "the gate to be raised")
                other.ask("span " + self.name("filtered"))
                one.ask("span " + self.name("shown"))
                wide.stop()
        names = [span["name"] for trace in tracer.traces(one.pid) for span in trace["spans"]]
        self.assertEqual(names, [self.name("wanted")] * 20)
        self.assertEqual([row["pid"] for row in tracer.last()["ledger"]["processes"]], [one.pid])
        self.assertIn("nopspan: --pid does not trace processes that the given ones fork: 1 of these still runs", tracer.said)
        trace, = wide.traces(one.pid, other.pid)
        self.assertEqual([span["name"] for span in trace["spans"]], [self.name("shown")])
        rows = {row["pid"]: row["delivered"] for row in wide.last()["ledger"]["processes"]}
        self.assertEqual((rows[one.pid], rows[other.pid]), (1, 1))
        self.assertRegex("\n".join(wide.said), "nopspan: --with-peers: attached to all processes .*, now [0-9]+\n")
        self.assertNotIn("of these still", "\n".join(wide.said))

    def test_pid_of_a_process_without_probes_is_reported(self):
        with Program("plugin_host") as without, Program("traced") as program:
            with Trace("--json", "--pid", without.pid, "--pid", program.pid) as tracer:
                program.wait_for_gate(bool, "the gate to be raised")
                tracer.stop()
        said = [line for line in tracer.said if "has no nopspan probes" in line]
        self.assertEqual(said, ["nopspan: process %d has no nopspan probes so far; see nopspan doctor %d" % (without.pid, without.pid)])

    def text_of(self, *options, columns=None, env=None):
        """The output for a trace with a failed span, many siblings and a retry. With `columns`, the output is a
        terminal."""
        master, slave = pty.openpty() if columns else (None, None)
        if columns:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        environment = {"LC_ALL": "C.UTF-8", "TERM": "xterm", "NO_COLOR": "", **(env or {})}
        printed = []
        tracer = Trace("--limit", 1, "--name", self.name("many"), *options, stdout=slave or subprocess.PIPE,
                       env=environment)
        if columns:
            os.close(slave)

            def read():
                try:
                    while True:
                        chunk = os.read(master, 4096)
                        if not chunk:
                            break
                        printed.append(chunk)
                except OSError:  # all processes have closed it
                    pass
            reader = threading.Thread(target=read, daemon=True)
            reader.start()
        with tracer:
            with Program("traced") as program:
                for command in ("begin " + self.name("outer"), "points", "span " + self.name("many") + " 23", "end"):
                    program.ask(command)
                self.assertEqual(tracer.end(), 0, tracer.said)
        if not columns:
            return "\n".join(tracer.lines), tracer.said
        reader.join(PATIENCE_S)
        os.close(master)
        return b"".join(printed).decode().replace("\r\n", "\n"), tracer.said

    def test_text_is_a_tree(self):
        text, said = self.text_of()
        self.assertNotIn("\x1b", text)
        self.assertRegex(text, r"(?m)^\S{22}  \d\d:\d\d:\d\d\.\d{3}  .*28 spans, 1 error  tenant=acme  traced\[\d+\]$")
        self.assertRegex(text, r"(?m)^ *[\d.]+ [num]?s +\+\S+ [nm]?s ▕█+▏ " + re.escape(self.name("outer")))
        self.assertRegex(text, r"(?m)└─ 23 × %s, total .*, max " % re.escape(self.name("many")))
        self.assertRegex(text, r"(?m)│  ├─ llm\.step  tiny-2  11→7 tokens \(5 cached\)  first ")
        self.assertRegex(text, r"(?m)│  │  └─ ◆ retry 2 in 500 ms: rate_limit$")
        self.assertRegex(text, r"(?m)llm\.tool calculator  error division_by_zero$")
        self.assertTrue(any(line.startswith("1 trace") for line in said), said)
        self.assertTrue(any("delivered" in line for line in said), "the ledger: %s" % said)

    def test_a_terminal_has_colors_and_lines_of_its_width(self):
        text, _ = self.text_of("--all-spans", columns=100)
        self.assertIn("\x1b[31mllm.tool\x1b[0m", text)
        plain = re.sub(r"\x1b\[\d*m", "", text)
        widths = [sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) for line in plain.split("\n")]
        self.assertTrue(80 < max(widths) <= 100, widths)
        self.assertEqual(len(re.findall(r"─ %s\b" % re.escape(self.name("many")), plain)), 23)

    def test_no_color_and_ascii_locales_are_respected(self):
        text, _ = self.text_of(columns=100, env={"NO_COLOR": "1", "LC_ALL": "C"})
        self.assertNotIn("\x1b", text)
        self.assertTrue(text.isascii(), text)
        self.assertIn("`- 23 x " + self.name("many"), text)

    def test_a_request_that_has_not_ended_is_a_match(self):
        with Program("traced") as program, Trace("--pid", program.pid) as known:
            program.ask("begin slow")
            program.ask("span inner")
            with Trace("--request", "no-such-request") as unknown:
                unknown.wait_until_it_says("nothing has matched")
            program.ask("end")
        self.assertFalse([line for line in known.said if "nothing has matched" in line])


if __name__ == "__main__":
    example_service.need()
    harness.main()
