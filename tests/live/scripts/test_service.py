# SPDX-License-Identifier: Apache-2.0
"""spans.bt, latency.bt, errors.bt, tokens.bt, slow.bt and trace.bt in one run of the example service. Their numbers must
agree with what the handlers of the agents and the server received."""

import collections
import os
import re

import example_service
import installed
from bpftrace_output import histogram
from example_service import Agent, Server, lines_of
from harness import SOURCE, Program, Test, wait_until
from project_script import Script, TraceScript

PROMPTS = ["What is 6 * 7?", "What is 1 / 0?", "Explain spans to me.", "What is 1 / 0?"]
TENANT = "acme"
SLOW_MS = 20
# Handlers receive only the start of this span.
ITERATION = "agent.operator.iteration"
STATUS = OK, ERROR, CANCELLED, EXCEPTION = range(4)
WORDS = ("ok", "error", "cancelled", "exception")

End = collections.namedtuple("End", "id parent name model tenant kind reason status ns first_ns tokens request_id pid")
SLOW_LINE = re.compile(r" *\d+ +(\d+) (\S+) +(\d+) ([* ]) *(\d+) (\S+) (\w+) \((.*)\) (\S*)$")


class Handlers:
    """What the handlers of a process received: the ends of spans, the retries, and the ids of iterations."""

    def __init__(self, path, tenant=None):
        self.ends, self.retries, self.iterations = [], [], set()
        names, first_ns = {}, {}
        for event in lines_of(path):
            name, _, what = event["event"].rpartition(".")
            metadata, measured, span_id = event["metadata"], event["measurements"], event["span_id"]
            if event["event"] == ITERATION + "_start":
                self.iterations.add(span_id)
            elif what == "start":
                names[span_id] = name
            elif event["event"] == "gen_ai.stream.first_token":
                first_ns[span_id] = measured["time_to_first_token"]
            elif event["event"] == "llm.adapter.retry":
                self.retries.append((names[span_id], metadata["reason"], metadata["delay_ms"], metadata["attempt"]))
            elif what in ("stop", "exception") and span_id in names:
                status = event["status"]
                attributes = event["attributes"]
                reason = attributes.get("nopspan.cancel.reason" if status == CANCELLED else "error.type", "")
                self.ends.append(End(span_id, event["parent_id"], name, metadata.get("model", ""),
                                     tenant or metadata.get("tenant", ""),
                                     metadata["kind"] if status == EXCEPTION else "", reason, status, measured["duration"],
                                     first_ns.get(span_id), metadata if "output_tokens" in metadata else None,
                                     event["request_id"], event["pid"]))


def grouped(pairs):
    """{key as bpftrace prints it: [values]} of the (parts of the key, value) pairs."""
    groups = collections.defaultdict(list)
    for parts, value in pairs:
        groups[", ".join(parts)].append(value)
    return groups


def each(groups, function):
    return {key: function(values) for key, values in groups.items()}


