# SPDX-License-Identifier: Apache-2.0
"""queue.bt, engine-steps.bt, cancelled.bt and gauges.bt on the example engine with fifty clients, a third of which hang
up, and engine.bt on one with drafts and preemption. Their output must agree with the servers' own books and with the handlers' record of the same run."""

import collections
import contextlib
import os
import re
import shutil
import tempfile

import example_service
import harness
import installed
from bpftrace_output import histogram
from engine_clients import (CANCELLED, CLIENTS, FACT_OPTIONS, HANG_UP, MODEL, OPTIONS, SLOTS, Client, Watch,
                            ask_for_facts, run_clients)
from example_service import Server, lines_of, steps_of
from installed import Script

PHASES = ("queue", "prefill", "decode")
TENANT = "org-1"
ENGINE = "example"
LISTED = 10  # the number of requests in @latest of cancelled.bt
ROWS = 100
REASONS = 500


def tuples(lines, name):
    """[(key, numbers)] of everything that was printed of a map of tuples of numbers."""
    found = (re.match(r"@%s\[(.*)\]: \((.*)\)$" % name, line) for line in lines)
    return [(row[1], tuple(map(int, row[2].split(", ")))) for row in found if row]


def average(values):
    """Division as in bpftrace: towards 0."""
    return sum(values) // len(values) if sum(values) >= 0 else -(-sum(values) // len(values))


