# SPDX-License-Identifier: Apache-2.0
"""What a call means does not depend on the handlers and tracers that are attached. A handler of one event alone, a handler
of all events, bpftrace and the collector report the same request, span, parent, status, type of the error and
attributes."""

import collections
import json
import os

import harness
import otlp_attributes
from example_service import canonical
from harness import Program, Tracer, canary_in, nopspan
from test_record import Record

POINTS = ("cache.hit", "cache.miss", "gen_ai.prompt.sent", "agent.operator.think", "fragile", "telemetry.handler.failure")
RETRIES = ("llm.adapter.retry", "gen_ai.retry")
SPANS = ("llm.chat", "llm.step", "llm.tool", "llm.generate", "llm.image", "slot", "shop.order", "shop.other")
STACKTRACES = {"NOPSPAN_STACKTRACE": "1", "NOPSPAN_CAPTURE_CONTENT": "1"}
STATUSES = ("ok", "error", "cancelled", "exception")

# A span or event as a handler or tracer reports it. The name of a retry is "retry", and an event's status is 0.
Row = collections.namedtuple("Row", "name request_id span_id parent_id status error_type attributes")


def of_handler(line):
    event = line["event"]
    name = "retry" if event in RETRIES else event.removesuffix(".stop")
    return Row(name, line["request_id"], line["span_id"], line["parent_id"], line["status"], line["error_type"],
               canonical(line["attributes"]))


def of_bpftrace(events):
    rows = []
    for probe in ("span_stop", "event", "retry"):
        found = [e for e in events if e.probe == probe]
        decoded = otlp_attributes.decode([bytes(e.attributes) for e in found], probe != "span_stop")
        rows += [Row("retry" if probe == "retry" else e.name, e.id, "%016x" % e.span_id, "%016x" % e.parent_id, e.status,
                     e.error_type if e.status == 1 else "", canonical(attributes))
                 for e, attributes in zip(found, decoded)]
    return rows


def of_collector(line):
    status = STATUSES.index(line["status"]) if line["type"] == "span" else 0
    return Row("retry" if line["type"] == "retry" else line["name"], line["request_id"], line["span_id"],
               line.get("parent_id", "0" * 16), status, line["error_type"] if status == 1 else "",
               canonical(line.get("attributes", {})))


