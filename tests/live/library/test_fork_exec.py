# SPDX-License-Identifier: Apache-2.0
"""fork() and exec() inside a span. Both processes are traced correctly, and nothing is reported twice."""

import harness
from harness import Program, Tracer, run

SPANS = 100


class Fork(harness.Test):
    """One run. Each test checks one property."""

    @classmethod
    def setUpClass(cls):
        with Tracer(("span_start", "span_stop")) as cls.tracer:
            lines = [line.split() for line in run("forker").splitlines()]
            cls.tracer.stop()
        cls.printed = {line[0]: line[2:] for line in lines}
        cls.sides = {line[0]: int(line[1]) for line in lines}

    def test_each_side_reports_its_own_spans_and_the_parent_the_one_around_the_fork(self):
        self.assertEqual(self.printed, {"parent": ["inherited", "0"], "child": ["inherited", "1"]})
        tracer, sides = self.tracer, self.sides
        self.assertEqual(tracer.names("span_stop", sides["parent"]),
                         {"fork.outer": 1, "fork.before": 1, "fork.parent": SPANS, "fork.parent_root": SPANS})
        self.assertEqual(tracer.names("span_stop", sides["child"]), {"fork.child": SPANS, "fork.child_root": SPANS})
        self.assertEqual(tracer.names("span_start"), tracer.names("span_stop"))

    def test_spans_on_both_sides_belong_to_the_span_around_the_fork(self):
        outer = next(e for e in self.tracer.events("span_stop") if e.name == "fork.outer")
        for event in self.tracer.events("span_stop"):
            if event.name in ("fork.parent", "fork.child"):
                self.assertEqual((event.parent_id, event.root_id, event.id), (outer.span_id, outer.span_id, outer.id))
            elif event.name.endswith("_root"):
                self.assertEqual(event.parent_id, 0)
                self.assertNotEqual(event.id, outer.id)

    def test_ids_and_streams_of_the_sides_are_disjoint(self):
        stops = self.tracer.events("span_stop")
        self.assertEqual(len({e.span_id for e in stops}), len(stops))
        roots = [e.id for e in stops if e.name.endswith("_root")]
        self.assertEqual(len(set(roots)), 2 * SPANS)
        ids = [{e.sequence_id for e in self.tracer.events(pid=pid)} for pid in self.sides.values()]
        self.assertEqual([len(s) for s in ids], [1, 1])
        self.assertTrue(ids[0].isdisjoint(ids[1]))

    def test_sequences_have_no_gap_on_either_side(self):
        for pid in self.sides.values():
            for probe in ("span_start", "span_stop"):
                numbers = sorted(e.sequence for e in self.tracer.events(probe, pid))
                self.assertEqual(numbers, list(range(len(numbers))))


class Exec(harness.Test):
    def test_exec_inside_a_span(self):
        with Tracer(("span_start", "span_stop")) as tracer:
            with Program("traced") as program:
                program.ask("begin before_exec")
                program.ask("span inside")
                self.assertEqual(program.ask("exec"), "ready %d" % program.pid)
                self.assertNotEqual(program.gate() & harness.GATE_SPANS, 0, "the new image is traced too")
                program.ask("span after_exec")
            tracer.stop()
        self.assertEqual(tracer.names("span_start", program.pid), {"before_exec": 1, "inside": 1, "after_exec": 1})
        self.assertEqual(tracer.names("span_stop", program.pid), {"inside": 1, "after_exec": 1})
        before, after = (next(e for e in tracer.events("span_stop") if e.name == n) for n in ("inside", "after_exec"))
        self.assertNotEqual(before.sequence_id, after.sequence_id)
        self.assertNotEqual(before.id, after.id)
        self.assertEqual((after.parent_id, after.flags & harness.FLAG_ORPHAN), (0, 0))


if __name__ == "__main__":
    harness.main()
