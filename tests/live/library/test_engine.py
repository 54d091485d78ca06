# SPDX-License-Identifier: Apache-2.0
"""The example engine with fifty clients, a third of which hang up. bpftrace and the server's own books must agree."""

import collections
import os
import shutil
import tempfile

import example_service
import harness
import otlp_attributes
from engine_clients import CANCELLED, CLIENTS, CONTEXT, HANG_UP, MODEL, OPTIONS, SLOTS, Watch, run_clients
from example_service import TRACED, Server, lines_of, steps_of
from harness import FLAG_STEP, Tracer

PROBES = ("span_start", "span_stop", "engine_request", "engine_step", "gauge", "first_token", "tokens")

# The books read the clock, nopspan reads it, and the books read it again. This is the usual time between them. If the
# thread is preempted in between, it takes longer, which shows in the books.
USUAL_CLOCK_TOLERANCE_NS = 1_000_000
# The rate is a double that is computed from the same two integers.
RATE_TOLERANCE = 1e-12


class Engine(harness.Test):
    """One run. Each test compares one property."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        books = os.path.join(folder, "books")
        with Tracer(PROBES, details=True, attributes=True) as tracer:
            with Server(folder, *OPTIONS, "--books", books, env=TRACED) as server:
                clients = run_clients(server, Watch(tracer))
            tracer.stop()
        lines = lines_of(books)
        cls.clients = {client.request_id: client for client in clients}
        cls.book_lines = [line for line in lines if "request" in line]
        cls.books = {line["request"]: line for line in cls.book_lines}
        cls.book_steps = steps_of(lines)
        cls.events = {probe: tracer.events(probe, server.pid) for probe in PROBES}
        cls.requests = {e.id: e for e in cls.events["engine_request"]}
        stops = [e for e in cls.events["span_stop"] if e.name in ("engine.request", "engine.step")]
        decoded = otlp_attributes.decode([bytes(e.attributes) for e in stops])
        cls.attributes = {e.id: a for e, a in zip(stops, decoded) if e.name == "engine.request"}
        cls.steps = [(e, a) for e, a in zip(stops, decoded) if e.name == "engine.step"]

    def pairs(self):
        for request_id, line in self.books.items():
            yield line, self.requests[request_id], self.attributes[request_id]

    def test_each_request_once(self):
        self.assertEqual(len(self.book_lines), CLIENTS)
        self.assertEqual(len(self.events["engine_request"]), CLIENTS)
        self.assertEqual(set(self.books), set(self.clients))
        self.assertEqual(set(self.requests), set(self.clients))
        self.assertEqual(set(self.attributes), set(self.clients))

    def test_times_of_the_phases(self):
        for line, record, attributes in self.pairs():
            for key in ("arrival_ns", "queue_ns", "prefill_ns", "decode_ns"):
                self.assertEqual(record[key], line[key], key)
                self.assertEqual(attributes["nopspan." + key], line[key], key)
            self.assertEqual((record.preemptions, record.start_ns), (0, line["arrival_ns"]))

    def test_tokens(self):
        probes = {e.id: e for e in self.events["tokens"]}
        self.assertEqual(len(self.events["tokens"]), CLIENTS)
        for line, record, attributes in self.pairs():
            tokens = (line["input_tokens"], line["output_tokens"], line["cached_tokens"])
            self.assertEqual((record.input_tokens, record.output_tokens, record.cached_tokens), tokens)
            self.assertEqual((probes[record.id].arg2, probes[record.id].arg4), tokens[:2])
            self.assertEqual(tuple(attributes["gen_ai.usage." + key] for key in
                                   ("input_tokens", "output_tokens", "cache_read.input_tokens")), tokens)
            if tokens[1] > 0:
                self.assertEqual(attributes["nopspan.stream_tokens"], tokens[1])
        self.assertGreater(sum(line["cached_tokens"] for line in self.book_lines), 0, "prefixes were shared")

    def test_tokens_are_what_clients_received(self):
        answered = [client for client in self.clients.values() if not client.leaves]
        self.assertEqual(len(answered), CLIENTS - sum(HANG_UP.values()))
        for client in answered:
            line = self.books[client.request_id]
            self.assertEqual((client.usage["prompt_tokens"], client.usage["completion_tokens"]),
                             (line["input_tokens"], line["output_tokens"]))

    def test_first_tokens(self):
        first = {e.id: e for e in self.events["first_token"]}
        self.assertEqual(set(first), {i for i, line in self.books.items() if line["output_tokens"] > 0})
        widths = []
        for line, record, attributes in self.pairs():
            if "ttft_ns" not in line:
                self.assertEqual(record.arg4, 0)
                self.assertNotIn("nopspan.ttft_ns", attributes)
                continue
            self.assertTrue(line["ttft_ns"] <= record.arg4 <= line["ttft_latest_ns"], (line, record.arg4))
            self.assertEqual((attributes["nopspan.ttft_ns"], first[record.id].arg2), (record.arg4, record.arg4))
            widths.append(line["ttft_latest_ns"] - line["ttft_ns"])
        self.assertLess(sorted(widths)[len(widths) // 2], USUAL_CLOCK_TOLERANCE_NS)

    def test_rates(self):
        with_rate = 0
        for line, _, attributes in self.pairs():
            tokens, decode_ns = line["output_tokens"], line["decode_ns"]
            if tokens < 2 or decode_ns == 0:
                self.assertNotIn("nopspan.tokens_per_second", attributes)
                continue
            with_rate += 1
            rate = (tokens - 1) * 1e9 / decode_ns  # the first token belongs to prefill
            self.assertAlmostEqual(attributes["nopspan.tokens_per_second"] / rate, 1, delta=RATE_TOLERANCE)
        self.assertGreater(with_rate, CLIENTS // 2)

    def test_who_hung_up(self):
        left = {client.request_id for client in self.clients.values() if client.leaves}
        self.assertEqual({i for i, line in self.books.items() if line["cancelled"]}, left)
        self.assertEqual({i for i, record in self.requests.items() if record.status == CANCELLED}, left)
        for request_id, attributes in self.attributes.items():
            self.assertEqual(attributes["nopspan.cancelled"], request_id in left)
            self.assertEqual(attributes.get("nopspan.cancel.reason"), "client_closed" if request_id in left else None)
            self.assertEqual(attributes["gen_ai.response.finish_reasons"], [self.books[request_id]["finish_reason"]])
        self.assertEqual({record.status for record in self.requests.values()}, {0, CANCELLED})

    def test_hanging_up_is_noticed_in_every_phase(self):
        cancelled = collections.defaultdict(set)
        for e in self.events["span_stop"]:
            if e.status == CANCELLED and e.name != "engine.request":
                cancelled[e.name].add(self.clients[e.id].stream)
        self.assertEqual(dict(cancelled), {"engine." + phase: {False, True} for phase in HANG_UP})
        for client in self.clients.values():
            if client.leaves == "queue":
                self.assertEqual(self.books[client.request_id]["output_tokens"], 0)
                self.assertEqual(self.books[client.request_id]["decode_ns"], 0)

    def test_steps(self):
        keys = ("batch_size", "prefill_tokens", "decode_tokens")
        seen = collections.Counter(tuple(attributes["nopspan." + key] for key in keys) for _, attributes in self.steps)
        self.assertEqual(seen, collections.Counter(tuple(line[key] for key in keys) for line in self.book_steps))
        self.assertGreater(sum(seen.values()), 20)
        self.assertIn(SLOTS, {batch for batch, _, _ in seen})
        members = {event.span_id: event.arg4 for event in self.events["engine_step"]}
        self.assertEqual(len(members), len(self.steps))
        for event, attributes in self.steps:
            self.assertEqual(members[event.span_id], attributes["nopspan.batch_size"])
            self.assertTrue(event.flags & FLAG_STEP)
        self.assertEqual(sum(line["decode_tokens"] for line in self.book_steps),
                         sum(line["output_tokens"] for line in self.book_lines))

    def test_gauges(self):
        total = SLOTS * CONTEXT
        bounds = {"running": SLOTS, "waiting": CLIENTS - SLOTS, "kv_cache_used": total, "kv_cache_total": total}
        seen = collections.defaultdict(list)
        for e in self.events["gauge"]:
            self.assertEqual(e.id, "example")
            seen[e.name].append(e.arg2)
            self.assertEqual(e.arg4, total if e.name == "kv_cache_used" else 0)
        self.assertEqual(set(seen), set(bounds))
        for name, values in seen.items():
            self.assertLessEqual(max(values), bounds[name], name)
        self.assertEqual(set(seen["kv_cache_total"]), {total})
        self.assertEqual(max(seen["running"]), SLOTS)
        self.assertGreater(max(seen["waiting"]), 0)
        self.assertGreater(max(seen["kv_cache_used"]), 0)

    def test_labels_from_the_headers(self):
        for e in self.events["engine_request"]:
            self.assertEqual(e.tenant, self.clients[e.id].headers["OpenAI-Organization"])
            self.assertEqual((e.engine, e.model), ("example", MODEL))
        self.assertEqual({attributes["route"] for attributes in self.attributes.values()}, {"test"})


if __name__ == "__main__":
    example_service.need()
    harness.main("protoc")
