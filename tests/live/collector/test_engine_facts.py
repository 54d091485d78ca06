# SPDX-License-Identifier: Apache-2.0
"""The example engine with drafts, preemption, prompts in chunks, prefixes that are shared, and clients that hang up, all
at the same time. What nopspan top, hist, trace, replay, the scripts and handlers say must be what the engine's own books
say, also if they attach in the middle of long requests."""

import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import resource
import socket
import sys
import tempfile
import threading
import time
import urllib.request

import example_service
import harness
from engine_clients import CANCELLED, FOREVER, MODEL, fact_body
from example_service import Server, lines_of, steps_of
from followed import Followed
from harness import LIBRARY, LONG, PATIENCE_S, Test, objects_of, output_of, wait_until
from project_script import Script
from test_hist import Hist
from test_record import Record
from test_top import Top
from test_trace import Trace

FACTS = ("drafts", "drafted_tokens", "accepted_tokens", "preemptions", "recomputed_tokens", "prompt_chunks",
         "prefill_tokens")
OF_MEMBERS = ("prefill_tokens", "decode_tokens", "drafted_tokens", "accepted_tokens")
OF_STEPS = ("batch_size", *OF_MEMBERS)
OF_TOP = ("--window", "60s", "--by", "process")
GAPS = ("gap", "token-gap")
SCRIPTS = ("engine.bt", "latency.bt", "tokens.bt")


class LiveHist(Hist):
    """A histogram that is printed at the end."""

    def document(self):
        return json.loads(self.printed())

    def rows(self):
        return {row["name"]: row["histogram"] for row in self.document()["rows"]}


def readers(path, *options):
    """All that read a run, by name."""
    return {"record": Record(path, "--binary", LIBRARY, *options), "top": Top(*OF_TOP, *options), "trace": Trace("--json", *options),
            "text": Trace(*options),
            "hist": LiveHist("--binary", LIBRARY, "--of", "decode_tokens", "--by", "name", *options),
            **{of: LiveHist("--binary", LIBRARY, "--of", of, "--name", "engine.request", *options) for of in GAPS}}


class Client(threading.Thread):
    """A request whose answer is streamed. `leaves`: it hangs up at the first token, or at once. It waits for `go`."""

    def __init__(self, server, number, max_tokens, leaves=None, go=None):
        super().__init__(daemon=True)
        self.go = go
        self.body = fact_body(number, max_tokens, stream=True)
        # Of 1,400 requests, the last ones wait until the first 1,024 have ended.
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5 * PATIENCE_S)
        self.leaves, self.answers, self.leave, self.error = leaves, threading.Event(), threading.Event(), None
        self.start()

    def run(self):
        try:
            if self.go is not None:
                self.go.wait()
            for _ in range(20):  # the server closes a connection that sends nothing for 5 s
                with contextlib.suppress(BrokenPipeError):
                    self.send()
                    break
                self.connection.close()
            if self.leaves != "at once":
                self.read_answer(self.connection.getresponse())
            if self.leaves or self.leave.is_set():
                self.connection.sock.shutdown(socket.SHUT_RDWR)
            self.connection.close()
        except (OSError, AttributeError, AssertionError, http.client.HTTPException) as error:
            self.error = error

    def send(self):
        self.connection.request("POST", "/v1/chat/completions", self.body, {"Content-Type": "application/json"})

    def read_answer(self, response):
        assert response.status == 200, response.read()
        for line in response:
            if b'"content":"' in line and b'"content":""' not in line:
                self.answers.set()
            if self.answers.is_set() and (self.leaves or self.leave.is_set()):
                return


def facts_of(document):
    """{name: (count, sums)} of top's engine_facts, of all engines and models."""
    counts, sums = collections.Counter(), collections.defaultdict(collections.Counter)
    for row in document["engine_facts"]:
        counts[row["name"]] += row["count"]
        sums[row["name"]].update(row["sums"])
    return {name: (count, sums[name]) for name, count in counts.items()}


