# SPDX-License-Identifier: Apache-2.0
"""A tracer that is attached to `retry` only does not make plain spans cost anything."""

import harness
from harness import GATE_POINTS, GATE_SPANS, Program, Tracer


class RetryOnly(harness.Test):
    def test_plain_spans_are_nops_while_retries_arrive(self):
        with Program("traced") as program:
            with Tracer(("retry",), details=True) as tracer:
                gate = program.gate()
                self.assertNotEqual(gate & GATE_POINTS, 0)
                # A plain span tests only the low 40 bits (kSpanMask).
                self.assertEqual(gate & ((1 << 40) - 1), 0)
                self.assertEqual(program.ask("span plain 1000"), "0", "no plain span has a state")
                self.assertEqual(program.ask("chat"), "1", "a catalogue's span has: it may feed a point probe")
                for attempt in (1, 2, 3):
                    program.ask("retry %d" % attempt)
                tracer.stop()
            self.assertEqual([e.arg4 for e in tracer.events("retry", program.pid)], [1, 2, 3])
            self.assertEqual(program.gate(), 0)

    def test_and_the_reverse_spans_alone_leave_points_down(self):
        with Program("traced") as program:
            with Tracer(("span_stop",)) as tracer:
                self.assertEqual(program.gate() & GATE_POINTS, 0)
                self.assertNotEqual(program.gate() & GATE_SPANS, 0)
                tracer.stop()


if __name__ == "__main__":
    harness.main()
