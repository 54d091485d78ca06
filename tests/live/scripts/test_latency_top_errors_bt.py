# SPDX-License-Identifier: Apache-2.0
"""latency.bt, top.bt and errors.bt in one run of the example service. Their maps must agree with what the handlers of
the agents and the server received."""

import collections
import os
import re
import shutil
import tempfile

import example_service
import harness
import installed
from bpftrace_output import histogram
from example_service import Agent, Server, lines_of
from harness import SOURCE, Program, Test

PROMPTS = ["What is 6 * 7?", "What is 1 / 0?", "Explain spans to me.", "What is 1 / 0?"]
TENANT = "acme"
MODEL, NO_MODEL = "nopspan-ngram", "no-such-model"
# Handlers receive only the start of this span.
ITERATION = "agent.operator.iteration"
OK, ERROR, CANCELLED, EXCEPTION = 0, 1, 2, 3
FAILED = (ERROR, EXCEPTION)
# latency.bt takes the median of the first 31 successful spans. Its linear histogram ends at 300 per cent.
FIRST, FAR = 31, 300
# A lower limit of rows in a copy of the script, to test what happens beyond it.
ROWS = 3
THREADS = 4  # of workload.cpp

End = collections.namedtuple("End", "time name engine model tenant kind reason status ns request_id pid")


def with_few_rows(folder, script):
    """Makes a copy of the script with room for ROWS rows. Returns its path."""
    with open(os.path.join(SOURCE, "scripts", script), encoding="utf-8") as file:
        text = file.read()
    few = re.sub(r"(@_(?:row|name)_count (?:>=|<)) 100\b", r"\1 %d" % ROWS, text)
    assert few != text
    path = os.path.join(folder, script)
    with open(path, "w", encoding="utf-8") as file:
        file.write(few)
    return path


def ends_of(path):
    """The spans whose ends are in a file of events, in the file's order."""
    events = lines_of(path)
    started = {e["span_id"] for e in events if e["event"].endswith((".start", ITERATION + "_start"))}
    ends = []
    for e in events:
        name, _, what = e["event"].rpartition(".")
        if what in ("stop", "exception") and e["span_id"] in started:
            kind = {ERROR: "fail", EXCEPTION: e["metadata"].get("kind")}.get(e["status"])
            engine, model, tenant = (e["metadata"].get(label, "") for label in ("engine", "model", "tenant"))
            ends.append(End(e["measurements"]["monotonic_time"], name, engine, model, tenant, kind,
                            e["attributes"].get("error.type"), e["status"], e["measurements"]["duration"],
                            e["request_id"], e["pid"]))
    iterations = sum(e["event"] == ITERATION + "_start" for e in events)
    return ends, iterations


def key(*parts):
    return ", ".join(parts)