def sums_of_members(steps):
    """{number of the request: its tokens in all of these steps of the books}"""
    sums = collections.defaultdict(lambda: [0, 0, 0, 0, 0])
    for step in steps:
        for number, *tokens in step["members"]:
            sums[number] = [a + b for a, b in zip(sums[number], [1, *tokens])]
    return dict(sums)


class Run(Test):
    """One run of the engine under all readers. Subclasses let clients ask."""

    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        cls.recording, books, events = (os.path.join(folder, name) for name in ("engine.rec", "books", "events"))
        cls.run_engine(folder, (*cls.OPTIONS, "--books", books), events)
        lines = lines_of(books)
        cls.requests = [line for line in lines if "request" in line]
        cls.steps = steps_of(lines)
        cls.happened = [line for line in lines if "event" in line]
        cls.tops = {"live": cls.readers["top"].last(), "recording": objects_of("top", "--from", cls.recording, *OF_TOP)[-1]}
        cls.entries = [entry for entry in objects_of("replay", cls.recording, "--spans") if entry.get("pid") == cls.server.pid]
        live, recorded = cls.readers["trace"].objects(), objects_of("trace", "--from", cls.recording)
        cls.traces = {"live": live, "recording": recorded}
        cls.handled = lines_of(events) if os.path.exists(events) else []

    def spans(self, name):
        return [entry for entry in self.entries if entry["type"] == "span" and entry["name"] == name]

    def total(self, document, key):
        """What top says of the server. Others on this machine are traced too."""
        return sum(row["total"][key] for row in document["rows"] if row["process"].split()[1] == str(self.server.pid))

    def recorded_steps(self):
        """[(step's entry, [[key, tokens...]])], where the key is (kind, id)."""
        found = []
        for entry in self.entries:
            if entry["name"] != "engine.step" or entry["type"] not in ("span", "part"):
                continue
            if entry["type"] == "span":
                found.append((entry, []))
            for member in entry.get("members", ()):
                key = next((kind, member[kind]) for kind in ("span_id", "own_key", "trace_id_begins") if kind in member)
                found[-1][1].append([key, *(member.get(fact, 0) for fact in OF_MEMBERS)])
        return found

    def hist(self, of, name):
        document = json.loads(output_of("hist", "--from", self.recording, "--of", of, "--by", "name"))
        return {row["name"]: row["histogram"] for row in document["rows"]}[name]


