# SPDX-License-Identifier: Apache-2.0
"""scripts/agents.bt counts the same events of agents and their coordinator as handlers in the same run."""

import collections
import os
import shutil
import tempfile

import example_service
import installed
from bpftrace_output import histogram
from example_service import PROMPTS, Agent, Server, lines_of
from harness import SONAME, Program, Test, Tracer

CALLS = ("agent.llm", "agent.tool", "agent.compaction")
MAPS = ("iterations", "iteration_us", "iteration_errors", "states", "operator_events", "wait_ms", "decisions", "calls",
        "call_us", "call_errors")
ROWS = 130
MOST_ROWS = 100


class AgentsScript(installed.Script):
    def __init__(self, *arguments):
        super().__init__("agents.bt", *arguments)


def spans_of(lines):
    """The lines of a program's record. The spans that handlers received are in the same form as those that the program
    recorded itself."""
    for line in lines:
        span, _, end = line.get("event", "").rpartition(".")
        if span in ("agent.llm", "agent.tool") and end in ("stop", "exception"):
            yield dict(span=span, of=line.get("model" if span == "agent.llm" else "tool_name", ""),
                       duration_ns=line["duration_ns"], status=line["status"])
        else:
            yield line


def key(*parts):
    """The key of a row. Names are truncated to 63 bytes."""
    return ", ".join(part.encode()[:63].decode() for part in parts)


def expected(lines):
    """The expected maps of the script, computed from a record."""
    counts = {name: collections.Counter() for name in MAPS}
    durations = collections.defaultdict(list)
    for line in spans_of(lines):
        if "event" not in line:
            row = key(line["span"], line["of"])
            kind = "call" if line["span"] in CALLS else "iteration"
            counts[kind + "s"][row] += 1
            counts[kind + "_errors"][row] += line["status"] in (1, 3)
            durations[kind + "_us", row].append(line["duration_ns"] // 1000)
            continue
        name = line["event"]
        span = name.rpartition(".")[0]
        if span in CALLS or name.endswith(".iteration_start"):
            continue  # probes do not report these events
        operator = line.get("operator", "")
        if name == "agent.operator.state_change":
            counts["states"][key(operator, line["from"], line["to"])] += 1
        if name.startswith("agent.operator."):
            counts["operator_events"][key(operator, name)] += 1
        else:
            counts["decisions"][key(name, line.get("skill", ""))] += 1
        if "ms" in line:
            counts["wait_ms"][key(name, operator)] += line["ms"]
    # A row without errors is missing, but a row without waiting time is there.
    maps = {name: {row: n for row, n in counter.items() if n or name == "wait_ms"} for name, counter in counts.items()}
    for (name, row), values in durations.items():
        maps[name][row] = histogram(values)
    return maps


class AgentsBt(Test):
    """One run under several instances of the script. Each test checks one thing."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        log = os.path.join(folder, "log")
        records = {tenant: os.path.join(folder, tenant) for tenant in ("acme", "other")}
        with Program("agents") as program, Program("agents") as wide:
            scripts = {"all": AgentsScript(), "pid": AgentsScript(program.pid), "tenant": AgentsScript(0, "acme"),
                       "wide": AgentsScript(wide.pid)}
            with scripts["all"], scripts["pid"], scripts["tenant"], scripts["wide"], \
                    Tracer(libraries=[os.path.join("/usr/local/lib", SONAME)]) as tracer:
                for tenant, record in records.items():
                    assert program.ask("run %s %s" % (record, tenant)) == "done"
                with Server(folder, "--fail-rate", "0.3", "--seed", "7") as server:
                    agent = Agent(server.url, *PROMPTS * 6, "--concurrency", "4",
                                  "--max-attempts", "2", "--retry-delay-ms", "5", events=log)
                tracer.stop()
                wide.ask("rows %d" % ROWS)
                for script in scripts.values():
                    script.stop()
        cls.maps = {name: script.maps() for name, script in scripts.items()}
        cls.lines = {name: script.lines for name, script in scripts.items()}
        cls.records = {tenant: lines_of(record) for tenant, record in records.items()}
        cls.log = [dict(line["metadata"], **{"event": line["event"], "status": line["status"]})
                   for line in lines_of(log) if line["event"].startswith("agent.")]
        cls.summary = agent.summary
        # Handlers receive no end of an iteration, so use the probe's.
        cls.iterations = [{"span": e.name, "of": "example", "duration_ns": e.arg2, "status": e.arg4}
                          for e in tracer.events("span_stop", agent.pid) if e.name == "agent.operator.iteration"]

    def check(self, script, maps):
        for name in MAPS:
            self.assertEqual(self.maps[script].get(name, {}), maps[name], "@%s of %s" % (name, script))

    def test_one_process(self):
        lines = self.records["acme"] + self.records["other"]
        self.assertEqual(sum("event" not in line for line in lines),
                         sum(line.get("event", "").endswith((".iteration_start", "compaction.stop")) for line in lines))
        self.check("pid", expected(lines))

    def test_one_tenant(self):
        self.check("tenant", expected(self.records["acme"]))

    def test_the_example_agent(self):
        """Its operator has a name of its own, which identifies it among all agents of the host."""
        self.assertEqual(len(self.iterations), sum(e["event"] == "agent.operator.iteration_start" for e in self.log))
        maps = expected(self.log + self.iterations)
        self.assertGreater(self.summary["failed"], 0)
        for event in ("started", "think", "done", "llm_error", "loop_stopped"):
            self.assertGreater(maps["operator_events"]["example, agent.operator." + event], 0)
        self.assertGreater(maps["iteration_errors"]["agent.operator.iteration, example"], 0)
        for name in MAPS:
            own = {row: value for row, value in self.maps["all"].get(name, {}).items() if "example" in row}
            self.assertEqual(own, maps[name], name)

    def test_what_has_no_row_is_counted(self):
        maps = self.maps["wide"]
        self.assertEqual(len(maps["iterations"]), MOST_ROWS)
        self.assertEqual(len(maps["states"]), MOST_ROWS)
        self.assertEqual(set(maps["iterations"].values()) | set(maps["states"].values()), {1})
        self.assertEqual(len(maps["operator_events"]), ROWS)
        self.assertEqual(maps["not_shown"], {"spans": ROWS - MOST_ROWS, "states": ROWS - MOST_ROWS})

    def test_no_content(self):
        text = "\n".join(line for lines in self.lines.values() for line in lines)
        for content in ("a reason", "a thought", "an intent", "an insight", "return 1"):
            self.assertNotIn(content, text)


if __name__ == "__main__":
    example_service.need()
    installed.main()
