# SPDX-License-Identifier: Apache-2.0
"""Tracers attach and detach repeatedly under load, and one is killed. The program's own arithmetic stays right, and its
gate is zero at the end."""

import signal

import harness
from harness import GATE_SPANS, LIBRARY, LONG, Bpftrace, Counting, Program, Tracer, wait_until


class Cycles(harness.Test):
    def start_load(self):
        """Four threads at full speed. Others go first, because bpftrace takes long to start beside them."""
        program = self.enterContext(Counting(self.temporary_folder(), threads=4, depth=1, prefix=("nice",)))
        program.ask("start")
        return program

    def wait_for_work(self, program):
        before = program.entries()
        wait_until(lambda: program.entries() > before + 1000, "the threads to go on")

    def test_bpftrace(self):
        # Counted in the kernel, because bpftrace could not print four threads' events fast enough.
        script = "usdt:%s:nopspan:span_stop { @spans[pid] = count(); }" % LIBRARY
        program = self.start_load()
        for number in range(100 if LONG else 5):
            with Bpftrace([harness.BPFTRACE, "-e", script]) as tracer:
                self.assertNotEqual(program.gate() & GATE_SPANS, 0)
                self.wait_for_work(program)
                tracer.stop()
            counts = [line for line in tracer.lines if line.startswith("@spans[%d]: " % program.pid)]
            self.assertEqual(len(counts), 1, tracer.lines)
            self.assertGreater(int(counts[0].split()[1]), 0)
            program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after detach %d" % number)
            self.wait_for_work(program)
        self.assertEqual(program.ask("stop"), str(program.entries()))
        self.assertEqual(program.gate(), 0)

    def test_a_killed_tracer_leaves_nothing_behind(self):
        load = self.start_load()
        with Program("traced") as program:
            # Not span_stop, because bpftrace could not print that many events of four threads. The gate is the same.
            with Tracer(("span_exception",)) as tracer:
                program.ask("span open")
                self.assertNotEqual(load.gate(), 0)
                tracer.stop(signal.SIGKILL)
            for each in (load, program):
                each.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the kernel has closed its files")
            self.wait_for_work(load)
            self.assertEqual(load.ask("stop"), str(load.entries()))
            with Tracer() as again:
                program.ask("span again 3")
                again.stop()
            self.assertEqual(again.names(pid=program.pid), {"again": 3})
            program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the last detach")


if __name__ == "__main__":
    harness.main(own_processes=False)