class All:
    """All of it, attached from the beginning. SLOTS, CLIENTS: of each subclass."""

    TOKENS, TOKEN_DELAY_US, ROOM = 160, 300, 128  # ROOM: tokens of the cache for each slot

    @classmethod
    def run_engine(cls, folder, options, events):
        # The room is enough for a few of the slots, so that requests are preempted.
        options += ("--slots", str(cls.SLOTS), "--threads", str(cls.CLIENTS + 8), "--context", "1024",
                    "--kv-tokens", str(cls.ROOM * cls.SLOTS), "--prefill-tokens", str(6 * cls.SLOTS), "--draft-tokens", "4",
                    "--token-delay-us", str(cls.TOKEN_DELAY_US))
        with contextlib.ExitStack() as stack, Server(folder, *options, events=events) as cls.server:
            # Of the server only: other programs on this machine may have engines, and a reader that attaches to one
            # meanwhile does not show the requests in flight, because parts of them may be missing.
            cls.readers = readers(cls.recording, "--pid", str(cls.server.pid))
            for reader in cls.readers.values():
                stack.enter_context(reader)
            leaves = {4: "at the first token", 7: "at once"}
            go = threading.Event()  # at the same time: answers that are read meanwhile would delay the last requests
            clients = [Client(cls.server, number, FOREVER if number % 10 in leaves else cls.TOKENS, leaves.get(number % 10), go)
                       for number in range(cls.CLIENTS)]
            go.set()
            for client in clients:
                client.join()
            errors = [client.error for client in clients if client.error is not None]
            assert not errors, errors
            top = cls.readers["top"]
            top.wait_while_it_runs(lambda: facts_of(top.last())["engine.request"][0] == cls.CLIENTS,
                                   "all requests to end")

    def of(self, event):
        return [line for line in self.happened if line["event"] == event]

    def test_the_run_had_all_of_it(self):
        self.assertEqual(len(self.requests), self.CLIENTS)
        for fact in FACTS:
            self.assertGreater(sum(line[fact] for line in self.requests), 0, fact)
        for event in ("preempted", "evicted", "prefix_cache"):
            self.assertGreater(len(self.of(event)), 0, event)
        self.assertGreater(sum(line["cached_tokens"] for line in self.requests), 0)
        self.assertGreater(max(line["prompt_chunks"] for line in self.requests), 1)
        self.assertGreater(sum(line["cancelled"] for line in self.requests), 0)
        self.assertGreater(max(line["batch_size"] for line in self.steps), self.SLOTS // 2)

    def test_requests_and_events_in_top(self):
        for name, document in self.tops.items():
            with self.subTest(name):
                facts = facts_of(document)
                count, sums = facts["engine.request"]
                self.assertEqual((count, document["engine_facts_dropped"]), (self.CLIENTS, 0))
                self.assertEqual(self.total(document, "requests"), self.CLIENTS)
                self.assertEqual(document["requests_before_attach"], 0)
                for key, fact in (("input_tokens", "input_tokens"), ("output_tokens", "output_tokens")):
                    self.assertEqual(self.total(document, key), sum(line[fact] for line in self.requests), fact)
                for fact in FACTS:
                    self.assertEqual(sums["nopspan." + fact], sum(line[fact] for line in self.requests), fact)
                for event, of in (("preempted", ("tokens",)), ("evicted", ("tokens",)),
                                  ("prefix_cache", ("queried_tokens", "hit_tokens"))):
                    count, sums = facts["engine." + event]
                    self.assertEqual(count, len(self.of(event)))
                    for fact in of:
                        self.assertEqual(sums["nopspan." + fact], sum(line[fact] for line in self.of(event)), event)

    def test_steps_in_top_and_hist(self):
        for name, document in self.tops.items():
            with self.subTest(name):
                count, sums = facts_of(document)["engine.step"]
                self.assertEqual(count, len(self.steps))
                for fact in OF_STEPS:
                    self.assertEqual(sums["nopspan." + fact], sum(line[fact] for line in self.steps), fact)
        self.assertEqual(self.readers["hist"].rows()["engine.step"], self.hist("decode_tokens", "engine.step"))

    def test_members_in_the_recording(self):
        numbers = {line["request"]: line["number"] for line in self.requests}
        spans = {("span_id", entry["span_id"]): numbers[entry["request_id"]] for entry in self.spans("engine.request")}
        self.assertEqual(len(spans), self.CLIENTS)
        found = self.recorded_steps()
        self.assertEqual([step["step"]["number"] for step, _ in found], [line["step"] for line in self.steps])
        for (step, members), line in zip(found, self.steps):
            self.assertEqual({fact: step["step"][fact] for fact in OF_STEPS}, {fact: line[fact] for fact in OF_STEPS})
            self.assertEqual(step["step"]["members_with_prefill"], sum(member[1] > 0 for member in line["members"]))
            self.assertEqual(sorted([spans[key], *tokens] for key, *tokens in members), sorted(line["members"]))

    def test_steps_in_the_traces(self):
        numbers = {line["request"]: line["number"] for line in self.requests}
        books = sums_of_members(self.steps)
        for name, (*traces, end) in self.traces.items():
            with self.subTest(name):
                traces = [trace for trace in traces if self.server.pid in [each["pid"] for each in trace["processes"]]]
                # With many slots, the engine may see late that a client has hung up, and end the phase after the request.
                late = [trace for trace in traces if trace["end"] == "late"]
                self.assertLessEqual({span["name"] for trace in late for span in trace["spans"]},
                                     {"engine.queue", "engine.prefill", "engine.decode"})
                self.assertFalse([trace for trace in late if "linked" in trace])
                self.assertLessEqual({trace["request_id"] for trace in late},
                                     {line["request"] for line in self.requests if line["cancelled"]})
                traces = [trace for trace in traces if trace not in late]
                self.assertEqual({trace["request_id"] for trace in traces}, set(numbers))
                self.assertEqual(len(traces), self.CLIENTS)
                self.assertEqual({trace["end"] for trace in traces}, {"finished"})
                found = {}
                for trace in traces:
                    for linked in trace.get("linked", ()):
                        self.assertEqual(linked["name"], "engine.step")
                        found[numbers[trace["request_id"]]] = [linked["count"], *(linked[fact] for fact in OF_MEMBERS)]
                self.assertEqual(found, books)
                steps = end["traces"]["steps"]
                self.assertEqual((steps["all"], steps["members"]["joined"]),
                                 (len(self.steps), sum(line["batch_size"] for line in self.steps)))
                self.assertEqual(steps["members"]["all"], steps["members"]["joined"])
                self.assertEqual((steps["requests_by_own_key"], steps["requests_not_ended"]), (0, 0))

    def test_steps_add_up_to_the_requests(self):
        for fact in ("drafted_tokens", "accepted_tokens"):
            self.assertEqual(sum(line[fact] for line in self.steps), sum(line[fact] for line in self.requests), fact)
        self.assertEqual(sum(line["decode_tokens"] for line in self.steps),
                         sum(line["output_tokens"] for line in self.requests))
        self.assertEqual(sum(line["prefill_tokens"] for line in self.steps),
                         sum(line["prefill_tokens"] + line["recomputed_tokens"] for line in self.requests))

    def test_phases_add_up_to_the_requests(self):
        for document in self.tops.values():
            facts = facts_of(document)
            self.assertEqual(facts["engine.prefill"][1]["nopspan.recomputed_tokens"],
                             sum(line["recomputed_tokens"] for line in self.requests))
            self.assertEqual(facts["engine.queue"][0],
                             self.CLIENTS + sum(line["preemptions"] for line in self.requests))

    def check_gaps(self, document, of):
        """Compares a document of nopspan hist with the gaps in the books."""
        gaps = [gap for line in self.requests for gap in line["gaps"]]
        if of == "token-gap":
            gaps = [[gap // tokens, 1] for gap, tokens in gaps for _ in range(tokens)]
        gaps = sorted(gap for gap, _ in gaps)
        (row,) = document["rows"]
        found = row["histogram"]
        self.assertEqual((found["count"], found["max"], document["malformed"]), (len(gaps), gaps[-1], 0))
        self.assertAlmostEqual(found["sum"], sum(gaps), delta=0.031 * sum(gaps) + 32 * len(gaps))
        for percent in (50, 90, 99):
            exact = gaps[-(-len(gaps) * percent // 100) - 1]
            self.assertAlmostEqual(row["p%d" % percent], exact, delta=0.047 * exact + 32, msg=percent)

    def test_gaps_between_tokens(self):
        self.assertGreater(max(tokens for line in self.requests for _, tokens in line["gaps"]), 1)
        for of in GAPS:
            text = output_of("hist", "--from", self.recording, "--of", of, "--by", "name,engine", "--name", "engine.request")
            self.check_gaps(json.loads(text), of)
            self.check_gaps(self.readers[of].document(), of)

    def test_reasons(self):
        for document in self.tops.values():
            (row,) = [row for row in document["engine_facts"] if row["name"] == "engine.preempted"]
            self.assertEqual(row["counts"]["nopspan.reason"], {"no_blocks": len(self.of("preempted"))})

    def test_positions_of_accepted_tokens_in_the_recording(self):
        found = {entry["request_id"]: entry["attributes"].get("nopspan.accepted_by_position", [])
                 for entry in self.spans("engine.request")}
        self.assertEqual(found, {line["request"]: line["accepted_by_position"] for line in self.requests})

    def test_handlers(self):
        ends = collections.defaultdict(list)
        for line in self.handled:
            ends[line["event"]].append({**line["metadata"], **line["measurements"], "status": line["status"]})
        self.assertEqual(len(ends["engine.request.stop"]), self.CLIENTS)
        self.assertEqual(sum(end["status"] == CANCELLED for end in ends["engine.request.stop"]),
                         sum(line["cancelled"] for line in self.requests))
        for fact in (*FACTS, "input_tokens", "output_tokens", "cached_tokens"):
            self.assertEqual(sum(end.get(fact, 0) for end in ends["engine.request.stop"]),
                             sum(line[fact] for line in self.requests), fact)
        self.assertEqual(len(ends["engine.step.stop"]), len(self.steps))
        for fact in ("batch_size", "prefill_tokens", "decode_tokens"):
            self.assertEqual([end[fact] for end in ends["engine.step.stop"]], [line[fact] for line in self.steps], fact)
        for event in ("preempted", "evicted", "prefix_cache"):
            self.assertEqual(len(ends["engine." + event]), len(self.of(event)), event)


class Slots8(All, Run):
    SLOTS, CLIENTS = 8, 40


@harness.unittest.skipUnless(LONG, "NOPSPAN_LONG=1 runs it")
class Slots1024(All, Run):
    SLOTS, CLIENTS = 1024, 1400
    # Most requests are sent before the first ones are answered. More than 512 are in a step, and later too many.
    TOKENS, TOKEN_DELAY_US, ROOM = 250, 300000, 80

    @classmethod
    def setUpClass(cls):
        # For the connections of the clients, and those of the server, which inherits it.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        super().setUpClass()


class InTheMiddle(Run):
    """Attached while requests run that take long. Some of them are preempted later."""

    EARLY, LATE = 8, 6
    OPTIONS = ("--slots", "12", "--threads", "40", "--context", "8192", "--kv-tokens", "8192", "--draft-tokens", "2",
               "--prefill-tokens", "64", "--token-delay-us", "5000")

    @classmethod
    def run_engine(cls, folder, options, events):
        with contextlib.ExitStack() as stack:
            early = cls.begin_untraced(stack, folder, options)
            cls.readers = readers(cls.recording, "--pid", str(cls.server.pid))
            cls.scripts = {name: Script(name) for name in SCRIPTS}
            for reader in (*cls.readers.values(), *cls.scripts.values()):
                stack.enter_context(reader)
            top = cls.readers["top"]
            top.wait_while_it_runs(lambda: "engine.step" in facts_of(top.last()), "a step")
            cls.open = [json.loads(output_of("open", "--pid", cls.server.pid))]
            cls.alone = top.last()
            top.wait_while_it_runs(lambda: "engine.preempted" in facts_of(top.last()), "a preemption")
            for client in early:
                client.leave.set()
            late = [Client(cls.server, number, 20) for number in range(cls.EARLY, cls.EARLY + cls.LATE - 1)]
            for client in early + late:
                client.join()
            late.append(Client(cls.server, cls.EARLY + cls.LATE - 1, 20))  # finds the prefix of one that has ended
            late[-1].join()
            errors = [client.error for client in early + late if client.error is not None]
            assert not errors, errors

    @classmethod
    def begin_untraced(cls, stack, folder, options):
        """Starts the server and the early requests. If another tracer on this machine raises the server's gate meanwhile, the
        spans of these requests are recorded, and both are started again."""
        for _ in range(5):
            with contextlib.ExitStack() as trial:
                cls.server = trial.enter_context(Server(tempfile.mkdtemp(dir=folder), *options))
                early = [Client(cls.server, number, FOREVER) for number in range(cls.EARLY)]
                for client in early:
                    wait_until(client.answers.is_set, "its first token")
                (copy,) = json.loads(output_of("ps", cls.server.pid))["processes"][0]["copies"]
                if not any(copy["gate"].values()):
                    stack.push(trial.pop_all())
                    return early
                print("raised by another tracer:", copy["gate"], copy["tracers"], file=sys.stderr)
                for client in early:
                    client.leave.set()
                    client.join()
            time.sleep(3)
        raise AssertionError("other tracers raised the server's gate five times")

    def seen(self, count):
        """The last steps of the books. A reader sees all steps from some time on."""
        self.assertLess(0, count)
        self.assertLess(count, len(self.steps))
        return self.steps[-count:]

    def early(self, steps):
        """The requests of these steps that began before the attach."""
        return {number for line in steps for number, *_ in line["members"] if number <= self.EARLY}

    def test_the_run(self):
        self.assertEqual(len(self.requests), self.EARLY + self.LATE)
        self.assertGreater(sum(line["preemptions"] for line in self.requests if line["number"] <= self.EARLY), 0)

    def test_steps_are_no_requests_in_top(self):
        self.assertGreater(facts_of(self.alone)["engine.step"][0], 0)
        self.assertEqual([self.total(self.alone, key) for key in ("requests", "received")], [0, 0])
        self.assertGreater(self.alone["requests_before_attach"], 0)
        for name, document in self.tops.items():
            with self.subTest(name):
                facts = facts_of(document)
                count, sums = facts["engine.step"]
                seen = self.seen(count)
                for fact in OF_STEPS:
                    self.assertEqual(sums["nopspan." + fact], sum(line[fact] for line in seen), fact)
                self.assertEqual((facts["engine.request"][0], self.total(document, "requests")), (self.LATE, self.LATE))
                self.assertEqual(document["requests_before_attach"], len(self.early(seen)))
                self.assertEqual(document["engine_facts_dropped"], 0)

    def test_members_in_the_recording(self):
        numbers = {line["request"]: line["number"] for line in self.requests}
        keys = {("span_id", entry["span_id"]): numbers[entry["request_id"]] for entry in self.spans("engine.request")}
        self.assertEqual(set(keys.values()), set(range(self.EARLY + 1, self.EARLY + self.LATE + 1)))
        keys.update({("own_key", number): number for number in range(1, self.EARLY + 1)})
        found = self.recorded_steps()
        seen = self.seen(len(found))
        self.assertEqual([step["step"]["number"] for step, _ in found], [line["step"] for line in seen])
        for (_, members), line in zip(found, seen):
            self.assertEqual(sorted([keys[key], *tokens] for key, *tokens in members), sorted(line["members"]))
        for fact in OF_STEPS:
            self.assertEqual(self.hist(fact, "engine.step")["sum"], sum(line[fact] for line in seen), fact)

    def test_traces_are_those_of_the_requests_that_began_later(self):
        late = {line["request"]: line["number"] for line in self.requests if line["number"] > self.EARLY}
        for name, (*traces, end) in self.traces.items():
            with self.subTest(name):
                traces = {trace["request_id"]: trace for trace in traces
                          if self.server.pid in [each["pid"] for each in trace["processes"]]}
                self.assertEqual(set(traces), set(late))
                steps = end["traces"]["steps"]
                seen = self.seen(steps["all"])
                books = sums_of_members(seen)
                for request_id, number in late.items():
                    linked, = traces[request_id]["linked"]
                    self.assertEqual([linked["count"], *(linked[fact] for fact in OF_MEMBERS)], books[number])
                self.assertEqual(steps["requests_by_own_key"], len(self.early(seen)))
                self.assertEqual(steps["requests_not_ended"], 0)
                members = steps["members"]
                self.assertEqual(members["unknown"], sum(books[number][0] for number in self.early(seen)))
                self.assertEqual(members["joined"], sum(books[number][0] for number in late.values()))
                self.assertEqual(members["all"], members["unknown"] + members["joined"])
        said = re.search("^Known only from engine steps: (\\d+) requests by a key of the engine's own \\(",
                         "\n".join(self.readers["text"].said), re.M)
        self.assertIn(int(said[1]), {len(self.early(self.steps[i:])) for i in range(len(self.steps))})

    def test_open_lists_their_keys(self):
        for document in self.open:
            # A request that was preempted has no slot and is in no step, but its new phase is known.
            names = {span["name"] for request in document["requests"] for span in request["spans"]}
            self.assertLessEqual(names, {"engine.queue", "engine.prefill", "engine.decode"})
            roots = {span.get("root") for request in document["requests"] for span in request["spans"]}
            self.assertLessEqual(roots, {"orphan"})
            self.assertIn([process["early_request_keys"] for process in document["processes"]],
                          [[sorted(self.early([line]))] for line in self.steps])

    def test_phases_that_begin_later_are_no_requests_and_have_labels(self):
        late = {line["request"] for line in self.requests if line["number"] > self.EARLY}
        early = [entry for entry in self.entries if entry["type"] == "span" and entry["name"] != "engine.step"
                 and entry["request_id"] not in late]
        self.assertLessEqual({"engine.queue", "engine.prefill", "engine.decode"}, {entry["name"] for entry in early})
        for entry in early:
            self.assertIn("orphan", entry["flags"], entry)
            self.assertEqual((entry["engine"], entry["model"]), ("example", MODEL), entry)

    def test_the_scripts(self):
        engine, latency, tokens = (self.scripts[name].maps() for name in SCRIPTS)
        seen = self.seen(sum(engine["steps"].values()))
        for fact in OF_MEMBERS:
            kind = ", " + fact.replace("_tokens", "")
            self.assertEqual(sum(count for key, count in engine["step_tokens"].items() if key.endswith(kind)),
                             sum(line[fact] for line in seen), fact)
        late = [line for line in self.requests if line["number"] > self.EARLY]
        self.assertEqual(sum(latency["queue_us"]["engine.request, " + MODEL].values()), self.LATE)
        for what in ("input_tokens", "output_tokens", "cached_tokens"):
            found = sum(count for key, count in tokens[what].items() if key.startswith("engine.request, %s, " % MODEL))
            expected = sum(line[what] for line in late)
            self.assertGreater(expected, 0, what)
            self.assertEqual(found, expected, what)


class BlameCommand(Followed):
    def __init__(self, *options):
        super().__init__([harness.NOPSPAN, "blame", "--json", *map(str, options)])

    def wait_until_up(self):
        self.wait_until_it_says("^Reading the steps")

    def objects(self):
        return [json.loads(line) for line in self.lines]


class Blame(Test):
    def test_the_giant_is_named_in_one_command(self):
        """Short requests, whose spans may arrive before their steps, are all charged."""
        prompts = ["Explain step %d." % number for number in range(300)]
        prompts[150] = "giant prompt " * 2500

        def ask(number):
            body = json.dumps({"model": MODEL, "ignore_eos": True, "max_tokens": 1 + number % 40, "messages": [{"role": "user", "content": prompts[number]}]})
            request = urllib.request.Request(server.url + "/v1/chat/completions", body.encode(),
                                             {"Content-Type": "application/json", "OpenAI-Organization": "giant" if number == 150 else "acme"})
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                answer.read()

        with Server(self.temporary_folder(), "--threads", "32", "--fail-rate", "0", "--cut-rate", "0", "--prompt-delay-us", "20") as server, \
                BlameCommand("--pid", server.pid) as blame:
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(ask, range(len(prompts))))
            self.assertEqual(blame.stop(), 0)
        requests = [one for one in blame.objects() if one["type"] == "request"]
        self.assertEqual(len(requests), len(prompts))
        table, = [one for one in blame.objects() if one["type"] == "table"]
        self.assertEqual((table["not_ended"], table["members_over_limit"]), (0, 0))
        by_giant = [culprit for one in requests if one["tenant"] == "acme" for culprit in one["stalled_by"] if culprit["tenant"] == "giant"]
        self.assertGreater(max(culprit["prefill_tokens"] for culprit in by_giant), 2500)
        # On a busy machine the times of steps scatter, and the table leaves out requests that are not sure.
        sure = sum(culprit["ns"] for one in requests if one["tenant"] == "acme" and one["sure"]
                   for culprit in one["stalled_by"] if culprit["tenant"] == "giant")
        stalls = {(one["victim"], one["by"]): one["ns"] for one in table["stalls"]}
        self.assertEqual(("acme", "giant") in stalls, sure > 0)
        self.assertEqual(table["unsure"], sum(not one["sure"] for one in requests))
        if sure > 0:
            self.assertAlmostEqual(stalls["acme", "giant"] / sure, 1, delta=0.05)


if __name__ == "__main__":
    example_service.need()
    harness.main()
