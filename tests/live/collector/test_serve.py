# SPDX-License-Identifier: Apache-2.0
"""nopspan serve, scraped by a real Prometheus while the example services work. What Prometheus stored is what the services
wrote into their own books. Each expression of the dashboard and of the rules is run."""

import base64
import collections
import concurrent.futures
import contextlib
import ctypes
import gzip
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import example_service
import harness
from engine_clients import FACT_OPTIONS, FOREVER, MODEL, ask_for_facts
from example_service import PROMPTS, Agent, Server, lines_of, of_handlers, steps_of
from followed import Followed, children_of
from harness import LIBRARY, LONG, NOPSPAN, PATIENCE_S, SOURCE, Counting, Program, Test, wait_until
from prometheus import Prometheus
from test_collector_soak import size_of
from test_engine_facts import Client

SERVICE = 'chat "under" test'
CHAT = json.dumps(SERVICE)  # PromQL quotes texts as JSON does
BEFORE, AFTER = 20, 30  # requests to the server
DASHBOARD = os.path.join(SOURCE, "packaging", "grafana", "nopspan.json")
RULES = os.path.join(SOURCE, "packaging", "prometheus", "nopspan-rules.yml")
# Nothing of this happens in the run: no limit is reached, no request fails inside the server, and perhaps nobody is stalled.
QUIET = re.compile(r'nopspan_metrics_overflow|nopspan_engine_stall|gen_ai_server\w+{[^}]*error_type!=""|up{')


