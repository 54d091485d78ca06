# SPDX-License-Identifier: Apache-2.0
"""scripts/slow.bt: the slow requests and all of their spans agree with what handlers received in both processes."""

import collections
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile

import example_service
import installed
from example_service import AGENT, Agent, Server, lines_of
from harness import PATIENCE_S, SOURCE, Program, Test, wait_until

MODEL = "nopspan-ngram"
STATUS = ("ok", "error", "cancelled", "exception")
SLOW_MS = 150
ONE_IN = 3
# More than the script can hold.
NEVER_ENDING = 6000
# Answers of a few tokens and of many, at 3 ms per token, which gives requests on both sides of SLOW_MS. The tests do
# not rely on this.
FAST, SLOW = ("acme", "5"), ("other", "120")

HEAD = re.compile(r"\d\d:\d\d:\d\d (.*) (\S+) (\d+)\.(\d{3}) ms$")
ROW = re.compile(r" *(-?) *(\d+)\.(\d{3}) +(?:(\d+)\.(\d{3})|open) +(?:(\*?) *(\d+)\.(\d{3})|-) +"
                 r"(\d+) ((?:\|  )*)(\S+)(.*)$")

Row = collections.namedtuple("Row", "start us self_us marked pid depth name rest")
Tree = collections.namedtuple("Tree", "request_id name us rows notes spans")


def microseconds(whole, thousandths):
    return None if whole is None else int(whole) * 1000 + int(thousandths)


