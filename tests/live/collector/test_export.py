# SPDX-License-Identifier: Apache-2.0
"""nopspan export of this host: an OTLP receiver gets whole traces of all spans, and each item is in the account. Also the
two processes: what each may do, and what happens when one of them is killed."""

import collections
import contextlib
import json
import os
import re
import signal
import tempfile

import example_service
import harness
from example_service import PROMPTS, Agent, Server
from followed import Followed, children_of
from harness import LIBRARY, NOPSPAN, Program, Test, nopspan, status_of
from otlp_receiver import HttpReceiver, Received
from test_record import Record
from waiting import PATIENCE_S

STATES = ("left_out", "queued", "spooled", "in_flight", "accepted", "rejected", "refused", "unconfirmed")


class Export(Followed):
    """nopspan export to an HttpReceiver. A context manager: attached on entry and ended by SIGINT on exit."""

    def __init__(self, http, *options, before=(), binary=LIBRARY, **variables):
        super().__init__([*before, NOPSPAN, "export", "--otlp", http.url, "--protocol", "http/json", "--binary", binary, "--json",
                          *options], env=variables)
        self.received = http.received

    def wait_until_up(self):
        self.wait_until_it_says("Exporting to")

        def sees():
            harness.canary_program("traced")("canary")
            return any("canary" in body for body in self.received.bodies)
        self.wait_while_it_runs(sees, "nopspan export to attach")

    def result(self):
        return json.loads(self.lines[-1])


def value_of(any_value):
    (kind, value), = any_value.items() if any_value else (("none", None),)
    if kind == "intValue":
        return int(value)
    if kind == "arrayValue":
        return [value_of(one) for one in value.get("values", [])]
    return value


def attributes_of(message):
    return {one["key"]: value_of(one["value"]) for one in message.get("attributes", [])}


def items_of(bodies, resources, scopes, items):
    """(attributes of the resource, message) of each item of requests in JSON."""
    for body in bodies:
        for resource in json.loads(body).get(resources, []):
            for scope in resource[scopes]:
                assert scope["scope"]["name"] == "nopspan" and "attributes" not in scope["scope"], scope["scope"]
                for item in scope[items]:
                    yield attributes_of(resource["resource"]), item


def name_of(item):
    return attributes_of(item).get("nopspan.name", item.get("name"))