class Meaning(harness.Test):
    @classmethod
    def setUpClass(cls):
        cls.maxDiff = None
        cls.recording = os.path.join(cls.folder_of_the_class(), "meaning.rec")

        def handled(program, *events):
            assert program.ask("handle " + " ".join(events)) == "ok"
            assert program.ask("run") == "done"
            return json.loads(program.ask("handled"))

        with Program("meaning") as program, Program("meaning", env=STACKTRACES) as throwing:
            # First without a tracer, because its attaching would make spans run.
            cls.alone = {event: handled(program, event) for event in POINTS + RETRIES}
            with Tracer(("span_stop", "event", "retry", "tool_call"), details=True, attributes=True,
                        canary=canary_in(program)) as tracer:
                with Record(cls.recording, "--pid", program.pid, "--pid", throwing.pid):
                    cls.lines = handled(program, *POINTS, *RETRIES, *(span + ".stop" for span in SPANS))
                    assert throwing.ask("throw") == "done"
                tracer.stop()
            cls.events = tracer.events(pid=program.pid)
        lines = [json.loads(line) for line in nopspan("replay", cls.recording, "--spans").stdout.splitlines()]
        cls.replayed = [line for line in lines if line["name"] in (*POINTS, *RETRIES, *SPANS)]
        cls.thrown = {line["name"]: line for line in lines if line["name"] in ("llm.stream", "shop.parcel")}

    def handled(self, event, lines=None):
        return [line for line in (self.lines if lines is None else lines) if line["event"] == event]

    def assert_placed(self, line):
        attributes = line["attributes"]
        self.assertEqual((line["span_id"], line["parent_id"], line["request_id"]),
                         (attributes["at"], attributes["under"], attributes["of"]), line)

    def test_handlers_and_tracers_report_the_same(self):
        # Handlers receive each retry under two names, and one of the two events may have fewer attributes.
        handled = list(map(of_handler, self.lines))
        probed = sorted(of_bpftrace(self.events))
        self.assertEqual(sorted(row for row in handled if row.name != "retry"),
                         [row for row in probed if row.name != "retry"])
        self.assertGreater(len(probed), 20)
        self.assertEqual(sorted(map(of_collector, self.replayed)), probed)
        self.assertLess({row for row in probed if row.name == "retry"}, {row for row in handled if row.name == "retry"})

    def test_an_event_alone_has_the_ids_of_its_span(self):
        for event in POINTS:
            lines = self.alone[event]
            self.assertEqual(len(lines), len(self.handled(event)), event)
            self.assertGreater(len(lines), 0, event)
            for line in lines:
                self.assertNotIn(line["span_id"], ("", "0" * 16))
                self.assertRegex(line["request_id"], "order-[123]")
                if event != "telemetry.handler.failure":
                    self.assert_placed(line)
        for lines in (self.lines, *(self.alone[event] for event in POINTS)):
            for line in lines:
                if line["event"] in POINTS and "at" in line["attributes"]:
                    self.assert_placed(line)

    def test_the_request_id_in_metadata_is_the_requests(self):
        requests = collections.defaultdict(set)
        for line in self.lines:
            requests[line["request_id"]].add(line["event"].removesuffix(".stop"))
        self.assertEqual(dict(requests), {
            "order-1": {"llm.chat", "llm.step", "llm.tool", "slot", *POINTS, *RETRIES},
            "order-2": {"shop.order", "cache.miss", "llm.generate", "llm.image", "llm.tool", "llm.step"}, "order-3": {"shop.other", "cache.miss"}})
        other, = self.handled("shop.other.stop")
        self.assertEqual(other["attributes"]["request_id"], "order-4", "it stays metadata")
        tool_call, = [e for e in self.events if e.probe == "tool_call"]  # the other tool has no name
        self.assertEqual((tool_call.id, tool_call.name), ("order-1", "find"))

    def test_spans_inside_have_the_engine_and_a_result_is_content_on_tools(self):
        for name, result in (("llm.tool", None), ("llm.step", "a field")):
            inner = self.handled(name + ".stop")[-1]["attributes"]
            self.assertEqual((inner.get("nopspan.engine"), inner.get("result")), ("easel", result), name)

    def test_a_retry_is_one_however_it_is_reported(self):
        seen = sorted((e.arg4, e.arg2, e.name, e.error_type) for e in self.events if e.probe == "retry")
        self.assertEqual(seen, [(attempt, 500_000_000, "llm.step", "timeout") for attempt in (1, 2, 3)])
        self.assertEqual([e.name for e in self.events if e.probe == "event" and e.name in RETRIES], [])
        step, _ = self.handled("llm.step.stop")
        for event in RETRIES:
            self.assertEqual({line["span_id"] for line in self.handled(event)}, {step["span_id"]})
            for lines in (self.lines, self.alone[event]):
                retries = self.handled(event, lines)
                self.assertEqual(len({line["span_id"] for line in retries}), 1, retries)
                self.assertEqual({line["request_id"] for line in retries}, {"order-1"})
                for attempt, line in enumerate(retries, 1):
                    expected = {"retry.attempt": attempt, "retry.delay_ms": 500, "retry.reason": "timeout",
                                "http.response.status_code": 503}
                    self.assertEqual(expected, {key: line["attributes"].get(key) for key in expected})
                    if "at" in line["attributes"]:
                        self.assert_placed(line)

    def test_a_handlers_failure_is_an_event_of_the_span(self):
        failure, = self.handled("telemetry.handler.failure")
        fragile, = self.handled("fragile")
        self.assertEqual((failure["span_id"], failure["request_id"]), (fragile["span_id"], "order-1"))
        self.assertEqual({key: failure["attributes"].get(key) for key in ("event_name", "handler_id", "kind", "reason")},
                         {"event_name": "fragile", "handler_id": "fragile", "kind": "error", "reason": None})

    def test_an_exception_has_a_stack_trace_if_the_environment_asks_for_it(self):
        for name, key in (("llm.stream", "nopspan.stacktrace"), ("shop.parcel", "stacktrace")):
            frames = self.thrown[name]["attributes"][key]
            self.assertRegex(frames[0], r"^meaning\+0x[0-9a-f]+$", "where it was thrown")
            self.assertGreater(len(frames), 1)


if __name__ == "__main__":
    harness.main("protoc", own_processes=False)