class Service(Test):
    """One run under all scripts, each of them also with its filters. Each test checks one script."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        files = {name: os.path.join(folder, name) for name in ("server", TENANT, "umbrella", "refused")}
        faults = ("--fail-rate", "0.3", "--cut-rate", "0.1", "--seed", "7", "--token-delay-us", "300")
        with Server(folder, *faults, events=files["server"]) as server:
            cls.server_pid = server.pid
            one = (server.pid, TENANT)
            cls.scripts = {name: Script(*words, library=None) for name, words in {
                "spans": ("spans.bt",), "spans of one": ("spans.bt", *one),
                "latency": ("latency.bt",), "latency of one": ("latency.bt", "engine.request", *one),
                "errors": ("errors.bt",), "errors of one": ("errors.bt", *one),
                "tokens": ("tokens.bt",), "tokens of one": ("tokens.bt", *one),
                "slow": ("slow.bt", 0), "slow of one": ("slow.bt", SLOW_MS, *one)}.items()}
            cls.scripts["trace"] = TraceScript(library=None)
            for script in cls.scripts.values():
                script.__enter__()
                cls.addClassCleanup(script.__exit__)
            cls.agents = [Agent(server.url, *PROMPTS, "--requests", "40", "--concurrency", "4", "--max-tokens", "20",
                                "--max-attempts", "12", "--retry-delay-ms", "3", "--organization", tenant, *options,
                                events=files[tenant]) for tenant, options in (
                                    (TENANT, ()), ("umbrella", ()), ("refused", ("--model", "no-such-model")))]
        handlers = [Handlers(path, None if name == "server" else name) for name, path in files.items()]
        cls.ends = [end for of in handlers for end in of.ends]
        cls.retries = [retry for of in handlers for retry in of.retries]
        cls.iterations = set().union(*(of.iterations for of in handlers))
        cls.one = [end for end in handlers[0].ends if end.tenant == TENANT]
        for name, ends in (("slow", cls.ends), ("slow of one", [e for e in cls.one if e.ns >= SLOW_MS * 1000000])):
            wait_until(lambda name=name, ends=ends: len(cls.slow_lines(name)) >= len(ends), "lines of all spans",
                       seen=lambda name=name, ends=ends: "%d of %d; others: %s" % (
                           len(cls.slow_lines(name)), len(ends),
                           [line for line in cls.scripts[name].lines if not SLOW_LINE.match(line)]))
        for script in cls.scripts.values():
            script.stop()
        cls.maps = {name: script.maps() for name, script in cls.scripts.items()}

    def of(self, name):
        return self.one if name.endswith("of one") else self.ends

    def map(self, script, name):
        """A map, without the rows of canaries and iterations."""
        return {key: value for key, value in self.maps[script][name].items()
                if "canary" not in key and not key.startswith(ITERATION)}

    def total(self, what):
        return sum(agent.summary[what] for agent in self.agents)

    def test_the_run_had_what_the_scripts_show(self):
        self.assertEqual([agent.status for agent in self.agents], [0, 0, 1])
        self.assertEqual({end.status for end in self.ends}, set(STATUS))
        self.assertEqual(len(self.retries), self.total("retries"))
        self.assertGreater(len(self.retries), 0)
        for maps in self.maps.values():
            self.assertEqual([maps[name].get("", 0) for name in ("not_shown", "not_listed")], [0, 0])

    def test_spans(self):
        for name in ("spans", "spans of one"):
            by_name = grouped(((end.name,), end) for end in self.of(name))
            self.assertEqual(self.map(name, "spans"), each(by_name, len))
            self.assertEqual(self.map(name, "latency_us"),
                             each(by_name, lambda ends: histogram(end.ns // 1000 for end in ends)))
            for what, statuses in (("errors", (ERROR, EXCEPTION)), ("cancelled", (CANCELLED,))):
                of_status = grouped(((end.name,), end) for end in self.of(name) if end.status in statuses)
                self.assertEqual(self.map(name, what), each(of_status, len))
        spans = self.maps["spans"]["spans"]
        self.assertEqual(spans[ITERATION], len(self.iterations))
        self.assertEqual([spans[name] for name in ("llm.chat", "llm.step", "llm.tool")],
                         [self.total(what) for what in ("requests", "steps", "tool_calls")])

    def test_the_slowest_requests(self):
        roots = collections.Counter()
        for end in self.ends:
            if end.name in ("llm.chat", "engine.request"):
                key = "%s, %d, %s" % (end.request_id, end.pid, end.name)
                roots[key] = max(roots[key], end.ns // 1000)
        bar = sorted(roots.values())[-10]  # a run of more than one interval has printed others too
        listed = {key: us for key, us in self.maps["spans"]["slowest_us"].items() if us >= bar}
        self.assertEqual(listed, {key: us for key, us in roots.items() if us >= bar})

    def test_latency(self):
        for name in ("latency", "latency of one"):
            ends = [end for end in self.of(name) if name == "latency" or end.name == "engine.request"]
            by_model = grouped(((end.name, end.model), end.ns // 1000) for end in ends)
            for what, function in (("latency_us", histogram), ("max_us", max), ("mean_us", lambda us: sum(us) // len(us))):
                self.assertEqual(self.map(name, what), each(by_model, function), what)
            streams = [end for end in ends if end.first_ns is not None]
            self.assertEqual(self.map(name, "ttft_us"), each(
                grouped(((end.name, end.model), end.first_ns // 1000) for end in streams), histogram))
            gaps = [((end.name, end.model), (end.ns - end.first_ns) // (end.tokens["output_tokens"] - 1) // 1000)
                    for end in streams if end.status == OK and end.tokens["output_tokens"] > 1]
            self.assertTrue(0 < len(gaps) < len(streams))
            self.assertEqual(self.map(name, "token_gap_us"), each(grouped(gaps), histogram))

    def test_errors(self):
        for name in ("errors", "errors of one"):
            failed = [end for end in self.of(name) if end.status in (ERROR, EXCEPTION)]
            rows = grouped(((end.name, end.kind, end.reason), end.request_id) for end in failed)
            self.assertEqual(self.map(name, "errors"), each(rows, len))
            cancelled = [end for end in self.of(name) if end.status == CANCELLED]
            self.assertTrue(cancelled)
            self.assertEqual(self.map(name, "cancelled"), each(
                grouped(((end.name, end.reason), end) for end in cancelled), len))
            self.assertEqual(self.map(name, "cancelled_output_tokens"), each(
                grouped(((end.name, end.reason), end.tokens["output_tokens"]) for end in cancelled if end.tokens), sum))
            for row, request_id in self.map(name, "latest_request").items():
                self.assertTrue(", retry, " in row or request_id in rows[row], row)
        # An exception in a step also passes through the step's iteration.
        self.assertEqual(sum(n for row, n in self.maps["errors"]["errors"].items() if row.startswith(ITERATION)),
                         sum(end.name == "llm.step" and end.status == EXCEPTION for end in self.ends))
        self.assertGreaterEqual(self.maps["errors"]["seen"][""], len(self.ends) + len(self.iterations))

    def test_retries(self):
        for what, place, function in (("retries", 2, len), ("retry_delay_ms", 2, sum), ("retry_attempt", 3, max)):
            self.assertEqual(self.map("errors", what), each(
                grouped((retry[:2], retry[place]) for retry in self.retries), function), what)
        self.assertNotIn("retries", self.maps["errors of one"])

    def test_tokens(self):
        for name in ("tokens", "tokens of one"):
            rows = grouped(((end.name, end.model, end.tenant), end.tokens) for end in self.of(name) if end.tokens)
            self.assertEqual(self.map(name, "requests"), each(rows, len))
            for kind in ("input", "output", "cached", "reasoning"):
                self.assertEqual(self.map(name, kind + "_tokens"), each(
                    rows, lambda found, kind=kind: sum(tokens.get(kind + "_tokens", 0) for tokens in found)), kind)
            self.assertEqual(self.map(name, "output_of_request"), each(
                rows, lambda found: histogram(tokens["output_tokens"] for tokens in found)))

    @classmethod
    def slow_lines(cls, name):
        found = filter(None, map(SLOW_LINE.match, list(cls.scripts[name].lines)))
        return [row for row in found if row[6] not in (ITERATION, "canary", "canary.within")]

    def test_slow_spans(self):
        inside_ns = collections.Counter()
        for end in self.ends:
            inside_ns[end.parent, end.pid] += end.ns
        # Handlers do not know how long the iterations inside a chat took.
        for name, ends, ms in (("slow", self.ends, 0), ("slow of one", [e for e in self.one if e.ns >= SLOW_MS * 1000000], SLOW_MS)):
            pids = {end.pid for end in ends}
            found = [row for row in self.slow_lines(name) if int(row[1]) in pids]
            self.assertEqual(
                collections.Counter((int(row[1]), row[2], int(row[3]), row[6], row[7], row[8], row[9]) for row in found),
                collections.Counter((e.pid, e.request_id, e.ns // 1000, e.name, WORDS[e.status], e.model, e.reason) for e in ends))
            self.assertEqual(
                collections.Counter((row[6], int(row[3]), int(row[5])) for row in found if row[6] != "llm.chat"),
                collections.Counter((e.name, e.ns // 1000, max(0, e.ns - inside_ns[e.id, e.pid]) // 1000)
                                    for e in ends if e.name != "llm.chat"))
            for row in found:
                self.assertEqual(row[4] == "*", int(row[5]) >= ms * 1000, row[0])

    def test_trace(self):
        rows = self.scripts["trace"].rows()
        agents = {agent.pid for agent in self.agents}
        said = collections.Counter(text.split()[0].rstrip(",") + " " + mark for pid, _, _, mark, text in rows if pid in agents)
        self.assertEqual(said["retry ."], self.total("retries"))
        self.assertEqual(said["calculator ."] + said["file_search ."], self.total("tool_calls"))
        self.assertEqual((said["llm.chat +"], said["llm.chat -"]), (self.total("requests"),) * 2)
        spans = collections.defaultdict(set)
        for pid, request_id, depth, mark, text in rows:
            if mark == "+":
                spans[request_id].add((pid in agents, depth, text.split()[0]))
        ids = [answer["request_id"] for agent in self.agents[:2] for answer in agent.summary["answers"]]
        self.assertEqual(len(set(ids)), 80)
        for request_id in ids:
            self.assertLessEqual({(True, 0, "llm.chat"), (True, 1, ITERATION), (True, 2, "llm.step"),
                                  (False, 3, "engine.request"), (False, 4, "engine.decode")}, spans[request_id])


class Commands(Test):
    """Programs that make spans on command."""

    def test_what_has_no_row_is_counted(self):
        with Program("traced") as program:
            rows = {"spans.bt": 100, "latency.bt": 100, "tokens.bt": 100, "errors.bt": 1000}
            scripts = {name: Script(name, *([""] if name == "latency.bt" else []), program.pid, library=None) for name in rows}
            for script in scripts.values():
                script.__enter__()
                self.addCleanup(script.__exit__)
            for number in range(1003):
                program.ask("cancel model-%d 0 0 reason-%d" % (number, number))
                program.ask("canary model-%d" % number)
                program.ask("span name-%d" % number)
            for script in scripts.values():
                script.stop()
        maps = {name: script.maps() for name, script in scripts.items()}
        for name, table in (("spans.bt", "spans"), ("latency.bt", "latency_us"), ("tokens.bt", "requests")):
            self.assertEqual(len(maps[name][table]), rows[name], name)
        self.assertEqual(sum(maps["spans.bt"]["spans"].values()) + maps["spans.bt"]["not_shown"][""],
                         sum(maps["errors.bt"]["seen"].values()))
        for name in rows:
            self.assertGreater(maps[name]["not_shown"][""], 0, name)

    def test_labels_of_a_plain_span_around_tokens(self):
        """tokens.bt does not attach to the starts or ends of spans. The attributes of an enclosing plain span reach the
        spans inside it nevertheless."""
        with Program("traced") as program:
            with Script("tokens.bt", program.pid, TENANT, library=None) as script:
                program.ask("within_plain")
                script.stop()
        self.assertEqual(script.maps()["requests"], {"llm.step, outer-model, acme": 1})
        with open(os.path.join(SOURCE, "scripts", "tokens.bt"), encoding="utf-8") as file:
            self.assertIsNone(re.search(r"(?m):span_(start|stop)$", file.read()))

    def test_slow_spans_that_never_end(self):
        stuck = Program("traced")
        self.addCleanup(stuck.kill)
        with Script("slow.bt", 1000000, library=None) as script:
            for number in range(5000):
                stuck.ask("attach stuck-%d" % number)
                stuck.ask("begin never_ends")
                stuck.ask("span inside")
            script.wait_for_line(lambda line: "too many open spans" in line, "too many open spans")
            script.stop()


if __name__ == "__main__":
    example_service.need()
    installed.main()