def linear(values, width, end):
    """The histogram that lhist() makes of the values, from 0 to `end`."""
    return dict(collections.Counter(min(value // width * width, end) for value in values))


def grouped(pairs):
    """{key: [values]} of the (key, value) pairs."""
    groups = collections.defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


class Run:
    """The books of one of the servers, read after it has ended."""

    def __init__(self, folder, pid):
        self.pid = pid
        books = lines_of(os.path.join(folder, "books"))
        self.books = {line["request"]: line for line in books if "request" in line}
        self.book_steps = steps_of(books)
        self.events = lines_of(os.path.join(folder, "events"))
        self.requests = self.named("engine.request.stop")
        self.steps = self.named("engine.step.stop")
        # The first gauges report an idle server at its start, before the scripts are attached.
        self.stats = [event["measurements"] for event in self.named("engine.stats")][1:]

    def named(self, name):
        return [event for event in self.events if event["event"] == name]

    def phase_ends(self, request_id):
        return {phase: event for phase in PHASES for event in self.named("engine.%s.stop" % phase)
                if event["request_id"] == request_id}


class EngineScripts(harness.Test):
    """One run of two servers. Each test checks one script, with and without its filters."""

    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as stack:
            folders = []
            for _ in range(2):
                folders.append(tempfile.mkdtemp(prefix="nopspan-live-"))
                cls.addClassCleanup(shutil.rmtree, folders[-1], ignore_errors=True)
            with contextlib.ExitStack() as servers:
                server, other = [servers.enter_context(
                    Server(folder, *OPTIONS, "--books", os.path.join(folder, "books"),
                           events=os.path.join(folder, "events"))) for folder in folders]
                # All attach at the same time.
                scripts = {name: Script(*words) for name, words in {
                    "queue": ("queue.bt",), "queue of one": ("queue.bt", server.pid, TENANT),
                    "engine-steps": ("engine-steps.bt",), "engine-steps of one": ("engine-steps.bt", server.pid),
                    "cancelled": ("cancelled.bt",), "cancelled of one": ("cancelled.bt", server.pid, TENANT),
                    "gauges": ("gauges.bt",), "gauges of one": ("gauges.bt", server.pid)}.items()}
                tracer = harness.Tracer(("span_start", "span_stop", "engine_request"), libraries=(harness.INSTALLED,))
                for attached in (*scripts.values(), tracer):
                    stack.enter_context(attached)
                watch = Watch(tracer)
                cls.clients = {client.request_id: client for client in run_clients(server, watch)}
                others = [Client(CLIENTS + i, other, watch, i % 2 == 0) for i in range(6)]
                others.append(Client(CLIENTS + len(others), other, watch, True, "decode"))
                for client in others:
                    client.join(harness.PATIENCE_S)
                    if client.error is not None:
                        raise client.error
                    watch.wait("engine_request", client.request_id, "engine.request")
                cls.clients.update({client.request_id: client for client in others})
                cls.last_cancelled = others[-1].request_id
                scripts["gauges"].wait_for_line(re.compile(r"@gauge\[%d, .*, running, .*\]: " % server.pid).match,
                                                "5 s of gauges")
            tracer.stop()
            for script in scripts.values():
                script.stop()
        cls.lines = {name: script.lines for name, script in scripts.items()}
        cls.maps = {name: script.maps() for name, script in scripts.items()}
        cls.one, cls.other = [Run(folder, pid) for folder, pid in zip(folders, (server.pid, other.pid))]

    def test_the_run_is_what_it_should_be(self):
        self.assertEqual(set(self.one.books) | set(self.other.books), set(self.clients))
        for run in (self.one, self.other):
            self.assertEqual({event["request_id"] for event in run.requests}, set(run.books))
            self.assertEqual(len(run.requests), len(run.books))
        cancelled = [e for e in self.one.requests if e["status"] == CANCELLED]
        self.assertEqual(len(cancelled), sum(HANG_UP.values()))
        self.assertTrue([e for e in cancelled if e["metadata"]["tenant"] == TENANT])

    def of(self, name):
        """The runs that a script must include, and a predicate for their requests."""
        if "of one" not in name:
            return (self.one, self.other), lambda event: True
        return (self.one,), lambda event: event["metadata"]["tenant"] == TENANT

    def rows(self, name, of, begin):
        """The rows of this run in a map. A script with filters must have no other rows."""
        rows = self.maps[name][of] if isinstance(of, str) else of
        return {k: v for k, v in rows.items() if "of one" in name or k.startswith(begin)}

    def requests(self, name):
        """(event of the handlers, line of the books, ends of its phases) of each request."""
        runs, wanted = self.of(name)
        return [(event, run.books[event["request_id"]], run.phase_ends(event["request_id"]))
                for run in runs for event in run.requests if wanted(event)]

    def test_queue(self):
        for name in ("queue", "queue of one"):
            maps, requests = self.maps[name], self.requests(name)
            times = {"queue": [line["queue_ns"] // 1000 for _, line, _ in requests],
                     "prefill": [line["prefill_ns"] // 1000 for _, line, _ in requests if line["prefill_ns"]],
                     "decode": [line["decode_ns"] // 1000 for _, line, _ in requests if line["decode_ns"]],
                     "ttft": [event["measurements"]["ttft_ns"] // 1000 for event, line, _ in requests
                                     if line["output_tokens"]]}
            self.assertLess(len(times["decode"]), len(times["prefill"]))
            self.assertLess(len(times["prefill"]), len(times["queue"]))
            for what, values in times.items():
                self.assertEqual(maps[what + "_us"][MODEL], histogram(values), (name, what))
                self.assertEqual(maps[what + "_avg_us"][MODEL], average(values), (name, what))
            self.assertEqual(maps["requests"][MODEL], len(requests))
            self.assertEqual(maps["cancelled"][MODEL], sum(line["cancelled"] for _, line, _ in requests))

    def test_batch(self):
        key = "%s, " % ENGINE
        for name in ("engine-steps", "engine-steps of one"):
            maps, (runs, _) = self.maps[name], self.of(name)
            reported = [line for run in runs for line in run.book_steps]
            steps = [event["measurements"] for run in runs for event in run.steps]
            words = ("batch_size", "prefill_tokens", "decode_tokens")
            self.assertEqual(collections.Counter(tuple(step[word] for word in words) for step in steps),
                             collections.Counter(tuple(line[word] for word in words) for line in reported))
            by_size = grouped((step["batch_size"], step["duration"] // 1000) for step in steps)
            self.assertIn(SLOTS, by_size)
            for size, times in by_size.items():
                self.assertEqual(maps["steps"][key + ", %d" % size], len(times), name)
                self.assertEqual(maps["step_us"][key + ", %d" % size], average(times), name)
            self.assertEqual(set(maps["steps"]), {key + ", %d" % size for size in by_size})
            self.assertEqual(maps["step_hist_us"][key], histogram(t for times in by_size.values() for t in times))
            self.assertEqual(maps["batch"][key], linear([line["batch_size"] for line in reported], 4, 2048))
            for what in ("prefill", "decode"):
                tokens = [line[what + "_tokens"] for line in reported]
                self.assertEqual(maps[what][key], sum(tokens), (name, what))
                self.assertEqual(maps[what + "_tokens"][key], histogram(tokens), (name, what))
            self.assertNotIn("without_tokens", maps)

    def test_cancelled(self):
        for name in ("cancelled", "cancelled of one"):
            maps, requests = self.maps[name], self.requests(name)
            shown = {of: self.rows(name, of, MODEL) for of in maps if of != "latest"}
            # The phase is the one whose span was cancelled, whatever the times of the request are.
            cancelled = [(event, ends, [phase for phase, end in ends.items() if end["status"] == CANCELLED])
                         for event, _, ends in requests if event["status"] == CANCELLED]
            for event, _, phases in cancelled:
                self.assertEqual(phases, [self.clients[event["request_id"]].leaves])
            self.assertEqual(shown["requests"], {MODEL: len(requests)})
            self.assertEqual(shown["percent"], {MODEL: 100 * len(cancelled) // len(requests)})

            def age_us(event):
                return (event["measurements"]["monotonic_time"] - event["metadata"]["arrival_ns"]) // 1000

            def by_phase(values, of=cancelled):
                return {"%s, %s" % (MODEL, phase): found for phase, found in
                        grouped((phases[0], values(event, ends)) for event, ends, phases in of).items()}

            reasons = by_phase(lambda event, _: event["attributes"]["nopspan.cancel.reason"])
            self.assertEqual(shown["cancelled"], {"%s, client_closed" % k: len(found) for k, found in reasons.items()})
            self.assertEqual({found for of_phase in reasons.values() for found in of_phase}, {"client_closed"})
            self.assertEqual(shown["age_us"],
                             {k: histogram(ages) for k, ages in by_phase(lambda e, _: age_us(e)).items()})
            self.assertEqual(shown["output_tokens"],
                             {k: sum(n) for k, n in by_phase(lambda e, _: e["metadata"]["output_tokens"]).items()})
            # A request that was cancelled before its first step has processed no prompt token. This looks like a server
            # that does not report the number.
            began = [row for row in cancelled if row[2] != ["queue"]]
            read = by_phase(lambda _, ends: ends["prefill"]["measurements"]["prefill_tokens"], began)
            self.assertEqual(shown["prompt_tokens"], {k: sum(n) for k, n in read.items() if sum(n)})
            self.assertEqual(shown.get("unknown", {}), {k: n.count(0) for k, n in read.items() if 0 in n})

            said = {}
            for text in maps["latest"].values():
                number, request_id, model, phase, age = text.strip("()").split(", ")
                said[request_id] = (model, phase, int(age), int(number))
            self.assertEqual({i: row[:3] for i, row in said.items()},
                             {event["request_id"]: (MODEL, phases[0], age_us(event)) for event, _, phases in cancelled
                              if event["request_id"] in said})
            # Two requests that end at the same moment may share an entry.
            self.assertGreater(len(said), min(LISTED, len(cancelled)) // 2)
            if name == "cancelled":
                self.assertEqual(max(said, key=lambda i: said[i][3]), self.last_cancelled)

    def test_gauges(self):
        for name in ("gauges", "gauges of one"):
            maps, (runs, _) = self.maps[name], self.of(name)
            expected = {"%d, %s, %s, " % (run.pid, ENGINE, gauge): [stats[gauge] for stats in run.stats]
                        for run in runs for gauge in ("running", "waiting", "kv_cache_used", "kv_cache_total")}
            pids = tuple("%d, " % run.pid for run in runs)
            shown = {of: self.rows(name, of, pids) for of in maps if of.startswith("total")}
            self.assertEqual(self.rows(name, dict(tuples(self.lines[name], "total_gauge")), pids),
                             {k: (v[-1], min(v), max(v)) for k, v in expected.items()})
            self.assertEqual(shown["total_count"], {k: len(v) for k, v in expected.items()})
            self.assertEqual(shown["total_avg"], {k: average(v) for k, v in expected.items()})
            self.assertEqual(shown["total_values"], {k: histogram(v) for k, v in expected.items()})
            self.assertEqual(shown["total_percent"], {
                "%d, %s, kv_cache_used, " % (run.pid, ENGINE):
                linear([100 * s["kv_cache_used"] // s["kv_cache_total"] for s in run.stats], 10, 100) for run in runs})
        self.assertEqual(max(stats["running"] for stats in self.one.stats), SLOTS)

    def test_gauges_since_the_last_time(self):
        """The values that it prints of a gauge every 5 s are consecutive."""
        runs = {run.pid: run for run in (self.one, self.other)}
        shown = collections.Counter()
        for key, (last, low, mean, high, count, total) in tuples(self.lines["gauges"], "gauge"):
            pid, _, gauge, _ = key.split(", ")
            if int(pid) not in runs:
                continue  # a canary
            values = [stats[gauge] for stats in runs[int(pid)].stats]
            # Some values may have arrived between printing and clearing.
            parts = [values[at:at + count] for at in range(shown[key], len(values) - count + 1)]
            self.assertIn((last, low, mean, high, total),
                          [(part[-1], min(part), average(part), max(part), sum(part)) for part in parts], key)
            shown[key] += count
        self.assertGreater(shown["%d, %s, running, " % (self.one.pid, ENGINE)], 0)


class EngineFacts(harness.Test):
    """engine.bt on a server with drafts, preemption and a prefix cache. Its sums must be those of the books."""

    def test_sums_and_counts(self):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        books = os.path.join(folder, "books")
        with Server(folder, *FACT_OPTIONS, "--books", books) as server:
            script = Script("engine.bt", server.pid)
            with script:
                for _ in range(3):  # whether a sequence is evicted depends on their times
                    ask_for_facts(server, 20)
                script.wait_for_line(re.compile(r"@count\[%s, engine.request\]: 60$" % ENGINE).match, "all requests")
                script.stop()
        maps, lines = script.maps(), lines_of(books)
        requests = [line for line in lines if "request" in line]
        for event in ("preempted", "evicted", "prefix_cache"):
            happened = [line for line in lines if line.get("event") == event]
            self.assertGreater(len(happened), 0, event)
            self.assertEqual(maps["count"]["%s, engine.%s" % (ENGINE, event)], len(happened))
            for fact in ("tokens", "queried_tokens", "hit_tokens"):
                if fact in happened[0]:
                    self.assertEqual(maps["sum"]["%s, engine.%s, nopspan.%s" % (ENGINE, event, fact)],
                                     sum(line[fact] for line in happened), (event, fact))
        for fact in ("drafts", "drafted_tokens", "accepted_tokens", "preemptions", "recomputed_tokens", "prompt_chunks"):
            self.assertEqual(maps["sum"]["%s, engine.request, nopspan.%s" % (ENGINE, fact)],
                             sum(line[fact] for line in requests), fact)
        self.assertEqual(maps["texts"]["engine.preempted, nopspan.reason, no_blocks"],
                         maps["count"]["%s, engine.preempted" % ENGINE])
        self.assertNotIn("not_added", maps)
        self.assertFalse([key for key in maps["count"] if "engine.step" in key])


class EngineScriptsAtTheEdge(harness.Test):
    """A program with values that no server has in a short run: negative numbers, long ones, missing ones, too many
    rows."""

    # A record has 8192 bytes for attributes. CROWD bytes leave no room for the step's own attributes, and PART bytes
    # leave no room for the last one.
    CROWD, PART = 8055, 8004
    STEPS = {"long": [(300, 100000, 127), (128, 128, 16384), (127, 2097152, 2097151), (4, 0, 3)]}
    CHUNKS = [1 + i for i in range(300)]
    LOOKED_AT = 256
    GAUGE = [5, -20, 3, -7, 11]
    FILL, FULL = [0, 300, 199], 200

    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as stack:
            program = stack.enter_context(harness.Program("traced"))
            scripts = {name: Script(name + ".bt", program.pid) for name in ("queue", "engine-steps", "cancelled", "gauges")}
            for script in scripts.values():
                stack.enter_context(script)
            for value in cls.GAUGE:
                program.ask("gauge edge temperature %d 0" % value)
            for value in cls.FILL:
                program.ask("gauge edge fill %d %d" % (value, cls.FULL))
            for model, steps in cls.STEPS.items():
                for step in steps:
                    program.ask("step %s %d %d %d 0" % (model, *step))
            program.ask("step crowded 5 6 7 %d" % cls.CROWD)
            program.ask("step part 5 6 7 %d" % cls.PART)
            program.ask("members members 1000 %s" % " ".join(map(str, cls.CHUNKS)))
            program.ask("span engine.step 3")
            program.ask("cancel reported 20000 77 deadline")
            program.ask("cancel reported 5000 0 deadline")
            program.ask("cancel reported 0 0 deadline")
            for i in range(REASONS + 3):
                program.ask("cancel reasons 0 0 reason-%d" % i)
            for i in range(ROWS + 5):
                program.ask("canary row-%d" % i)
            program.ask("cancel late 5000 0 deadline")
            for script in scripts.values():
                script.stop()
            cls.pid = program.pid
        cls.lines = {name: script.lines for name, script in scripts.items()}
        cls.maps = {name: script.maps() for name, script in scripts.items()}

    def test_gauges_below_zero(self):
        key, fill = "%d, edge, temperature, " % self.pid, "%d, edge, fill, " % self.pid
        maps, v = self.maps["gauges"], self.GAUGE
        self.assertEqual(dict(tuples(self.lines["gauges"], "total_gauge"))[key], (v[-1], min(v), max(v)))
        self.assertEqual([maps["total_" + what][key] for what in ("count", "avg")], [len(v), average(v)])
        below = sum(value < 0 for value in v)
        self.assertEqual(maps["total_values"][key], {None: below, **histogram(value for value in v if value >= 0)})
        self.assertNotIn(key, maps["total_percent"])
        percent = [100 * value // self.FULL for value in self.FILL]
        self.assertEqual(maps["total_percent"][fill], linear(percent, 10, 100))

    def test_batches_of_all_sizes(self):
        maps = self.maps["engine-steps"]
        for model, steps in self.STEPS.items():
            key = "traced, " + model
            self.assertEqual({k: n for k, n in maps["steps"].items() if k.startswith(key)},
                             {"%s, %d" % (key, batch): 1 for batch, _, _ in steps})
            self.assertEqual(maps["batch"][key], linear([batch for batch, _, _ in steps], 4, 2048))
            self.assertEqual((maps["prefill"][key], maps["decode"][key]),
                             (sum(step[1] for step in steps), sum(step[2] for step in steps)))
            self.assertEqual(maps["prefill_tokens"][key], histogram(step[1] for step in steps))
            self.assertEqual(maps["decode_tokens"][key], histogram(step[2] for step in steps))

    def test_steps_without_tokens_or_room_for_attributes(self):
        maps = self.maps["engine-steps"]
        self.assertEqual(maps["without_tokens"], {", ": 3})
        steps = {key: maps["steps"][key] for key in ("traced, crowded, 5", "traced, part, 5", ", , 0")}
        self.assertEqual(list(steps.values()), [1, 1, 3])
        for model in ("crowded", "part"):
            self.assertEqual([maps[what]["traced, " + model] for what in ("prefill", "decode")], [6, 7])
        self.assertNotIn(", ", maps["prefill"])

    def test_members(self):
        maps, key = self.maps["engine-steps"], "traced, members"
        self.assertEqual(maps["steps"]["%s, %d" % (key, 1000 + len(self.CHUNKS))], 1)
        self.assertEqual(maps["prefill"][key], sum(self.CHUNKS))
        self.assertEqual([maps[what][key] for what in ("decode", "drafted", "accepted")], [3000, 4000, 2000])
        self.assertEqual(maps["chunk_tokens"], {key: histogram(self.CHUNKS[:self.LOOKED_AT])})
        self.assertEqual(maps["chunks_not_read"], {key: len(self.CHUNKS) - self.LOOKED_AT})
        self.assertNotIn("members_dropped", maps)

    def test_prompts_that_were_partly_read(self):
        maps = self.maps["cancelled"]
        self.assertEqual({k: n for k, n in maps["cancelled"].items() if k.startswith("reported")},
                         {"reported, prefill, deadline": 2, "reported, queue, deadline": 1})
        self.assertEqual(maps["prompt_tokens"], {"reported, prefill": 77})
        self.assertEqual(maps["unknown"], {"reported, prefill": 1})
        self.assertEqual((maps["requests"]["reported"], maps["percent"]["reported"]), (3, 100))

    def test_the_first_rows_are_shown_and_what_is_over_is_counted(self):
        shown = {"reported", "reasons"} | {"row-%d" % i for i in range(ROWS - 2)}
        for name in ("queue", "cancelled"):
            self.assertEqual(set(self.maps[name]["requests"]), shown, name)
        self.assertEqual(self.maps["queue"]["not_shown"], {"requests": 8})
        self.assertEqual(self.maps["cancelled"]["not_shown"], {"requests": 8, "cancelled": 1, "other reasons": 4})
        self.assertEqual(len(self.maps["cancelled"]["cancelled"]), REASONS + 1)
        self.assertEqual(len(self.maps["gauges"]["total_count"]), ROWS)
        self.assertEqual(self.maps["gauges"]["total_not_shown"], {"values": 7})

    def test_nothing_internal_is_printed(self):
        for name, maps in self.maps.items():
            with open(os.path.join(harness.SOURCE, "scripts", "README.md"), encoding="utf-8") as file:
                section = re.search(r"(?m)^### %s\.bt\n((?:(?!### ).*\n)*?)```text$" % name, file.read())[1]
            shown = {m for m in maps if m not in ("not_shown", "total_not_shown")}
            self.assertEqual({m for m in shown if "`@%s`" % m not in section}, set(), name)


if __name__ == "__main__":
    example_service.need()
    installed.main()
