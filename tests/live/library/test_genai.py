# SPDX-License-Identifier: Apache-2.0
"""The example service according to bpftrace, to its handlers, and to the agent's own counts. All three must
agree."""

import collections
import os
import shutil
import tempfile

import example_service
import harness
import otlp_attributes
from example_service import ITERATION, PROMPTS, TRACED, Agent, Server, canonical, lines_of, of_handlers
from harness import SOURCE, Test, Tracer

PRICES = os.path.join(SOURCE, "examples", "chat_service", "prices.json")
PROBES = ("span_stop", "event", "retry", "first_token", "tokens", "tool_call")


def of_records(events):
    """The same according to bpftrace, with the bytes decoded by protoc."""
    found = collections.defaultdict(list)
    for probes, of_events in ((("span_stop",), False), (("event", "retry"), True)):
        records = [e for e in events if e.probe in probes and e.name != ITERATION]
        decoded = otlp_attributes.decode([bytes(e.attributes) for e in records], of_events)
        for event, attributes in zip(records, decoded):
            found[event.pid, event.span_id, event.probe, event.name].append(canonical(attributes))
    return found


class Service(Test):
    """One run of both programs, with failing requests and retries. Each test checks one property."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        server_log, agent_log = (os.path.join(folder, name) for name in ("server", "agent"))
        with Tracer(PROBES, details=True, attributes=True) as cls.tracer:
            with Server(folder, "--fail-rate", "0.3", "--seed", "7", events=server_log, env=TRACED) as server:
                agent = Agent(server.url, *PROMPTS * 4, "--concurrency", "4",
                              "--max-attempts", "12", "--retry-delay-ms", "5", "--prices", PRICES, "--organization", "acme", "--route", "chat",
                              events=agent_log, env=TRACED)
            cls.tracer.stop()
        cls.agent, cls.server = agent, server
        cls.agent_lines, cls.server_lines = lines_of(agent_log), lines_of(server_log)

    def records(self, probe, name=None):
        return [e for e in self.tracer.events(probe, self.agent.pid) if name in (None, e.name)]

    def handled(self, event):
        return [line for line in self.agent_lines if line["event"] == event]

    def by_span(self, event, value):
        return collections.Counter((int(line["span_id"], 16), value(line)) for line in self.handled(event))

    def test_the_agent_had_its_answers_though_the_server_failed(self):
        self.assertEqual(self.agent.status, 0)
        for count in ("retries", "tool_calls", "tool_errors"):
            self.assertGreater(self.agent.summary[count], 0, count)

    def test_records_and_handlers_have_the_same_attributes(self):
        lines = self.agent_lines + self.server_lines
        self.assertEqual({line["pid"] for line in lines}, {self.agent.pid, self.server.pid})
        handlers, records = of_handlers(lines), of_records(self.tracer.events())
        self.assertEqual(set(handlers) - set(records), set(), "no record of what handlers saw")
        self.assertEqual(set(records) - set(handlers), set(), "no handler saw what was recorded")
        for key, attributes in handlers.items():
            self.assertEqual(sorted(attributes), sorted(records[key]), key)
        self.assertGreater(sum(map(len, handlers.values())), 200)
        self.assertIn("gen_ai.usage.cost", self.handled("llm.step.stop")[0]["attributes"])

    def test_an_iteration_is_a_span_to_probes_and_an_event_to_handlers(self):
        spans = {e.span_id for e in self.records("span_stop", ITERATION)}
        self.assertEqual(len(spans), self.agent.summary["steps"])
        self.assertEqual({int(line["span_id"], 16) for line in self.handled(ITERATION + "_start")}, spans)
        self.assertEqual({e.parent_id for e in self.records("span_stop", "llm.step")}, spans)

    def test_first_tokens(self):
        seen = collections.Counter((e.span_id, e.arg2) for e in self.records("first_token", "llm.step"))
        self.assertEqual(sum(seen.values()), self.agent.summary["steps"])
        self.assertEqual(seen, self.by_span("gen_ai.stream.first_token",
                                            lambda line: line["measurements"]["time_to_first_token"]))

    def test_tokens(self):
        seen = self.records("tokens")
        summary = self.agent.summary
        self.assertEqual({e.name for e in seen}, {"llm.step"})
        for field, total in (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"),
                             ("cached_tokens", "cached_tokens")):
            self.assertEqual(sum(e[field] for e in seen), summary[total], field)
        metadata = self.by_span("llm.step.stop", lambda line: (line["metadata"]["input_tokens"],
                                                              line["metadata"]["output_tokens"]))
        self.assertEqual(collections.Counter((e.span_id, (e.arg2, e.arg4)) for e in seen), metadata)

    def test_retries(self):
        seen = self.records("retry")
        self.assertEqual(len(seen), self.agent.summary["retries"])
        reported = self.by_span("llm.adapter.retry", lambda line: (line["metadata"]["attempt"],
                                                              line["metadata"]["delay_ms"] * 1_000_000))
        self.assertEqual(collections.Counter((e.span_id, (e.arg4, e.arg2)) for e in seen), reported)
        self.assertEqual(len(self.handled("gen_ai.retry")), len(seen))

    def test_tool_calls(self):
        seen = self.records("tool_call")
        self.assertEqual(len(seen), self.agent.summary["tool_calls"])
        self.assertEqual(sum(e.arg4 != 0 for e in seen), self.agent.summary["tool_errors"])
        self.assertEqual({(e.span_id, e.name) for e in seen},
                         {(int(line["span_id"], 16), line["metadata"]["tool_name"])
                          for line in self.handled("llm.tool.stop")})

    def test_what_passes_between_agent_and_model(self):
        summary = self.agent.summary
        names = self.tracer.names("event", self.agent.pid)
        self.assertEqual(names["gen_ai.prompt.sent"], summary["steps"] + summary["retries"])
        self.assertEqual(names["gen_ai.response.received"], summary["steps"])
        self.assertEqual(names["gen_ai.tool.call"], summary["tool_calls"])
        for name in ("started", "done", "loop_stopped"):
            self.assertEqual(names["agent.operator." + name], summary["requests"], name)

    def test_labels_cross_to_the_server(self):
        requests = [line for line in self.server_lines if line["event"] == "engine.request.stop"]
        self.assertEqual({line["metadata"]["tenant"] for line in requests}, {"acme"})
        self.assertEqual({line["attributes"]["route"] for line in requests}, {"chat"})
        self.assertEqual({e.tenant for e in self.tracer.events("span_stop", self.server.pid)
                          if e.name == "engine.request"}, {"acme"})


if __name__ == "__main__":
    example_service.need()
    harness.main("protoc")