class LatencyTopErrors(Test):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)

        def events(name):
            return os.path.join(folder, name + ".jsonl")

        def agent(name, requests, concurrency, *options):
            return Agent(server.url, *PROMPTS, "--requests", str(requests),
                         "--concurrency", str(concurrency), "--max-tokens", "20", "--max-attempts", "2",
                         "--retry-delay-ms", "3", *options, events=events(name))
        faults = ("--fail-rate", "0.3", "--cut-rate", "0.1", "--seed", "7")
        with Server(folder, *faults, events=events("server")) as server:
            cls.server_pid = server.pid
            cls.scripts = {
                "latency": installed.Script("latency.bt", "llm.step"),
                "latency of a tenant": installed.Script("latency.bt", "engine.request", 0, TENANT),
                "top": installed.Script("top.bt"),
                "top of a process": installed.Script("top.bt", server.pid),
                "errors": installed.Script("errors.bt"),
                "errors of a tenant": installed.Script("errors.bt", server.pid, TENANT),
            }
            for script in cls.scripts.values():
                script.__enter__()
                cls.addClassCleanup(script.__exit__)
            # The first and last prompts run one after the other, so the order of their spans is known.
            agent("first", 40, 1, "--organization", TENANT)
            agent("many", 24, 4, "--organization", "umbrella")
            agent("refused", 4, 1, "--model", NO_MODEL)
            agent("last", 20, 1, "--organization", TENANT)
            cls.scripts["top"].wait_for(lambda: None, [r"@spans\[engine\.step, \]: \d+$"])
        cls.lines = {name: script.stop() for name, script in cls.scripts.items()}
        cls.maps = {name: script.maps() for name, script in cls.scripts.items()}
        read = [ends_of(events(name)) for name in ("server", "first", "many", "refused", "last")]
        cls.ends = [end for ends, _ in read for end in ends]
        cls.iterations = sum(n for _, n in read)

    def named(self, name, tenant=None):
        return [end for end in self.ends if end.name == name and tenant in (None, end.tenant)]

    def rows(self, ends, by):
        rows = collections.defaultdict(list)
        for end in ends:
            rows[by(end)].append(end)
        self.assertTrue(rows)
        return rows

    def counted(self, ends, by, statuses):
        return collections.Counter(by(end) for end in ends if end.status in statuses)

    # latency.bt

    def check_latency(self, script, ends):
        def by(end):
            return key(end.engine, end.model)
        maps = self.maps[script]
        rows = {row: [end.ns // 1000 for end in ends] for row, ends in self.rows(ends, by).items()}
        self.assertEqual(maps["spans"], {row: len(us) for row, us in rows.items()})
        self.assertEqual(maps["mean_us"], {row: sum(us) // len(us) for row, us in rows.items()})
        self.assertEqual(maps["min_us"], {row: min(us) for row, us in rows.items()})
        self.assertEqual(maps["max_us"], {row: max(us) for row, us in rows.items()})
        self.assertEqual(maps["latency_us"], {row: histogram(us) for row, us in rows.items()})
        self.assertEqual(maps["errors"], self.counted(ends, by, FAILED))
        self.assertEqual(maps["cancelled"], self.counted(ends, by, (CANCELLED,)))
        well = collections.Counter(by(end) for end in ends if end.status == OK)
        self.assertEqual(set(maps["median_us"]), {row for row in rows if well[row] >= FIRST})
        for row, us in rows.items():
            percent = sum(maps["percent_of_median"].get(row, {}).values())
            self.assertEqual(maps["before_median"][row] + percent, len(us), row)
        self.assertNotIn("not_shown", maps)

    def test_latency_of_a_span(self):
        self.check_latency("latency", self.named("llm.step"))

    def test_latency_of_a_tenants_spans(self):
        self.check_latency("latency of a tenant", self.named("engine.request", TENANT))
        self.assertGreater(len(self.named("engine.request")), len(self.named("engine.request", TENANT)))
        self.assertTrue(self.maps["latency of a tenant"]["cancelled"], "clients whose stream was cut")

    def test_latency_around_the_median_of_the_first(self):
        ends = [end for end in self.named("llm.step") if end.model == MODEL]
        # The first agent's spans are in their order. Later spans need not be.
        well = [number for number, end in enumerate(ends) if end.status == OK][:FIRST]
        median = sorted(ends[number].ns for number in well)[FIRST // 2]
        before = well[-1] + 1
        self.assertGreater(before, FIRST, "some that failed are among them")
        percent = [end.ns * 100 // median for end in ends[before:]]
        self.assertGreater(len(percent), FIRST)
        row, maps = key("openai", MODEL), self.maps["latency"]
        self.assertEqual(maps["median_us"], {row: median // 1000})
        self.assertEqual(maps["percent_of_median"],
                         {row: collections.Counter(min(value // 10 * 10, FAR) for value in percent)})
        self.assertEqual(maps["before_median"], {row: before, key("openai", NO_MODEL): 4})

    def test_latency_of_more_engines_and_models_than_it_has_room_for(self):
        with Program("traced") as program, Program("traced") as other:
            with installed.Script("latency.bt", "canary", program.pid) as script:
                other.ask("canary other")
                for number in range(105):
                    program.ask("canary model-%d" % number)
                script.stop()
        maps = script.maps()
        rows = {key("", "model-%d" % number) for number in range(100)}
        self.assertEqual(maps["spans"], dict.fromkeys(rows, 1))
        self.assertEqual(maps["errors"], dict.fromkeys(rows, 1))
        self.assertEqual(maps["not_shown"], {"spans": 5})

    def test_latency_of_no_name(self):
        script = installed.Script("latency.bt")
        harness.wait_until(lambda: not script.is_running(), "latency.bt to end")
        # 0.27 prints on stderr what it attaches.
        lines = [line for line in script.stop() if line and not line.startswith("Attaching")]
        self.assertEqual(lines, ["usage: bpftrace scripts/latency.bt NAME [PID [TENANT]]"])

    # top.bt

    def check_top(self, script, ends, iterations=None):
        def by(end):
            return key(end.name, end.model)
        maps = self.maps[script]
        rows = {row: [end.ns // 1000 for end in ends] for row, ends in self.rows(ends, by).items()}

        def of_known(table):
            return {row: value for row, value in maps[table].items() if not row.startswith(ITERATION)}
        self.assertEqual(of_known("total_spans"), {row: len(us) for row, us in rows.items()})
        self.assertEqual(of_known("total_mean_us"), {row: sum(us) // len(us) for row, us in rows.items()})
        self.assertEqual(of_known("total_max_us"), {row: max(us) for row, us in rows.items()})
        self.assertEqual(of_known("total_errors"), self.counted(ends, by, FAILED))
        self.assertEqual(sum(n for row, n in maps["total_spans"].items() if row.startswith(ITERATION)), iterations or 0)
        self.assertEqual(maps["seen"][""], len(ends) + (iterations or 0))
        self.assertNotIn("not_shown", maps)

    def test_top(self):
        self.check_top("top", self.ends, self.iterations)

    def test_top_of_a_process(self):
        self.check_top("top of a process", [end for end in self.ends if end.pid == self.server_pid])

    def test_top_redraws_its_screen(self):
        lines = self.lines["top"]
        screens = [number for number, line in enumerate(lines) if line.startswith("\033[H\033[2J")]
        rows = [number for number, line in enumerate(lines) if re.match(r"@spans\[engine\.step, \]: [1-9]\d*$", line)]
        self.assertLess(screens[0], rows[0])

    def test_top_of_more_rows_than_it_has_room_for(self):
        with Program("traced") as program, Program("traced") as other:
            with installed.Script("top.bt", program.pid) as script:
                other.ask("canary other")
                for number in range(105):
                    program.ask("canary model-%d" % number)
                script.stop()
        maps = script.maps()
        self.assertEqual(maps["total_spans"], {key("canary", "model-%d" % number): 1 for number in range(100)})
        self.assertEqual(maps["not_shown"], {"spans": 5})
        self.assertEqual(maps["seen"], {"": 105})

    # errors.bt

    def failed(self, ends):
        """An exception in a step also passes through the step's iteration."""
        failed = [end for end in ends if end.status in FAILED]
        return failed + [end._replace(name=ITERATION) for end in failed if end.name == "llm.step"]

    def check_errors(self, script, ends, iterations=0):
        maps = self.maps[script]
        failed = self.failed(ends)
        rows = self.rows(failed, lambda end: key(end.name, end.kind, end.reason))
        self.assertEqual(maps["errors"], {row: len(ends) for row, ends in rows.items()})
        self.assertEqual(maps["latest_request"],
                         {row: max(ends, key=lambda end: end.time).request_id for row, ends in rows.items()})
        spans = collections.Counter(end.name for end in ends)
        if iterations:
            spans[ITERATION] = iterations
        by_name = collections.Counter(end.name for end in failed)
        self.assertEqual(maps["per_million"], {name: by_name[name] * 1000000 // n for name, n in spans.items()})
        total = sum(spans.values())
        self.assertEqual((maps["seen"][""], maps["failed"][""], maps["failed_per_million"][""]),
                         (total, len(failed), len(failed) * 1000000 // total))
        self.assertFalse(set(maps) & {"not_shown", "without_per_million"})

    def test_errors(self):
        self.check_errors("errors", self.ends, self.iterations)
        self.assertEqual({row.split(", ")[1] for row in self.maps["errors"]["errors"]}, {"fail", "error"})
        self.assertGreater(len(self.maps["errors"]["errors"]), 5)

    def test_errors_of_a_tenant(self):
        of_tenant = [end for end in self.ends if end.pid == self.server_pid and end.tenant == TENANT]
        self.check_errors("errors of a tenant", of_tenant)

    def test_errors_of_every_kind_and_of_more_rows_than_it_has_room_for(self):
        folder = self.temporary_folder()
        path = os.path.join(folder, "handler.jsonl")
        with Program("workload") as program:
            with installed.Script("errors.bt", program.pid) as all_rows, \
                 installed.Script(with_few_rows(folder, "errors.bt"), program.pid) as few_rows:
                self.assertEqual(program.ask("run " + path), "done")
                all_rows.stop()
                few_rows.stop()
        ends = [e for e in lines_of(path) if not e["event"].endswith(".start") and e["status"] in FAILED]
        rows = collections.Counter(
            key(e["event"].rpartition(".")[0], e.get("kind", "fail"), e.get("type", e.get("error.type"))) for e in ends)
        self.assertEqual({row.split(", ")[1] for row in rows}, {"fail", "error", "throw"})
        every, few = all_rows.maps(), few_rows.maps()
        self.assertEqual(every["errors"], rows)
        self.assertEqual(set(every["latest_request"]), set(rows))
        self.assertNotIn("not_shown", every)
        self.assertEqual(every["failed"], {"": len(ends)})

        # Which rows come first depends on the threads.
        self.assertEqual((few["failed"], few["seen"]), (every["failed"], every["seen"]))
        self.assertLess(len(few["errors"]), len(rows))
        # If several threads make the first error of a row at the same time, all but one find no room and are counted as
        # not shown.
        for row, count in few["errors"].items():
            self.assertTrue(rows[row] - THREADS < count <= rows[row], (row, count, rows[row]))
        self.assertEqual(few["not_shown"], {"errors": len(ends) - sum(few["errors"].values())})
        self.assertEqual(few["per_million"], {name: every["per_million"][name] for name in few["per_million"]})
        self.assertLess(len(few["per_million"]), len(every["per_million"]))
        self.assertEqual(set(few["without_per_million"]), {"spans"})


if __name__ == "__main__":
    example_service.need()
    installed.main()
