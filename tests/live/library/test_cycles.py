# SPDX-License-Identifier: Apache-2.0
"""Tracers attach and detach repeatedly under load. The program's own arithmetic stays right, and its gate is zero at
the end."""

import harness
import usdt
from harness import GATE_SPANS, LIBRARY, LONG, Program, Tracer, wait_until


class Cycles(harness.Test):
    def check(self, cycle, times):
        with Program("load") as program:
            for number in range(times):
                before = int(program.ask("rounds"))
                cycle(program, number)
                program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after detach %d" % number)
                wait_until(lambda: int(program.ask("rounds")) > before, "the threads to go on")
            self.assertEqual(program.ask("stop"), "right")
            self.assertEqual(program.gate(), 0)

    def test_a_hundred_by_perf_event_open(self):
        place = usdt.probes_of(LIBRARY)["span_stop"]

        def cycle(program, _):
            with usdt.Attached(LIBRARY, place) as attached:
                program.wait_for_gate(lambda gate: gate & GATE_SPANS, "the gate to go up")
                wait_until(lambda: attached.hits() > 0, "a hit")

        self.check(cycle, 100)

    def test_bpftrace(self):
        def cycle(program, _):
            # Counted in the kernel, because bpftrace could not print four threads' events fast enough.
            script = ('usdt:%s:nopspan:span_stop { @spans[pid] = count(); }\n'
                      'usdt:%s:nopspan:span_stop /str(arg1) == "canary"/ { printf("up\\n"); }\n' % (LIBRARY, LIBRARY))
            with Tracer(script=script, canaries=[]) as tracer:
                def up():
                    harness.run("traced", "canary", "up")
                    return "up" in tracer.lines
                wait_until(up, "bpftrace to see a canary")
                self.assertNotEqual(program.gate() & GATE_SPANS, 0)
                tracer.stop()
            counts = [line for line in tracer.lines if line.startswith("@spans[%d]: " % program.pid)]
            self.assertEqual(len(counts), 1, tracer.lines)
            self.assertGreater(int(counts[0].split()[1]), 0)

        self.check(cycle, 100 if LONG else 10)


if __name__ == "__main__":
    harness.main("readelf")
