# SPDX-License-Identifier: Apache-2.0
"""An in-process handler and bpftrace receive the same from the same run."""

import json
import os

import harness
from harness import Program, Tracer

SPAN_PROBES = ("span_start", "span_stop", "span_exception")


class Differential(harness.Test):
    """One run of about 2,000 spans of every kind. Each test compares one property of all spans."""

    @classmethod
    def setUpClass(cls):
        cls.maxDiff = 2000
        with Tracer(SPAN_PROBES, details=True) as tracer:
            folder = cls.folder_of_the_class()
            path = os.path.join(folder, "handler.jsonl")
            with Program("workload") as program:
                assert program.ask("run " + path) == "done"
            tracer.stop()
        # Truncated names are missing, because no handler can be attached under them. Only the tracer receives those
        # spans.
        events = {probe: [e for e in tracer.events(probe) if not e.name.endswith("…")] for probe in SPAN_PROBES}
        cls.cut = {e.name for e in tracer.events() if e.name.endswith("…")}
        cls.probes = {probe: {"%x" % e.span_id: e for e in events[probe]} for probe in SPAN_PROBES}
        cls.printed = {probe: len(events[probe]) for probe in SPAN_PROBES}
        cls.starts, cls.ends = {}, {}
        cls.lines = 0
        with open(path, encoding="utf-8") as file:
            for line in file:
                event = json.loads(line)
                event["name"], _, suffix = event["event"].rpartition(".")
                (cls.starts if suffix == "start" else cls.ends)[event["span_id"]] = event
                cls.lines += 1

    def pairs(self):
        for span_id, seen in self.ends.items():
            yield seen, self.probes["span_stop"][span_id]

    def compare(self, handler, probe, what):
        wrong = [(h["event"], handler(h), probe(p)) for h, p in self.pairs() if handler(h) != probe(p)]
        self.assertEqual(wrong[:5], [], "%d of %d differ in %s" % (len(wrong), len(self.ends), what))

    def test_the_same_spans_each_once(self):
        self.assertGreater(len(self.ends), 2000)
        self.assertEqual(self.lines, len(self.starts) + len(self.ends))
        self.assertEqual(self.printed["span_start"], len(self.starts))
        self.assertEqual(self.printed["span_stop"], len(self.ends))
        self.assertEqual(set(self.probes["span_start"]), set(self.starts))
        self.assertEqual(set(self.probes["span_stop"]), set(self.ends))

    def test_exceptions(self):
        exceptions = {i: e for i, e in self.ends.items() if e["event"].endswith(".exception")}
        self.assertEqual(self.printed["span_exception"], len(exceptions))
        self.assertEqual(set(self.probes["span_exception"]), set(exceptions))
        for span_id, seen in exceptions.items():
            probe = self.probes["span_exception"][span_id]
            self.assertEqual((probe.reason, probe.kind, probe.duration_ns), (seen["type"], seen["kind"], seen["duration_ns"]))
        self.assertEqual({e["type"] for e in exceptions.values()}, {"std::runtime_error", "int", "unknown", "std::out_of_range"})
        self.assertEqual({e["name"] for e in exceptions.values()},
                         {"work.throws", "work.unwound", "work.async", "work.caught"})

    def test_names(self):
        self.compare(lambda h: h["name"], lambda p: p.name, "name")
        self.assertEqual([len(name.encode()) for name in self.cut], [63])
        self.assertEqual({h["name"] for h in self.ends.values()} & {"unnamed", "work.grün", "work.bad?byte", "work.bad?tab"},
                         {"unnamed", "work.grün", "work.bad?byte", "work.bad?tab"})

    def test_request_ids(self):
        self.compare(lambda h: h["request_id"], lambda p: p.id, "request id")
        self.assertTrue(any(h["request_id"] == "order-4711" for h in self.ends.values()))
        self.assertTrue(any(h["request_id"].endswith("…") for h in self.ends.values()), "one that was cut")

    def test_span_parent_and_root_ids(self):
        """Both have them from one place, so this finds errors in their encoders only."""
        self.compare(lambda h: (h["parent_id"], h["root_id"]), lambda p: ("%x" % p.parent_id, "%x" % p.root_id), "ids")

    def test_statuses_and_flags(self):
        self.compare(lambda h: (h["status"], h["flags"]), lambda p: (p.status, p.flags), "status or flags")
        self.compare(lambda h: h["status"], lambda p: p.arg4, "status in arg4")
        self.assertEqual({h["status"] for h in self.ends.values()}, {0, 1, 2, 3})

    def test_durations(self):
        self.compare(lambda h: h["duration_ns"], lambda p: p.duration_ns, "duration")
        self.compare(lambda h: h["duration_ns"], lambda p: p.arg2, "duration in arg2")

    def test_times(self):
        self.compare(lambda h: h["monotonic_time_ns"], lambda p: p.start_ns + p.duration_ns, "time of the end")
        self.compare(lambda h: self.starts[h["span_id"]]["monotonic_time_ns"], lambda p: p.start_ns, "time of the start")
        for span_id, seen in self.starts.items():
            self.assertEqual(self.probes["span_start"][span_id].arg2, seen["monotonic_time_ns"])

    def test_labels_and_links(self):
        for label in ("model", "engine", "tenant"):
            self.compare(lambda h, key=label: h.get(key, ""), lambda p, key=label: p[key], label)
        inner = [h for h in self.ends.values() if h["name"] == "work.leaf"]
        self.assertIn("acme", {h.get("tenant") for h in inner}, "labels are inherited")
        self.compare(lambda h: h["link_count"], lambda p: p.link_count, "links")
        self.compare(lambda h: h["tracestate"], lambda p: p.tracestate, "tracestate")

    def test_error_types(self):
        self.compare(lambda h: h.get("error.type", ""), lambda p: p.error_type if p.status == 1 else "", "error type")

    def test_starts(self):
        for span_id, seen in self.starts.items():
            probe = self.probes["span_start"][span_id]
            self.assertEqual((probe.name, probe.id, "%x" % probe.parent_id, probe.flags, probe.arg4),
                             (seen["name"], seen["request_id"], seen["parent_id"], seen["flags"], probe.span_id))


if __name__ == "__main__":
    harness.main(own_processes=False)
