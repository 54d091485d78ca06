# SPDX-License-Identifier: Apache-2.0
"""ttft.bt, tokens.bt, retries.bt and tools.bt. Their numbers must agree with what handlers in the traced programs
received."""

import collections
import concurrent.futures
import contextlib
import os
import re
import shutil
import tempfile

import example_service
import installed
from bpftrace_output import histogram
from example_service import PROMPTS, Agent, Server, lines_of
from harness import Program, Test

SCRIPTS = ("ttft.bt", "tokens.bt", "retries.bt", "tools.bt")
OK, FAILED, CANCELLED, EXCEPTION = range(4)
ROWS = 100
MORE = ROWS + 3


@contextlib.contextmanager
def attached(runs):
    """Starts all scripts and waits until each is attached. Ends all of them in any case. `runs`: {key: (script,
    arguments...)}."""
    scripts = {}
    try:
        for key, run in runs.items():
            scripts[key] = installed.Script(*run)
        for script in scripts.values():
            script.wait_until_up()
        yield scripts
    finally:
        for script in scripts.values():
            if script.is_running():
                script.process.kill()
                script.process.wait()


def stop(scripts):
    """Ends them, after each has also printed on its own interval."""
    for script in scripts.values():
        script.wait_for_line(lambda line: "totals so far" in line, "what was seen so far")
    with concurrent.futures.ThreadPoolExecutor(len(scripts)) as executor:
        list(executor.map(lambda script: script.stop(), scripts.values()))


def without_canaries(table):
    return {key: value for key, value in table.items() if "canary" not in key}


def average(values):
    return sum(values) // len(values)


class Groups(collections.defaultdict):
    """Lists of values, by the keys that bpftrace prints for a map."""

    def __init__(self):
        super().__init__(list)

    def add(self, *key_and_value):
        self[", ".join(key_and_value[:-1])].append(key_and_value[-1])

    def each(self, function):
        return {key: function(values) for key, values in self.items()}