class Serve(Followed):
    """nopspan serve, or export --serve. A context manager: attached on entry and ended by SIGINT on exit."""

    def __init__(self, *options, command=("serve",)):
        super().__init__([NOPSPAN, *command, "127.0.0.1:0", "--binary", LIBRARY, *options])

    def address(self):
        return re.search(r"http://(\S+)/metrics", "\n".join(self.said))[1]

    def text(self):
        with urllib.request.urlopen(f"http://{self.address()}/metrics", timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def wait_until_up(self):
        self.wait_until_it_says("Metrics are at")

        def sees():
            harness.canary_program("traced")("canary")
            time.sleep(0.3)  # each canary is a process
            return 'span_name="canary"' in self.text()
        self.wait_while_it_runs(sees, "nopspan serve to attach")

    def counts(self):
        """Of entries: {"emitted": count, …}"""
        found = re.findall(r"nopspan_entries_(\w+)_total(?:{.*})? (\d+)\n", self.text())
        return {name: sum(int(value) for other, value in found if other == name) for name, _ in found}

    def wait_until_all_is_delivered(self, program):
        """All that a Counting has emitted, and none is lost. There are canaries too."""
        def is_delivered():
            counts = self.counts()
            return counts["lost"] == 0 and counts["delivered"] == counts["emitted"] >= program.entries()
        wait_until(is_delivered, "all entries to be delivered", seen=self.counts)


def cpu_s_of(pid):
    """Of a process and its children."""
    ticks = 0
    for each in (pid, *children_of(pid)):
        with open("/proc/%d/stat" % each, encoding="utf-8") as file:
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def expressions_of_rules(path):
    """[(name, expression)] of a file of rules. Their layout is that of this project's file."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    after = r"(?= +(?:for|labels|- record|- alert|#)|\n|\Z)"
    found = re.findall(r"- (?:record|alert): (\S+)\n +expr: (?:>-\n)?((?:.*\n)+?)" + after, text)
    return [(name, " ".join(expression.split())) for name, expression in found]


def panels_of(path):
    with open(path, encoding="utf-8") as file:
        return [panel for panel in json.load(file)["panels"] if panel["type"] != "row"]


def expressions_of_dashboard(path):
    """[(panel's title, expression)], with values instead of Grafana's variables."""
    found = [(panel["title"], target["expr"]) for panel in panels_of(path) for target in panel["targets"]]
    return [(title, re.sub(r"\$(?:namespace|service|environment|instance)", ".*", text).replace("$__rate_interval", "10m")) for title, text in found]


class ServedToPrometheus(Test):
    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        cls.books, events = os.path.join(folder, "books"), os.path.join(folder, "events")
        export = ("export", "--otlp-file", tempfile.mkdtemp(dir=folder), "--serve")
        serve = stack.enter_context(Serve(command=export))
        cls.prometheus = stack.enter_context(Prometheus(serve.address(), rules=[RULES]))
        with Server(folder, *FACT_OPTIONS, "--books", cls.books, events=events,
                    env={"OTEL_SERVICE_NAME": SERVICE}) as server:
            # A rate needs two scrapes, so the traffic has two parts.
            ask_for_facts(server, BEFORE)
            cls.wait_for_spans(SERVICE, "engine.request", BEFORE)
            ask_for_facts(server, AFTER)
            leaving = Client(server, 0, FOREVER, "at the first token")
            leaving.join()
            assert leaving.error is None, leaving.error
            cls.wait_for_spans(SERVICE, "engine.request", BEFORE + AFTER + 1)
        with tempfile.TemporaryDirectory() as own, Server(own, "--fail-rate", "0.3", "--seed", "7") as faulty:
            cls.agents = []
            for _ in range(2):
                cls.agents.append(cls.run_agent(faulty, "agent", *PROMPTS * 3, "--max-attempts", "9"))
                cls.wait_for_spans("agent", "llm.step", sum(agent.summary["steps"] for agent in cls.agents))
            failing = cls.run_agent(faulty, "failing", *PROMPTS * 3, "--max-attempts", "1")
            assert failing.summary["failed"] > 0, failing.summary
            cls.wait_for_spans("failing", "llm.chat", failing.summary["requests"])
        lines = lines_of(cls.books)
        cls.requests = [line for line in lines if "request" in line]
        cls.steps = steps_of(lines)
        cls.handled = [line for line in lines_of(events) if line["pid"] == server.pid]
        cls.pid = server.pid
        cls.wait_for_spans(SERVICE, "engine.step", len(cls.steps))
        # A rate needs two scrapes of the newest series too.
        cls.prometheus.wait_until(lambda: cls.prometheus.value(
            'min(count_over_time(traces_span_metrics_calls_total{service_name="failing"}[1h]))') >= 2, "a second scrape")

    @staticmethod
    def run_agent(server, service, *options):
        return Agent(server.url, "--retry-delay-ms", "1", *options, env={"OTEL_SERVICE_NAME": service})

    @classmethod
    def wait_for_spans(cls, service, name, count):
        of = f"{{service_name={json.dumps(service)},span_name={json.dumps(name)}}}"
        cls.prometheus.wait_for(f"sum(traces_span_metrics_calls_total{of})", count)

    def sums(self, by, metric, selector=""):
        """{value of the label `by`: sum of the series of the server under test}"""
        found = self.prometheus.query(f"sum by ({by}) ({metric}{{service_name={CHAT}{selector}}})")
        return {labels.get(by, ""): value for labels, value in found}

    def total(self, metric, selector=""):
        return self.prometheus.value(f"sum({metric}{{service_name={CHAT}{selector}}})")

    def test_calls_of_each_name(self):
        handled = collections.Counter()
        for (_, _, probe, name), records in of_handlers(self.handled).items():
            if probe == "span_stop":
                handled[name] += len(records)
        self.assertGreater(len(handled), 3)
        self.assertEqual(self.sums("span_name", "traces_span_metrics_calls_total"), dict(handled))
        cancelled = {line["request"] for line in self.requests if line["cancelled"]}
        self.assertEqual(self.total("traces_span_metrics_calls_total", ',span_name="engine.request",nopspan_status="cancelled"'),
                         len(cancelled))

    def test_phases_of_requests(self):
        phases = ("queue", "prefill", "decode")
        expected = {phase: sum(line[phase + "_ns"] for line in self.requests) / 1e9 for phase in phases}
        classic = self.sums("phase", "nopspan_engine_request_phase_seconds_sum")
        for phase in phases:
            self.assertAlmostEqual(classic[phase], expected[phase], places=6)
            buckets = self.sums("le", "nopspan_engine_request_phase_seconds_bucket", f',phase="{phase}"')
            self.assertGreater(len(buckets), 5)
            for bound, count in buckets.items():
                self.assertEqual(count, sum(line[phase + "_ns"] <= float(bound) * 1e9 for line in self.requests), (phase, bound))

    def test_facts_of_requests(self):
        for fact in ("input_tokens", "output_tokens", "cached_tokens", "recomputed_tokens", "drafts"):
            self.assertEqual(self.total("nopspan_engine_facts_total", f',span_name="engine.request",fact="{fact}"'),
                             sum(line[fact] for line in self.requests), fact)
        self.assertEqual(self.sums("gen_ai_request_model", "nopspan_engine_facts_total", ',fact="output_tokens"').keys(), {MODEL})

    def test_the_ledger(self):
        counts = {name: self.prometheus.value(f"sum(nopspan_entries_{name}_total)")
                  for name in ("emitted", "delivered", "filtered", "lost", "held_by_killed")}
        self.assertGreater(counts["emitted"], 1000)
        self.assertEqual(counts, {**dict.fromkeys(counts, 0), "emitted": counts["emitted"], "delivered": counts["emitted"]})

    def test_exemplars_name_requests(self):
        known = {base64.urlsafe_b64decode(line["request"] + "==").hex() for line in self.requests}
        found = self.prometheus.api("query_exemplars", start=time.time() - 3600, end=time.time() + 60,
                                    query=f"gen_ai_server_time_to_first_token_seconds_bucket{{service_name={CHAT}}}")
        traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
        self.assertTrue(traces)
        self.assertLessEqual(traces, known)

    def test_prometheus_takes_every_sample_and_exemplar(self):
        self.assertEqual([line for line in self.prometheus.log().splitlines() if re.search("level=(?i:warn|error)", line)], [])

    def check_expression(self, name, expression):
        found = self.prometheus.query(expression)
        if not QUIET.search(expression):
            self.assertTrue(found, f"{name} is empty: {expression}")
            self.assertTrue(any(value == value for _, value in found), f"{name} is NaN: {expression}")

    def test_expressions_of_the_dashboard(self):
        expressions = expressions_of_dashboard(DASHBOARD)
        self.assertGreater(len(expressions), 30)
        for panel in panels_of(DASHBOARD):
            if any("histogram_quantile" in target["expr"] for target in panel["targets"]):
                self.assertIn("bucket", panel.get("description", ""), panel["title"] + ": a quantile is an estimate")
        for name, expression in expressions:
            with self.subTest(name):
                self.check_expression(name, expression)
        with open(DASHBOARD, encoding="utf-8") as file:
            variables = json.load(file)["templating"]["list"][1:]
        for one in variables:
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", one["definition"]).groups()
            series = self.prometheus.api("series", **{"match[]": metric})
            # Not every service declares its namespace and its environment.
            has_each = label in ("service_namespace", "deployment_environment_name") or all(label in each for each in series)
            self.assertTrue(series and has_each, (metric, label))

    def test_expressions_of_the_rules(self):
        checked = subprocess.run(["promtool", "check", "rules", RULES], text=True, capture_output=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        expressions = expressions_of_rules(RULES)
        count = int(re.search(r"(\d+) rules found", checked.stdout)[1])
        self.assertEqual(len(expressions), count, expressions)
        # Alerts use what the first group records.
        for name in [name for name, _ in expressions if ":" in name and not QUIET.search(name)]:
            self.prometheus.wait_until(lambda name=name: self.prometheus.query(name), name + " to be recorded")
        for name, expression in expressions:
            with self.subTest(name):
                # An alert's condition is false mostly, so only the value of its first one is asked for.
                value = re.sub(r" (>|==) [\d.]+(\s+(or|unless) .*)?$", "", expression)
                value += ")" * (value.count("(") - value.count(")"))
                self.check_expression(name, value)
        states = self.prometheus.api("rules")["groups"]
        self.assertEqual([rule["name"] for group in states for rule in group["rules"] if rule["health"] == "err"], [])


class FollowedByAPage(Test):
    """What the page reads. Tests of the page itself need no privileges (collector.page)."""

    @staticmethod
    def line(answer, kind, has):
        """The next line of this kind that has this text."""
        for line in answer:
            found, _, text = line.decode().rstrip("\n").split(" ", 2)
            if found == kind and has in text:
                return text
        raise AssertionError("the answer has ended")

    def test_requests_in_flight_rates_and_requests_that_have_ended(self):
        with Serve() as serve, Program("traced") as program:
            program.ask("begin before")
            with urllib.request.urlopen(f"http://{serve.address()}/live", timeout=PATIENCE_S) as answer:
                self.line(answer, "head", "begin_unix_ns")
                self.assertNotIn("problem", self.line(answer, "open", ""))
                program.ask("end")
                program.ask("begin early")
                program.ask("begin inner")
                request, = json.loads(self.line(answer, "open", "early"))["requests"]
                self.assertEqual([(span["name"], span["is_innermost"], span["pid"]) for span in request["spans"]],
                                 [("early", False, program.pid), ("inner", True, program.pid)])
                program.ask("end")
                program.ask("end")
                row, = [row for row in json.loads(self.line(answer, "rates", "early"))["rows"] if row["name"] == "early"]
                self.assertEqual(row["window"]["requests"], 1)
                details = json.loads(gzip.decompress(base64.b64decode(self.line(answer, "details", ""))))
                self.assertEqual([span["name"] for span in details[0]["spans"]], ["early", "inner"])
                self.assertEqual(json.loads(self.line(answer, "open", '"requests":[]'))["skipped"], [])
                self.line(answer, "head", "1 request from before the first page was opened left out")
            self.assertRegex(serve.text(), r'\nnopspan_serve_requests_total{result="followed"} 1\n')
            self.assertEqual(serve.stop(), 0)

    def test_metrics_of_the_processes_that_read_for_the_page(self):
        def metric(name):
            return int(re.search(rf"\n{name} (\d+)\n", serve.text())[1])

        with Serve() as serve, Program("traced") as program:
            program.ask("begin early")
            with urllib.request.urlopen(f"http://{serve.address()}/live", timeout=PATIENCE_S) as answer:
                self.line(answer, "open", "early")
                self.assertEqual((metric("nopspan_page_sources"), metric("nopspan_reader_restarts_total")), (1, 0))
                tracer = max(children_of(serve.pid))  # it was started second
                readers = [pid for child in children_of(tracer) for pid in children_of(child)]
                for reader in readers:
                    os.kill(reader, signal.SIGKILL)
                wait_until(lambda: metric("nopspan_reader_restarts_total") > 0, "it to be counted", seen=serve.text)
                self.line(answer, "open", "early")
                os.kill(tracer, signal.SIGKILL)
                wait_until(lambda: metric("nopspan_page_sources") == 0, "its end to be seen", seen=serve.text)
                self.line(answer, "open", "problem")
            serve.wait_until_it_says("the page shows no requests in flight any more: the process that reads them has ended")
            self.assertEqual(serve.stop(), 0)

    def test_another_user_reads_it_only_with_the_token(self):
        def ask(query=""):
            """The status of the answer, for another user: this thread's sockets belong to it."""
            ctypes.CDLL(None).setfsuid(65534)
            try:
                with urllib.request.urlopen(f"http://{serve.address()}/live{query}", timeout=PATIENCE_S) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code
            finally:
                ctypes.CDLL(None).setfsuid(0)

        with Serve() as serve:
            serve.wait_until_it_says("token=")
            token = re.search(r"\?token=\w+", "\n".join(serve.said))[0]
            self.assertEqual((ask(), ask(token), ask(token + "0")), (403, 200, 403))
            wait_until(lambda: '{result="refused"} 2\n' in serve.text(), "both refusals to be counted", seen=serve.text)
            self.assertEqual(serve.stop(), 0)


@harness.unittest.skipUnless(LONG, "NOPSPAN_LONG=1 runs it")
class TenMinutesOfAPage(Test):
    """A browser shows the page beside 10,000 requests per second. Prints what that takes."""

    PAUSE_S, TIMES, REQUESTS_PER_S, THREADS = 30, 20, 10_000, 4

    def test_memory_does_not_grow_and_no_entry_is_lost(self):
        from browser import chrome  # pylint: disable=import-outside-toplevel
        pause_us = self.THREADS * 1_000_000 // self.REQUESTS_PER_S - 130  # a pause is that much longer
        with Serve() as serve, Counting(self.temporary_folder(), threads=self.THREADS, pause_us=pause_us, depth=1) as program:
            browser = chrome("--enable-precise-memory-info")
            self.addCleanup(browser.quit)
            browser.get(f"http://{serve.address()}/#requests")
            program.ask("start")
            seen = []
            for _ in range(self.TIMES):
                before, began, cpu_s = program.entries(), time.monotonic(), cpu_s_of(serve.process.pid)
                time.sleep(self.PAUSE_S)
                took_s = time.monotonic() - began
                seen.append((size_of(serve.process.pid).memory / 1e6, size_of(browser.service.process.pid).memory / 1e6,
                             browser.execute_script("return performance.memory.usedJSHeapSize") / 1e6))
                shown = browser.execute_script("return [data.count, live.problem, document.querySelector('#found').textContent]")
                print("%.0f requests/s, %.2f cores of serve, MB (serve, browser, script): %s, page: %s" % (
                    (program.entries() - before) / 3 / took_s, (cpu_s_of(serve.process.pid) - cpu_s) / took_s,
                    ["%.0f" % each for each in seen[-1]], shown), file=sys.stderr, flush=True)
                self.assertEqual(shown[1], "")
            program.ask("stop")
            serve.wait_until_all_is_delivered(program)
            for early, late in zip(map(max, zip(*seen[2:8])), map(max, zip(*seen[-6:]))):
                self.assertLess(late, 1.25 * early, seen)
            self.assertEqual(serve.stop(), 0)


class Storm(Test):
    """Clients that scrape without a pause, or do not read the answers, do not keep nopspan serve from its entries."""

    ENTRIES = 30_000

    def test_no_entry_is_lost(self):
        folder, ends, scrapes = self.temporary_folder(), threading.Event(), []
        with contextlib.ExitStack() as stack:
            serve = stack.enter_context(Serve())

            def scrape():
                while not ends.is_set():
                    try:
                        scrapes.append(len(serve.text()))
                    except urllib.error.HTTPError as error:
                        assert error.code == 503, error
            host, port = serve.address().split(":")
            for _ in range(10):
                slow = stack.enter_context(socket.socket())
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                slow.connect((host, int(port)))
                slow.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with concurrent.futures.ThreadPoolExecutor(8) as storm:
                running = [storm.submit(scrape) for _ in range(8)]
                try:
                    with Counting(folder, pause_us=200) as program:
                        program.ask("start")
                        wait_until(lambda: program.entries() >= self.ENTRIES, "the program's work")
                        program.ask("stop")
                finally:
                    ends.set()
            for each in running:
                each.result()
            self.assertGreater(len(scrapes), 8)

            serve.wait_until_all_is_delivered(program)
            self.assertRegex(serve.text(), r'\nnopspan_serve_requests_total{result="scrapes"} [1-9]')
            self.assertRegex(serve.text(), r"\nnopspan_serve_displaced_total \d+\n")
            self.assertEqual(serve.stop(), 0)


class Dashboard(Test):
    def test_its_structure(self):
        with open(DASHBOARD, encoding="utf-8") as file:
            everything = json.load(file)
        ids = [panel["id"] for panel in everything["panels"]]
        self.assertEqual(len(set(ids)), len(ids))
        source, *variables = everything["templating"]["list"]
        self.assertEqual((source["type"], source["name"], source["query"]), ("datasource", "datasource", "prometheus"))
        names = {one["name"] for one in variables}
        places = set()
        for panel in panels_of(DASHBOARD):
            with self.subTest(panel["title"]):
                self.assertIn(panel["fieldConfig"]["defaults"]["unit"], ("s", "ops", "percentunit", "short"))
                for one in (panel, *panel["targets"]):
                    self.assertEqual(one["datasource"], {"type": "prometheus", "uid": "${datasource}"})
                place = panel["gridPos"]
                cells = set(itertools.product(range(place["x"], place["x"] + place["w"]),
                                              range(place["y"], place["y"] + place["h"])))
                self.assertFalse(places & cells)
                places |= cells
                self.assertLessEqual(place["x"] + place["w"], 24)
                refs = [target["refId"] for target in panel["targets"]]
                self.assertEqual(len(set(refs)), len(refs))
                for target in panel["targets"]:
                    used = set(re.findall(r"\$(\w+)", target["expr"]))
                    self.assertLessEqual(used, names | {"__rate_interval"})
                    self.assertIn("instance", used)
                    by = re.search(r"by \(([^)]*)\)", target["expr"])
                    shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                    if by and panel["type"] != "heatmap":
                        self.assertEqual(shown, set(by[1].replace(" ", "").split(",")) - {"le"})


if __name__ == "__main__":
    example_service.need()
    harness.main("prometheus", "promtool")
