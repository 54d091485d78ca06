# SPDX-License-Identifier: Apache-2.0
"""The agent catalogue on the probes: calls, tools, compactions and iterations are spans with parents and durations."""

import harness
import otlp_attributes
from harness import Program, Tracer, canary_in

# The trace_id of the iteration, and the same 16 bytes in nopspan's notation.
TRACE_ID = "0123456789abcdef0123456789abcdef"
REQUEST_ID = "ASNFZ4mrze8BI0VniavN7w"
KIND_SHIFT, INTERNAL, CLIENT = 12, 1, 3
FLAG_GIVEN_TIMES = 0x200


class Agent(harness.Test):
    @classmethod
    def setUpClass(cls):
        with Program("traced") as program:
            with Tracer(("span_start", "span_stop", "event", "tool_call"), details=True, attributes=True,
                        canaries=[canary_in(program)]) as tracer:
                program.ask("agents")
                tracer.stop()
        cls.stops = tracer.events("span_stop")
        cls.starts = tracer.events("span_start")
        cls.events = tracer.events("event")
        cls.calls = tracer.events("tool_call")

    def stop(self, name):
        found, = [event for event in self.stops if event.name == name]
        return found

    def test_has_a_span_for_each_with_its_start(self):
        names = sorted(event.name for event in self.stops)
        self.assertEqual(names, ["agent.compaction", "agent.llm", "agent.operator.iteration", "agent.tool", "agent.tool",
                                 "agent.tool"])
        self.assertEqual({event.span_id for event in self.starts}, {event.span_id for event in self.stops})

    def test_knows_no_outcome_at_a_start(self):
        self.assertEqual({(event.status, event.error_type) for event in self.starts}, {(0, "")})

    def test_nests_them_in_the_request_of_the_trace_id(self):
        iteration = self.stop("agent.operator.iteration")
        self.assertEqual((iteration.id, iteration.request_id, iteration.parent_id), (TRACE_ID, REQUEST_ID, 0))
        inside = [event for event in self.stops if event.name in ("agent.llm", "agent.tool")]
        self.assertEqual({event.parent_id for event in inside}, {iteration.span_id})
        self.assertEqual({event.request_id for event in inside}, {REQUEST_ID})
        self.assertNotEqual(self.stop("agent.compaction").request_id, REQUEST_ID)

    def test_knows_how_long_a_tool_took_that_reported_its_end_only(self):
        late = [event for event in self.stops if event.name == "agent.tool" and event.flags & FLAG_GIVEN_TIMES]
        self.assertEqual(sorted(event.status for event in late), [0, 3])
        for event in late:
            self.assertGreaterEqual(event.duration_ns, 5_000_000)
            self.assertEqual(event.arg2, event.duration_ns)

    def test_reports_each_tool_once(self):
        self.assertEqual(sorted(event.name for event in self.calls), ["broken", "late", "memory"])

    def test_reports_single_events(self):
        change, = [event for event in self.events if event.name == "agent.operator.state_change"]
        self.assertEqual(change.span_id, self.stop("agent.operator.iteration").span_id)
        attributes, = otlp_attributes.decode([bytes(change.attributes)], of_events=True)
        self.assertEqual(attributes, {"gen_ai.agent.name": "ets", "nopspan.from": "healthy", "nopspan.to": "warning"})

    def test_follows_the_conventions(self):
        spans = [self.stop(name) for name in ("agent.llm", "agent.operator.iteration")]
        call, iteration = otlp_attributes.decode([bytes(span.attributes) for span in spans])
        self.assertEqual(call["gen_ai.operation.name"], "chat")
        self.assertEqual(iteration["gen_ai.operation.name"], "invoke_agent")
        self.assertEqual(iteration["gen_ai.agent.name"], "ets")
        self.assertEqual([span.flags >> KIND_SHIFT & 7 for span in spans], [CLIENT, INTERNAL])


if __name__ == "__main__":
    harness.main("protoc")