class Service(Test):
    """One run of the example service with failing requests and retries."""

    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        received = Received(keeps=True)
        with HttpReceiver(received) as http, Export(http) as export:
            with Server(folder, "--fail-rate", "0.3", "--seed", "7", env={"OTEL_SERVICE_NAME": "model"}) as server:
                agent = Agent(server.url, *PROMPTS * 4, "--concurrency", "4", "--max-attempts", "12", "--retry-delay-ms", "5")
        assert agent.status == 0
        cls.export, cls.agent, cls.server = export, agent, server
        pids = (agent.pid, server.pid)
        cls.spans = [(resource, span) for resource, span in items_of(received.bodies, "resourceSpans", "scopeSpans", "spans")
                     if resource.get("process.pid") in pids]
        cls.metrics = [*items_of(received.bodies, "resourceMetrics", "scopeMetrics", "metrics")]

    def test_the_account_closes(self):
        receiver, = self.export.result()["receivers"]
        total = self.export.result()["ledger"]["total"]
        items = 0
        for name, row in receiver["signals"].items():
            self.assertEqual(row["taken"], sum(row[state] for state in STATES) + sum(row["dropped"].values()), name)
            self.assertEqual(row["taken"], row["accepted"], name)
            items += row["taken"] if name != "metrics" else 0
        self.assertTrue(total["balanced"])
        self.assertEqual(total["lost"], 0)
        self.assertEqual(total["delivered"], items + receiver["measured"] - receiver["made_events"])
        self.assertGreater(receiver["signals"]["span_events"]["accepted"], self.agent.summary["retries"])
        self.assertIn("traces.span.metrics.calls", {metric["name"] for _, metric in self.metrics})

    def test_a_trace_has_one_root_and_all_parents(self):
        traces = collections.defaultdict(dict)
        for _, span in self.spans:
            if not name_of(span).startswith("engine.step"):
                traces[span["traceId"]][span["spanId"]] = span.get("parentSpanId", "")
        chats = 0
        for spans in traces.values():
            roots = [span for span, parent in spans.items() if not parent]
            chats += len(roots)
            self.assertEqual(len(roots), 1)
            self.assertLessEqual(set(spans.values()) - {""}, set(spans))
        self.assertGreaterEqual(chats, self.agent.summary["requests"])

    def test_metrics_are_of_the_services(self):
        named = {name: {resource["service.name"] for resource, metric in self.metrics if metric["name"] == name}
                 for name in ("traces.span.metrics.calls", "nopspan.entries.delivered")}
        self.assertLessEqual({"model", "agent"}, named["traces.span.metrics.calls"])
        self.assertEqual(named["nopspan.entries.delivered"], {"nopspan"})
        instances = {resource["service.name"]: resource["service.instance.id"] for resource, _ in self.metrics}
        self.assertEqual(len(set(instances.values())), len(instances))

    def test_a_span_that_failed_has_an_exception_and_a_stream_its_first_token(self):
        failed = 0
        for _, span in self.spans:
            events = [event["name"] for event in span.get("events", [])]
            failed += "status" in span
            self.assertEqual(events.count("exception"), int("status" in span), span)
            has_first = {"gen_ai.response.time_to_first_chunk", "nopspan.ttft_ns"} & set(attributes_of(span))
            self.assertEqual(events.count("gen_ai.stream.first_token"), int(bool(has_first)), span)
        self.assertGreater(failed, 0)

    def test_the_service_is_named_by_its_environment(self):
        self.assertEqual({resource["service.name"] for resource, _ in self.spans if resource["process.pid"] == self.server.pid},
                         {"model"})
        self.assertEqual({resource["service.name"] for resource, _ in self.spans if resource["process.pid"] == self.agent.pid},
                         {"agent"})


class Recordings(Test):
    def test_a_recording_has_the_same_instances(self):
        received = Received(keeps=True)
        with HttpReceiver(received) as http, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "spans.rec")
            # The program outlives both tracers. The start of a process that has ended may be unknown.
            with Program("traced") as program, Record(path, "--binary", LIBRARY), Export(http):
                program.ask("canary model")
            nopspan("export", "--from", path, "--otlp-file", folder, check=True)
            with open(os.path.join(folder, "traces.jsonl"), encoding="utf-8") as file:
                recorded = self.instances(file, program.pid)
        self.assertEqual(len(recorded), 1)
        self.assertEqual(self.instances(received.bodies, program.pid), recorded)

    @staticmethod
    def instances(bodies, pid):
        return {resource["service.instance.id"] for resource, _ in items_of(bodies, "resourceSpans", "scopeSpans", "spans")
                if resource["process.pid"] == pid}


