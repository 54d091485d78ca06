# SPDX-License-Identifier: Apache-2.0
"""The probes tokens, tool_call, first_token, retry, engine_request, gauge and event fire once each, with the right
numbers."""

import harness
from harness import PROBES, Program, Tracer


class Points(harness.Test):
    """One run. Each test checks one probe."""

    @classmethod
    def setUpClass(cls):
        with Tracer(PROBES, details=True) as cls.tracer:
            with Program("traced") as program:
                program.ask("points")
            cls.tracer.stop()
        cls.pid = program.pid
        cls.stops = {e.name: e for e in cls.tracer.events("span_stop")}

    def events(self, probe):
        return self.tracer.events(probe, self.pid)

    def only(self, probe):
        events = self.events(probe)
        self.assertEqual(len(events), 1)
        return events[0]

    def test_each_fact_fires_its_probe_once(self):
        counts = {probe: len(self.events(probe)) for probe in PROBES}
        self.assertEqual(counts, {"span_start": 4, "span_stop": 4, "span_exception": 0, "event": 1, "first_token": 2,
                                  "tokens": 2, "retry": 1, "tool_call": 1, "engine_request": 1, "engine_step": 0, "gauge": 2})

    def test_all_belong_to_one_request(self):
        for event in self.events(None):
            self.assertEqual(event.request_id, self.stops["llm.chat"].id, event.probe)
            if event.probe != "gauge":  # the first argument of gauge is the engine
                self.assertEqual(event.id, event.request_id, event.probe)

    def test_tokens_of_the_innermost_span(self):
        step, request = self.events("tokens")
        self.assertEqual((step.name, step.arg2, step.arg4, step.model), ("llm.step", 11, 7, "tiny-2"))
        self.assertEqual((step.input_tokens, step.output_tokens, step.cached_tokens, step.reasoning_tokens), (11, 7, 5, 2))
        self.assertEqual((request.name, request.arg2, request.arg4), ("engine.request", 21, 22))

    def test_span_stop_alone_answers_for_tokens_and_first_token(self):
        step = self.stops["llm.step"]
        self.assertEqual((step.input_tokens, step.output_tokens, step.cached_tokens, step.reasoning_tokens), (11, 7, 5, 2))
        self.assertEqual(step.first_token_ns, self.events("first_token")[0].arg2)

    def test_first_token(self):
        step, request = self.events("first_token")
        self.assertEqual((step.name, step.arg4, step.span_id), ("llm.step", 3, self.stops["llm.step"].span_id))
        self.assertTrue(0 < step.arg2 <= self.stops["llm.step"].duration_ns)
        self.assertEqual((request.name, request.arg4), ("engine.request", 1))

    def test_retry(self):
        retry = self.only("retry")
        self.assertEqual((retry.name, retry.arg2, retry.arg4, retry.model), ("llm.step", 500_000_000, 2, "tiny-2"))
        self.assertEqual((retry.error_type, retry.span_id), ("rate_limit", self.stops["llm.step"].span_id))

    def test_tool_call(self):
        call, tool = self.only("tool_call"), self.stops["llm.tool"]
        self.assertEqual((call.name, call.arg4, call.model, call.engine), ("calculator", 1, "tiny-1", "llama.cpp"))
        self.assertEqual((call.arg2, call.span_id, call.parent_id), (tool.arg2, tool.span_id, self.stops["llm.chat"].span_id))
        self.assertEqual(call.error_type, "division_by_zero")

    def test_engine_request(self):
        request, span = self.only("engine_request"), self.stops["engine.request"]
        self.assertEqual((request.name, request.arg2, request.arg4), (span.name, span.duration_ns, span.first_token_ns))
        self.assertEqual((request.queue_ns, request.prefill_ns, request.decode_ns, request.preemptions), (1000, 2000, 3000, 4))
        self.assertEqual(request.arrival_ns, span.start_ns)
        self.assertEqual(request.engine_size, 320)

    def test_gauge(self):
        used, drift = self.events("gauge")
        self.assertEqual((used.id, used.name, used.arg2, used.arg4), ("engine-0", "kv_cache_used", 123, 4096))
        self.assertEqual((drift.name, drift.arg2 - (1 << 64), drift.arg4), ("drift", -5, 0))

    def test_event(self):
        event = self.only("event")
        self.assertEqual((event.name, event.arg4), ("app.cache_hit", self.stops["llm.chat"].span_id))
        self.assertGreater(event.arg2, self.stops["llm.chat"].start_ns)

    def test_records_say_their_size(self):
        for event in self.events(None):
            self.assertEqual(event.size, 216, event.probe)


if __name__ == "__main__":
    harness.main(own_processes=False)