def trees(lines):
    """A Tree for each request that was printed completely. Times are in us, or None for `open` and `-`."""
    found, rows, notes = [], [], []
    for line in lines:
        head, row = HEAD.match(line), ROW.match(line)
        if head:
            first, rows, notes = head, [], []
        elif row:
            start = microseconds(row[2], row[3]) * (-1 if row[1] else 1)
            rows.append(Row(start, microseconds(row[4], row[5]), microseconds(row[7], row[8]), row[6] == "*",
                            int(row[9]), len(row[10]) // 3, row[11], row[12].strip()))
        elif re.match(r" +(\+\d+ more|\d+ spans missing)", line):
            notes.append(line.strip())
        elif re.match(r" +\d+ spans$", line):
            found.append(Tree(first[1], first[2], microseconds(first[3], first[4]), rows, notes, int(line.split()[0])))
    return found


class Span:
    """One span of the record. Handlers receive no end of an iteration, so it has no end here."""

    def __init__(self, start):
        self.id, self.parent_id, self.pid = start["span_id"], start["parent_id"], start["pid"]
        self.request_id, self.begun = start["request_id"], start["measurements"]["system_time"]
        self.start_ns = start["measurements"].get("monotonic_time")
        self.name = start["event"].removesuffix(".start").removesuffix("_start")
        self.duration_ns = self.end_ns = None
        self.rest = "ok (%s)" % MODEL

    def end(self, stop):
        self.duration_ns, self.end_ns = stop["measurements"]["duration"], stop["measurements"]["monotonic_time"]
        error = stop["attributes"].get("error.type")
        self.rest = STATUS[stop["status"]] + (" " + error if error else "") + " (%s)" % MODEL


def record_of(*files):
    """{request id: its spans in the order in which they began}. The first one is the root span."""
    spans = {}
    for event in itertools.chain(*map(lines_of, files)):
        if event["event"] == "agent.operator.iteration_start" or event["event"].endswith(".start"):
            spans[event["span_id"]] = Span(event)
        elif event["event"].endswith((".stop", ".exception")) and event["span_id"] in spans:
            spans[event["span_id"]].end(event)
    requests = collections.defaultdict(list)
    for span in sorted(spans.values(), key=lambda span: span.begun):
        if span.name != "engine.step":  # it serves requests and belongs to none
            requests[span.request_id].append(span)
    return dict(requests)


def sequence(spans):
    """(depth, span) in the order of a tree. The spans of an example's request never overlap their siblings."""
    children = collections.defaultdict(list)
    for span in spans:
        children[span.parent_id].append(span)

    def below(span, depth):
        yield depth, span
        for child in children[span.id]:
            yield from below(child, depth + 1)
    return list(below(spans[0], 0)), children


def run_service(folder):
    prompts = ("What is 6 * 7?", "Explain spans to me.", "What is 1 / 0?")
    files = [os.path.join(folder, name) for name in ("server", *FAST[:1], *SLOW[:1])]
    options = ("--fail-rate", "0.2", "--seed", "7", "--token-delay-us", "3000")
    with Server(folder, *options, events=files[0]) as server:
        for (tenant, tokens), file in zip((FAST, SLOW), files[1:]):
            agent = Agent(server.url, *prompts, "--requests", "9", "--concurrency", "3",
                          "--organization", tenant, "--max-tokens", tokens, "--ignore-eos", "--max-attempts", "12",
                          "--retry-delay-ms", "5", events=file)
            if agent.status != 0:
                raise AssertionError("the agent ended with %d" % agent.status)
    return server.pid, files


class Service(Test):
    """One run under all scripts. Each test checks one thing."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        with installed.Script("slow.bt", SLOW_MS) as slow, \
                installed.Script("slow.bt", 0) as whole, \
                installed.Script("slow.bt", 0, 0, FAST[0]) as tenant, \
                installed.Script("slow.bt", 0, 0, "", ONE_IN) as sampled, \
                installed.Script("trace.bt", "", 0, FAST[0]) as trace_tenant, \
                installed.Script("trace.bt", "", 0, "", ONE_IN) as trace:
            cls.server_pid, files = run_service(folder)
            cls.record = record_of(*files)
            cls.tenants = {event["request_id"]: event["metadata"]["tenant"] for file in files[1:]
                           for event in lines_of(file) if event["event"] == "llm.chat.start"}
            cls.slow_ids = {i for i, spans in cls.record.items() if spans[0].duration_ns > SLOW_MS * 1000000}
            cls.sampled_ids = {i for i in cls.record if installed.is_sampled(i, ONE_IN)}
            cls.fast_ids = {i for i, name in cls.tenants.items() if name == FAST[0]}
            cls.slow = cls.read(slow, cls.slow_ids)
            cls.whole = cls.read(whole, cls.record)
            cls.tenant = cls.read(tenant, cls.fast_ids)
            cls.sampled = cls.read(sampled, cls.sampled_ids)
            cls.traced_sampled = cls.read_trace(trace, cls.sampled_ids)
            cls.traced_tenant = cls.read_trace(trace_tenant, cls.fast_ids)

    @classmethod
    def read_trace(cls, script, ids):
        """(pid, request id) of the lines for this run's requests, after their ends have been printed."""
        script.wait_for(lambda: None, [r" %s - llm\.chat " % re.escape(i) for i in ids])
        rows = (re.match(r" *[\d.]+ +(\d+) (\S+) +(?:\|  )*[+.-] ", line) for line in script.stop())
        return {(int(row[1]), row[2]) for row in rows if row and row[2] in cls.record}

    @classmethod
    def read(cls, script, ids):
        """Waits for the trees of these requests. Returns all trees of this run, and the counts."""
        wait_until(lambda: set(ids) <= {tree.request_id for tree in trees(list(script.lines))},
                   "trees of %s in %s" % (ids, script.lines[-40:]))
        script.stop()
        return [tree for tree in trees(script.lines) if tree.request_id in cls.record], script.maps()

    def check_trees(self, found, ids):
        self.assertEqual(collections.Counter(tree.request_id for tree in found), collections.Counter(list(ids)))
        for tree in found:
            self.check_tree(tree, self.record[tree.request_id])

    def check_tree(self, tree, spans):
        expected, children = sequence(spans)
        root = spans[0]
        self.assertEqual((tree.name, tree.us, tree.notes, tree.spans),
                         (root.name, root.duration_ns // 1000, [], len(spans)))
        self.assertEqual([(row.depth, row.name, row.pid) for row in tree.rows],
                         [(depth, span.name, span.pid) for depth, span in expected])
        row_of = {span.id: row for row, (_, span) in zip(tree.rows, expected)}
        for row, (_, span) in zip(tree.rows, expected):
            if span.start_ns is not None:
                self.assertEqual(row.start, (span.start_ns - root.start_ns) // 1000, row)
            if row.us is None:  # open when the request was printed, so it ended later
                self.assertGreater(span.end_ns, root.end_ns)
                self.assertEqual((row.self_us, row.rest), (None, ""))
                continue
            self.assertEqual(row.rest, span.rest)
            if span.duration_ns is None:
                continue
            self.assertEqual(row.us, span.duration_ns // 1000)
            below = children[span.id]
            if any(row_of[child.id].us is None for child in below):
                self.assertIsNone(row.self_us)
                continue
            if all(child.duration_ns is not None for child in below):
                self_ns = max(0, span.duration_ns - sum(child.duration_ns for child in below))
                self.assertEqual((row.self_us, row.marked), (self_ns // 1000, self_ns >= root.duration_ns // 4))
            else:  # their printed times are truncated to us
                least = span.duration_ns // 1000 - sum(row_of[child.id].us + 1 for child in below)
                self.assertTrue(least <= row.self_us <= least + len(below) + 1, (row, least))

    def test_the_run_has_both_kinds(self):
        self.assertEqual(len(self.record), 18)
        self.assertTrue(0 < len(self.slow_ids) < 18)
        self.assertTrue(0 < len(self.sampled_ids) < 18 or ONE_IN == 1)
        self.assertTrue(any("error" in span.rest for spans in self.record.values() for span in spans))

    def test_slow_requests_and_no_others(self):
        self.check_trees(self.slow[0], self.slow_ids)

    def test_all_requests(self):
        self.check_trees(self.whole[0], self.record)
        for tree in self.whole[0]:
            self.assertEqual({row.pid == self.server_pid for row in tree.rows}, {True, False})

    def test_counts_at_the_end(self):
        # Requests of canaries and of other programs may be included.
        requests, slower = (self.slow[1][name][""] for name in ("requests", "slower"))
        self.assertGreaterEqual(requests, len(self.record))
        self.assertGreaterEqual(slower, len(self.slow_ids))
        self.assertEqual(self.whole[1]["requests"], self.whole[1]["slower"])

    def test_one_tenant(self):
        self.assertEqual(len(self.fast_ids), 9)
        self.check_trees(self.tenant[0], self.fast_ids)

    def test_one_request_in_some_whole_over_both_processes(self):
        self.check_trees(self.sampled[0], self.sampled_ids)

    def check_traced(self, rows, ids):
        self.assertEqual({i for pid, i in rows if pid == self.server_pid}, ids)
        self.assertEqual({i for pid, i in rows if pid != self.server_pid}, ids)

    def test_trace_of_one_request_in_some(self):
        """trace.bt takes the same requests, and each of them in both processes."""
        self.check_traced(self.traced_sampled, self.sampled_ids)

    def test_trace_of_one_tenant(self):
        self.check_traced(self.traced_tenant, self.fast_ids)


class Commands(Test):
    """Programs that make spans on command."""

    def request(self, program, request_id, *commands):
        program.ask("attach " + request_id)
        for command in commands:
            program.ask(command)
        program.ask("detach")

    def wait_for_trees(self, script, *ids):
        def all_there():
            self.assertTrue(script.is_running())
            return set(ids) <= {tree.request_id for tree in trees(list(script.lines))}
        wait_until(all_there, "trees of %s in %s" % (ids, script.lines[-40:]))

    def tree(self, script, request_id):
        found = [tree for tree in trees(script.lines) if tree.request_id == request_id]
        self.assertEqual(len(found), 1, script.lines)
        return found[0]

    def test_one_process_and_a_request_that_ran_before(self):
        with Program("traced") as program, Program("traced") as other:
            program.ask("attach before")
            program.ask("begin ran_before")
            with installed.Script("slow.bt", 0, program.pid) as script:
                program.ask("begin within_it")
                program.ask("end")
                program.ask("end")
                program.ask("detach")
                program.ask("span orphan")
                self.request(other, "of-another", "span x")
                self.request(program, "mine", "begin outer", "span inner 2", "end")
                self.request(program, "last", "span one")
                self.wait_for_trees(script, "mine", "last")
                script.stop()
        # `within_it` belongs to a known request. It only has a parent if another tracer was attached before.
        found = trees(script.lines)
        self.assertEqual({tree.request_id for tree in found} - {"before"}, {"mine", "last"})
        self.assertLessEqual({row.name for tree in found if tree.request_id == "before" for row in tree.rows},
                             {"within_it"})
        self.assertEqual([(row.depth, row.name, row.rest) for row in self.tree(script, "mine").rows],
                         [(0, "outer", "ok"), (1, "inner", "ok"), (1, "inner", "ok")])

    def test_more_spans_than_rows(self):
        with Program("traced") as program:
            with installed.Script("slow.bt", 0, program.pid) as script:
                self.request(program, "long", "begin outer", "begin short", "span leaf 2", "end", "begin inner",
                             "span leaf 70", "begin deep", "span deeper 3", "end", "end", "span leaf 5", "end")
                self.request(program, "after", "begin outer", "span leaf 2", "end")
                self.wait_for_trees(script, "long", "after")
                script.stop()
        tree = self.tree(script, "long")
        self.assertEqual([row.name for row in tree.rows], ["outer", "short"] + ["leaf"] * 2 + ["inner"] + ["leaf"] * 59)
        self.assertEqual((tree.notes, tree.spans), (["+20 more spans"], 84))
        # A span with children that are not shown has no self time.
        self.assertEqual([row.self_us is None for row in tree.rows[:5]], [True, False, False, False, True])
        after = self.tree(script, "after")
        self.assertEqual(([row.name for row in after.rows], after.notes), (["outer", "leaf", "leaf"], []))
        self.assertIsNotNone(after.rows[0].self_us)

    def test_requests_that_never_end(self):
        """They fill all slots, and the script reports this. It then discards them, and there is room again."""
        stuck = Program("traced")
        self.addCleanup(installed.kill, stuck)
        with Program("traced") as program:
            with installed.Script("slow.bt", 0, 0, "", 0, 1) as script:
                for number in range(NEVER_ENDING):
                    stuck.ask("attach stuck-%d" % number)
                    stuck.ask("begin never_ends")
                installed.kill(stuck)
                for notice in ("Too many open requests", "not ended after 1 s are dropped"):
                    script.wait_for_line(lambda line, notice=notice: notice in line, notice)
                numbers = itertools.count()

                def is_shown():
                    number = next(numbers)
                    self.request(program, "again-%d" % number, "begin outer", "span inner 2", "end")
                    return any(tree.request_id.startswith("again-") for tree in trees(list(script.lines)))
                wait_until(is_shown, "a request after those that were given up")
                self.request(program, "last", "span x")
                script.stop()
        maps = script.maps()
        shown = [tree for tree in trees(script.lines) if tree.request_id.startswith("again-")]
        self.assertGreater(maps["no_room"][""], 0)
        self.assertTrue(0 < maps["given_up"][""] <= 4096)
        for tree in shown:
            self.assertEqual(([row.name for row in tree.rows], tree.notes), (["outer", "inner", "inner"], []))


class KilledServer(Test):
    def test_its_spans_are_open_when_the_request_has_ended(self):
        folder = self.temporary_folder()
        with installed.Script("slow.bt", 0) as script, installed.TraceScript() as trace:
            server = Server(folder, "--token-delay-us", "100000")
            agent = subprocess.Popen([AGENT, "--base-url", server.url, "--json", "--max-attempts", "1", "--search-root",
                                      os.path.join(SOURCE, "examples"), "--ignore-eos", "Explain spans."],
                                     stdout=subprocess.DEVNULL)
            wait_until(lambda: trace.has(r" %d .*\+ engine\.decode" % server.pid), "the server to be in the middle")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            self.assertEqual(agent.wait(PATIENCE_S), 1)
            wait_until(lambda: any(row.pid == agent.pid for tree in trees(list(script.lines)) for row in tree.rows),
                       "the request's tree")
            trace.stop()
            script.stop()
        tree = [tree for tree in trees(script.lines) if tree.rows[0].pid == agent.pid][0]
        rows = {row.name: row for row in tree.rows}
        for name in ("engine.request", "engine.decode"):
            self.assertEqual((rows[name].us, rows[name].self_us, rows[name].rest), (None, None, ""))
        self.assertTrue(rows["llm.step"].rest.startswith(("exception", "error")), rows)
        self.assertIsNone(rows["llm.step"].self_us)
        self.assertIsNotNone(rows["engine.prefill"].self_us)
        self.assertIsNotNone(rows["llm.chat"].self_us)


if __name__ == "__main__":
    example_service.need()
    installed.main("unshare")
