# SPDX-License-Identifier: Apache-2.0
"""Tracers attach and detach repeatedly under load, and one is killed. The program's own arithmetic stays right, and its
gate is zero at the end."""

import signal

import harness
from harness import GATE_SPANS, LIBRARY, LONG, Program, Tracer, wait_until


class Cycles(harness.Test):
    def wait_for_rounds(self, program, before):
        wait_until(lambda: int(program.ask("rounds")) > before, "the threads to go on")

    def test_bpftrace(self):
        # Counted in the kernel, because bpftrace could not print four threads' events fast enough.
        script = ('usdt:%s:nopspan:span_stop { @spans[pid] = count(); }\n'
                  'usdt:%s:nopspan:span_stop /str(arg1) == "canary"/ { printf("up\\n"); }\n' % (LIBRARY, LIBRARY))
        with Program("load") as program:
            for number in range(100 if LONG else 10):
                before = int(program.ask("rounds"))
                with Tracer(script=script, canaries=[]) as tracer:
                    def up():
                        harness.run("traced", "canary", "up")
                        return "up" in tracer.lines  # pylint: disable=cell-var-from-loop
                    wait_until(up, "bpftrace to see a canary")
                    self.assertNotEqual(program.gate() & GATE_SPANS, 0)
                    tracer.stop()
                counts = [line for line in tracer.lines if line.startswith("@spans[%d]: " % program.pid)]
                self.assertEqual(len(counts), 1, tracer.lines)
                self.assertGreater(int(counts[0].split()[1]), 0)
                program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after detach %d" % number)
                self.wait_for_rounds(program, before)
            self.assertEqual(program.ask("stop"), "right")
            self.assertEqual(program.gate(), 0)

    def test_a_killed_tracer_leaves_nothing_behind(self):
        with Program("load") as load, Program("traced") as program:
            # Not span_stop, because bpftrace could not print that many events of four threads. The gate is the same.
            with Tracer(("span_exception",)) as tracer:
                program.ask("span open")
                self.assertNotEqual(load.gate(), 0)
                tracer.stop(signal.SIGKILL)
            for each in (load, program):
                each.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the kernel has closed its files")
            self.wait_for_rounds(load, int(load.ask("rounds")))
            self.assertEqual(load.ask("stop"), "right")
            with Tracer() as again:
                program.ask("span again 3")
                again.stop()
            self.assertEqual(again.names(pid=program.pid), {"again": 3})
            program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the last detach")


if __name__ == "__main__":
    harness.main(own_processes=False)