class TwoProcesses(Test):
    def setUp(self):
        self.received = Received(keeps=True)
        self.http = HttpReceiver(self.received)
        self.addCleanup(self.http.__exit__)

    def export(self, *options, **variables):
        return Export(self.http, *options, **variables)

    def test_each_has_what_the_other_lacks(self):
        with self.export() as export:
            sender, tracer = status_of(export.pid), status_of(export.tracer())
            self.assertEqual(tracer["Name"], "nopspan-tracer")
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                self.assertEqual(int(sender[kind], 16), 0, kind)
            self.assertNotEqual(int(tracer["CapEff"], 16), 0)
            for status in (sender, tracer):
                self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
            sockets = [os.readlink(f"/proc/{export.tracer()}/fd/{fd}") for fd in os.listdir(f"/proc/{export.tracer()}/fd")]
            self.assertFalse([one for one in sockets if one.startswith("socket:") and self.is_of_the_internet(one)])

    def test_only_the_sender_has_the_secrets(self):
        secrets = {"OTEL_EXPORTER_OTLP_HEADERS": "x-variable=s3cr3t"}
        with self.export("--header", "x-argument=s3cr3t", **secrets) as export:
            # The tracer, and the children of it that read other processes.
            processes = children = [export.pid]
            while children := [child for pid in children for child in children_of(pid)]:
                processes = processes + children
            self.assertGreaterEqual(len(processes), 4)
            for pid in processes:
                for name in ("cmdline", "environ"):
                    with open(f"/proc/{pid}/{name}", "rb") as file:
                        shown = file.read()
                    self.assertNotIn(b"s3cr3t", shown, name)
            for pid in processes[1:]:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    self.assertIn(b"OTEL_EXPORTER_OTLP_HEADERS=***", file.read())
        self.assertEqual(self.received.headers[0]["x-argument"], "s3cr3t")

    def test_a_warning_before_the_start_leaves_no_thread_with_capabilities(self):
        with self.export(OTEL_METRIC_EXPORT_INTERVAL="often") as export:
            self.assertIn("OTEL_METRIC_EXPORT_INTERVAL", "\n".join(export.said))
            for thread in os.listdir(f"/proc/{export.pid}/task"):
                with contextlib.suppress(FileNotFoundError):  # it has ended
                    self.assertEqual(int(status_of(f"{export.pid}/task/{thread}")["CapEff"], 16), 0)
        self.assertEqual(export.process.returncode, 0)

    @staticmethod
    def is_of_the_internet(link):
        inode, lines = re.search(r"\d+", link)[0], []
        for name in ("tcp", "tcp6", "udp", "udp6"):
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                lines += file.readlines()
        return any(inode in line.split() for line in lines)

    def test_a_tracer_that_is_killed_is_reported_and_what_it_delivered_is_sent(self):
        with self.export() as export:
            os.kill(export.tracer(), signal.SIGKILL)
            self.assertEqual(export.end(), 1)
            self.assertIn("the tracing process was killed (Killed)", "\n".join(export.said))
            self.assertTrue(export.result()["receivers"][0]["balanced"])

    def test_a_tracer_that_hangs_does_not_hold_the_program(self):
        with self.export() as export:
            tracer = export.tracer()
            os.kill(tracer, signal.SIGSTOP)
            try:
                export.process.send_signal(signal.SIGINT)
                self.assertEqual(export.process.wait(PATIENCE_S), 1)
            finally:
                os.kill(tracer, signal.SIGCONT)
            export.end()
        self.assertRegex("\n".join(export.said), r"the tracing process \(.*\) has not ended")

    def test_a_signal_of_one_process_ends_both_in_order(self):
        with self.export() as export:
            tracer = export.tracer()
            self.assertEqual(export.stop(signal.SIGTERM), 0)
            self.assertFalse(os.path.exists(f"/proc/{tracer}"))
            self.assertTrue(export.result()["ledger"]["total"]["balanced"])
            self.assertNotIn("damage", export.result()["ledger"])


class Filters(Test):
    def test_whole_requests_that_a_filter_wants(self):
        received = Received(keeps=True)
        with HttpReceiver(received) as http, tempfile.TemporaryDirectory() as folder:
            with Export(http, "--errors", "--metric-interval", "100ms") as export:
                with Server(folder, "--fail-rate", "0.5", "--seed", "7") as server:
                    agent = Agent(server.url, *PROMPTS * 4, "--max-attempts", "12", "--retry-delay-ms", "5")
            self.assertEqual(agent.status, 0)
        by_trace = collections.defaultdict(list)
        for _, span in items_of(received.bodies, "resourceSpans", "scopeSpans", "spans"):
            by_trace[span["traceId"]].append(span)
        self.assertTrue(by_trace)
        for spans in by_trace.values():
            self.assertTrue([span for span in spans if span.get("status", {}).get("code") == 2])
        row = export.result()["receivers"][0]["signals"]["traces"]
        self.assertEqual(row["accepted"], sum(map(len, by_trace.values())))
        self.assertGreater(row["left_out"], 0)
        self.assertEqual(row["taken"], row["accepted"] + row["left_out"])


if __name__ == "__main__":
    example_service.need()
    harness.main()
