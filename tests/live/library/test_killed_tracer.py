# SPDX-License-Identifier: Apache-2.0
"""A tracer that is killed with -9 leaves nothing behind."""

import signal

import harness
from harness import Program, Tracer, wait_until


class KilledTracer(harness.Test):
    def test_the_program_goes_on_and_the_next_attach_works(self):
        with Program("load") as load, Program("traced") as program:
            # Not span_stop, because bpftrace could not print that many events of four threads. The gate is the same.
            tracer = Tracer(("span_exception",))
            with tracer:
                program.ask("span open")
                self.assertNotEqual(load.gate(), 0)
                tracer.stop(signal.SIGKILL)
            for each in (load, program):
                each.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the kernel has closed its files")
            before = int(load.ask("rounds"))
            wait_until(lambda: int(load.ask("rounds")) > before, "the threads to go on")
            self.assertEqual(load.ask("stop"), "right")

            with Tracer() as again:
                program.ask("span again 3")
                again.stop()
            self.assertEqual(again.names(pid=program.pid), {"again": 3})
            program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the last detach")


if __name__ == "__main__":
    harness.main()