class Handlers:
    """The values that the handlers of some processes received, by the keys of the scripts' maps."""

    def __init__(self, files):
        """files: [(path, tenant of the whole process or None)]."""
        self.first_tokens, self.gaps = Groups(), Groups()
        self.tokens = {kind: Groups() for kind in ("input", "output", "cached", "reasoning")}
        self.tenants = {kind: Groups() for kind in ("input", "output")}
        self.delays, self.attempts, self.requests = Groups(), Groups(), Groups()
        self.tools, self.tool_latency, self.tool_errors = Groups(), Groups(), Groups()
        for path, tenant in files:
            self._read(lines_of(path), tenant)

    def _read(self, events, tenant):
        spans, first_token_ns = {}, {}
        for event in events:
            name, _, what = event["event"].rpartition(".")
            metadata, span_id = event["metadata"], event["span_id"]
            if what == "start":
                spans[span_id] = name, metadata.get("model")
            elif event["event"] == "gen_ai.stream.first_token":
                first_token_ns[span_id] = event["measurements"]["time_to_first_token"]
                self.first_tokens.add(*spans[span_id], first_token_ns[span_id] // 1000)
            elif event["event"] == "llm.adapter.retry":
                key = metadata["reason"], *spans[span_id]
                self.delays.add(*key, metadata["delay_ms"])
                self.attempts.add(*key, metadata["attempt"])
                self.requests.add(*key, event["request_id"])
            elif what in ("stop", "exception"):
                self._end(name, event, tenant or metadata.get("tenant"), first_token_ns.get(span_id))

    def _end(self, name, event, tenant, first_token_ns):
        metadata, status = event["metadata"], event["status"]
        duration_ns = event["measurements"]["duration"]
        if name == "llm.tool":
            self.tools.add(metadata["tool_name"], status)
            self.tool_latency.add(metadata["tool_name"], duration_ns // 1000)
            if status in (FAILED, EXCEPTION):
                self.tool_errors.add(metadata["tool_name"], metadata["error.type"], status)
        if "output_tokens" not in metadata:
            return
        for kind, groups in self.tokens.items():
            groups.add(name, metadata["model"], metadata.get(kind + "_tokens", 0))
        for kind, groups in self.tenants.items():
            groups.add(tenant, name, metadata[kind + "_tokens"])
        if status == OK and first_token_ns is not None and metadata["output_tokens"] > 1:
            gap_ns = (duration_ns - first_token_ns) // (metadata["output_tokens"] - 1)
            self.gaps.add(name, metadata["model"], gap_ns // 1000)


class ExampleService(Test):
    """One run of the service for two tenants under the four scripts. Each test checks one script."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        files = {tenant: os.path.join(folder, tenant) for tenant in ("acme", "globex", "server")}
        with attached({script: (script,) for script in SCRIPTS}) as scripts:
            with Server(folder, "--fail-rate", "0.3", "--cut-rate", "0.1", "--seed", "7", "--token-delay-us", "300",
                        events=files["server"]) as server:
                cls.agents = [Agent(server.url, *PROMPTS * 4, "--concurrency", "4", "--seed", seed,
                                    "--max-attempts", "12", "--retry-delay-ms", "5", "--organization", tenant,
                                    events=files[tenant]) for tenant, seed in (("acme", "1"), ("globex", "2"))]
            stop(scripts)
        cls.seen = Handlers([(files["acme"], "acme"), (files["globex"], "globex"), (files["server"], None)])
        cls.lines = {name: script.lines for name, script in scripts.items()}
        cls.maps = {name: script.maps() for name, script in scripts.items()}

    def total(self, what):
        return sum(agent.summary[what] for agent in self.agents)

    def equal(self, script, table, expected):
        self.assertTrue(expected, "nothing to compare")
        self.assertEqual(without_canaries(self.maps[script][table]), expected, table)

    def test_the_run_had_what_the_scripts_show(self):
        self.assertEqual([agent.status for agent in self.agents], [0, 0])
        self.assertEqual(sum(map(len, self.seen.delays.values())), self.total("retries"))
        self.assertGreater(self.total("retries"), 0)
        self.assertEqual(sum(map(len, self.seen.tools.values())), self.total("tool_calls"))
        self.assertGreater(self.total("tool_errors"), 0)

    def test_nothing_was_left_out_or_left_over(self):
        for name, lines in self.lines.items():
            text = "\n".join(lines)
            self.assertNotIn("More than", text)
            self.assertEqual([shown for shown in self.maps[name] if shown.startswith("_") or shown == "not_shown"], [], text)

    def test_ttft(self):
        self.assertLess(sum(map(len, self.seen.gaps.values())), sum(map(len, self.seen.first_tokens.values())))
        self.assertEqual(set(self.seen.first_tokens), {"llm.step, nopspan-ngram", "engine.request, nopspan-ngram"})
        self.equal("ttft.bt", "ttft_us", self.seen.first_tokens.each(histogram))
        self.equal("ttft.bt", "token_gap_us", self.seen.gaps.each(histogram))

    def test_tokens(self):
        tokens = self.seen.tokens
        self.assertEqual(set(tokens["input"]), {"llm.step, nopspan-ngram", "engine.request, nopspan-ngram"})
        self.equal("tokens.bt", "requests", tokens["input"].each(len))
        for kind, groups in tokens.items():
            self.equal("tokens.bt", kind + "_tokens", groups.each(sum))
        self.equal("tokens.bt", "average_input", tokens["input"].each(average))
        self.equal("tokens.bt", "average_output", tokens["output"].each(average))
        self.equal("tokens.bt", "output_of_request", tokens["output"].each(histogram))
        steps = self.maps["tokens.bt"]
        self.assertEqual(steps["input_tokens"]["llm.step, nopspan-ngram"], self.total("prompt_tokens"))
        self.assertEqual(steps["cached_tokens"]["llm.step, nopspan-ngram"], self.total("cached_tokens"))
        self.assertGreater(self.total("cached_tokens"), 0)

    def test_tokens_by_tenant(self):
        tenants = self.seen.tenants
        self.assertEqual(set(tenants["input"]), {"acme, llm.step", "acme, engine.request", "globex, llm.step",
                                                 "globex, engine.request"})
        self.equal("tokens.bt", "tenant_input", tenants["input"].each(sum))
        self.equal("tokens.bt", "tenant_output", tenants["output"].each(sum))

    def test_retries(self):
        self.assertTrue(all(key.endswith(", llm.step, nopspan-ngram") for key in self.seen.delays))
        self.equal("retries.bt", "retries", self.seen.delays.each(len))
        self.equal("retries.bt", "delay_ms", self.seen.delays.each(sum))
        self.equal("retries.bt", "average_delay_ms", self.seen.delays.each(average))
        self.equal("retries.bt", "attempts", self.seen.attempts.each(collections.Counter))
        latest = without_canaries(self.maps["retries.bt"]["latest_request"])
        self.assertEqual(set(latest), set(self.seen.requests))
        for key, request_id in latest.items():
            self.assertIn(request_id, self.seen.requests[key])

    def test_tools(self):
        failed = {tool: sum(status in (FAILED, EXCEPTION) for status in found)
                  for tool, found in self.seen.tools.items()}
        self.assertEqual(set(failed), {"calculator", "file_search"})
        self.equal("tools.bt", "calls", self.seen.tools.each(len))
        self.equal("tools.bt", "failed", {tool: number for tool, number in failed.items() if number})
        self.equal("tools.bt", "latency_us", self.seen.tool_latency.each(histogram))
        self.equal("tools.bt", "errors", self.seen.tool_errors.each(len))
        self.assertEqual(without_canaries(self.maps["tools.bt"]["cancelled"]), {})


class Calls(Test):
    """Three programs that make calls with known numbers: calls that the service never makes, and more names than there
    are rows. Some scripts must only include one of two processes, or one of four tenants. `maps`: by script and
    filter."""

    TENANTS = ("acme", "acme-eu", "acm", "-")

    @classmethod
    def setUpClass(cls):
        with Program("model_calls") as calls, Program("model_calls") as one, Program("model_calls") as other:
            cls.pids = one.pid, other.pid
            looks_at = {"calls": (calls.pid,), "one": (one.pid, ""), "acme": (0, "acme")}
            with attached({(script, what): (script, *arguments) for script in SCRIPTS
                           for what, arguments in looks_at.items()}) as scripts:
                cls.make_calls(calls)
                for program in (one, other):
                    cls.make_calls_of_tenants(program)
                cls.make_a_hundred_names(one)
                tokens = scripts["tokens.bt", "calls"]
                tokens.wait_for_line(lambda line: line.startswith("@per_s[llm.step, soon, input]"), "tokens a second")
                cls.ask(calls, "call later globex 50000 10000 5000 500")
                tokens.wait_for_line(lambda line: line.startswith("@per_s[llm.step, later, input]"), "tokens a second")
                cls.make_too_many(calls)
                stop(scripts)
        cls.lines = {key: script.lines for key, script in scripts.items()}
        cls.maps = {key: script.maps() for key, script in scripts.items()}

    @staticmethod
    def ask(program, *commands):
        for command in commands:
            assert program.ask(command) == "done"

    @classmethod
    def make_calls(cls, program):
        cls.ask(program, "call soon globex 50000 10000 5000 500", "call early globex 3 2 0 0 early",
                "call one - 3 1 0 0",
                "retry m globex rate_limit 1 250 id-1", "retry m globex rate_limit 2 500 id-2",
                "retry m globex rate_limit 19 1 id-3", "retry m globex rate_limit 20 1 id-4",
                "retry m globex rate_limit 77 1 id-5", "retry m globex overloaded 1 0 id-6",
                "tool t globex ok -", "tool t globex cancel user_left", "tool t globex fail timeout",
                "tool t globex fail timeout", "tool t globex fail no_such_file", "tool t globex throw -")

    @classmethod
    def make_calls_of_tenants(cls, program):
        for tenant in cls.TENANTS:
            name = cls.name(program.pid, tenant)
            cls.ask(program, "call %s %s 10 5 2 1" % (name, tenant), "tool %s %s fail type" % (name, tenant),
                    "retry %s %s reason 1 10 id" % (name, tenant))

    @classmethod
    def make_a_hundred_names(cls, program):
        """Together with the names of its tenants, this is the number of rows."""
        for number in range(ROWS - len(cls.TENANTS)):
            cls.ask(program, "call n%d - 10 5 2 1" % number, "tool n%d - fail type" % number,
                    "retry n%d - reason 1 10 id" % number)

    @classmethod
    def make_too_many(cls, program):
        """MORE names of each kind, two calls of each. The names of the calls above already have rows."""
        for _ in range(2):
            for number in range(MORE):
                cls.ask(program, "call model-%03d tenant-%03d 10 5 2 1" % (number, number),
                        "retry m%03d globex reason-%03d 1 10 id-7" % (number, number),
                        "tool tool-%03d globex ok -" % number, "tool t globex fail type-%03d" % number)

    @staticmethod
    def name(pid, tenant):
        return "%d/%s" % (pid, tenant)

    def test_tokens_a_second(self):
        seconds, rates, intervals = None, {}, {}
        for line in self.lines["tokens.bt", "calls"]:
            if line.endswith("in the first second"):
                seconds = 1
            if line.endswith("in the last 5 s (0: less than one)"):
                seconds = 5
            row = re.match(r"@per_s\[llm.step, (soon|later), (\w+)\]: (\d+)$", line)
            if row:
                self.assertNotIn((row[1], row[2]), rates, "reported once")
                rates[row[1], row[2]] = int(row[3]) * seconds
                intervals[row[1]] = seconds
        wanted = {"input": 50000, "output": 10000, "cached": 5000, "reasoning": 500}
        self.assertEqual(rates, {(call, kind): value for call in ("soon", "later") for kind, value in wanted.items()})
        self.assertEqual(intervals["later"], 5)

    def test_tokens(self):
        maps = self.maps["tokens.bt", "calls"]
        for table, value in (("requests", 1), ("input_tokens", 50000), ("output_tokens", 10000),
                             ("cached_tokens", 5000), ("reasoning_tokens", 500), ("average_input", 50000),
                             ("average_output", 10000)):
            self.assertEqual(maps[table]["llm.step, soon"], value, table)
        self.assertEqual((maps["tenant_input"]["globex, llm.step"], maps["tenant_output"]["globex, llm.step"]),
                         (100003, 20002))
        self.assertEqual((maps["tenant_input"][", llm.step"], maps["tenant_output"][", llm.step"]), (3, 1))

    def test_a_stream_without_gaps_is_not_in_the_gaps(self):
        maps = self.maps["ttft.bt", "calls"]
        for model in ("soon", "early", "one"):
            self.assertEqual(sum(maps["ttft_us"]["llm.step, " + model].values()), 1, model)
        self.assertEqual(sum(maps["token_gap_us"]["llm.step, soon"].values()), 1)
        self.assertNotIn("llm.step, early", maps["token_gap_us"])
        self.assertNotIn("llm.step, one", maps["token_gap_us"])

    def test_retries(self):
        maps, key = self.maps["retries.bt", "calls"], "rate_limit, llm.step, m"
        self.assertEqual((maps["retries"][key], maps["delay_ms"][key], maps["average_delay_ms"][key]), (5, 753, 150))
        self.assertEqual(maps["attempts"][key], {1: 1, 2: 1, 19: 1, 20: 2})
        self.assertEqual(maps["latest_request"][key], "id-5")
        self.assertEqual(maps["latest_request"]["overloaded, llm.step, m"], "id-6")

    def test_tools(self):
        maps = self.maps["tools.bt", "calls"]
        self.assertEqual(maps["calls"]["t"], 6 + 2 * MORE)
        self.assertEqual(sum(maps["latency_us"]["t"].values()), 6 + 2 * MORE)
        self.assertEqual(maps["failed"], {"t": 4 + 2 * MORE})
        self.assertEqual(maps["cancelled"], {"t": 1})
        self.assertEqual((maps["errors"]["t, timeout"], maps["errors"]["t, no_such_file"]), (2, 1))
        self.assertEqual(maps["errors"]["t, std::runtime_error"], 1)

    def check_rows(self, script, table, key, named_before, value):
        """The first of these names have complete rows, as many as there were free rows."""
        found = self.maps[script, "calls"][table]
        wanted = {key % {"n": "%03d" % number}: value for number in range(ROWS - named_before)}
        self.assertEqual({key: found.get(key) for key in wanted}, wanted)
        self.assertEqual(len(found), ROWS)

    def test_the_first_hundred_names_have_rows_and_the_others_are_counted(self):
        # These names had rows before: four models (with "later") of two tenants, two reasons, one tool, and three types
        # of error.
        def left_out(named_before):
            return 2 * (MORE - ROWS + named_before)
        ttft = self.maps["ttft.bt", "calls"]
        self.assertEqual((len(ttft["ttft_us"]), len(ttft["token_gap_us"])), (ROWS, ROWS - 2))
        self.assertEqual(ttft["not_shown"], {"first tokens": left_out(4), "gaps": left_out(4)})
        self.check_rows("tokens.bt", "input_tokens", "llm.step, model-%(n)s", 4, 20)
        self.check_rows("tokens.bt", "tenant_output", "tenant-%(n)s, llm.step", 2, 10)
        self.assertEqual(self.maps["tokens.bt", "calls"]["not_shown"], {
            "requests": left_out(4), "input tokens": 10 * left_out(4), "output tokens": 5 * left_out(4),
            "requests, by tenant": left_out(2), "input tokens, by tenant": 10 * left_out(2),
            "output tokens, by tenant": 5 * left_out(2)})
        self.check_rows("retries.bt", "retries", "reason-%(n)s, llm.step, m%(n)s", 2, 2)
        self.assertEqual(self.maps["retries.bt", "calls"]["not_shown"],
                         {"retries": left_out(2), "delay ms": 10 * left_out(2)})
        self.check_rows("tools.bt", "calls", "tool-%(n)s", 1, 2)
        self.check_rows("tools.bt", "errors", "t, type-%(n)s", 3, 2)
        self.assertEqual(self.maps["tools.bt", "calls"]["not_shown"], {"calls": left_out(1), "errors": left_out(3)})
        self.assertEqual(self.says_more_than("calls"), set(SCRIPTS))

    def says_more_than(self, what):
        return {script for script in SCRIPTS
                if any(line.startswith("More than 100 ") for line in self.lines[script, what])}

    def check_names(self, what, names):
        steps = {"llm.step, " + name for name in names}
        for script, table, wanted in (
                ("ttft.bt", "ttft_us", steps), ("ttft.bt", "token_gap_us", steps),
                ("tokens.bt", "input_tokens", steps), ("tokens.bt", "output_of_request", steps),
                ("retries.bt", "retries", {"reason, " + step for step in steps}),
                ("tools.bt", "calls", names), ("tools.bt", "errors", {name + ", type" for name in names})):
            self.assertEqual(set(self.maps[script, what][table]), wanted, (script, table))

    def test_one_process_of_a_hundred_names(self):
        self.check_names("one", {self.name(self.pids[0], tenant) for tenant in self.TENANTS} |
                         {"n%d" % number for number in range(ROWS - len(self.TENANTS))})
        self.assertEqual(self.says_more_than("one"), set())

    def test_one_tenant_of_any_process(self):
        self.check_names("acme", {self.name(pid, "acme") for pid in self.pids})
        self.assertEqual(self.maps["tokens.bt", "acme"]["tenant_input"], {"acme, llm.step": 20})


if __name__ == "__main__":
    example_service.need()
    installed.main()
