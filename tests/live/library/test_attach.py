# SPDX-License-Identifier: Apache-2.0
"""Attaching and detaching: before and after a program starts, with two tracers together, and to one process only."""

import harness
from harness import GATE_SPANS, Program, Tracer, canary_in, canary_program, run


class Attach(harness.Test):
    def test_before_the_program_starts(self):
        with Tracer(("span_start", "span_stop")) as tracer:
            with Program("traced") as program:
                self.assertNotEqual(program.gate() & GATE_SPANS, 0)
                program.ask("span early 3")
            tracer.stop()
        self.assertEqual(tracer.names("span_start", program.pid), {"early": 3})
        self.assertEqual(tracer.names("span_stop", program.pid), {"early": 3})
        for event in tracer.events(pid=program.pid):
            self.assertEqual(event.flags & harness.FLAG_ORPHAN, 0, "it began after the attach")

    def test_after_the_program_started(self):
        with Program("traced") as program:
            self.assertEqual(program.gate(), 0)
            self.assertEqual(program.ask("span unseen 3"), "0")
            with Tracer() as tracer:
                self.assertEqual(program.ask("span seen 3"), "3")
                tracer.stop()
            self.assertEqual(tracer.names(pid=program.pid), {"seen": 3})

    def test_a_static_program_before_and_after(self):
        binary = harness.program_path("traced_static")
        with Program("traced_static") as running:
            with Tracer(libraries=[binary], canary=canary_program("traced_static")) as tracer:
                running.ask("span running")
                with Program("traced_static") as started:
                    started.ask("span started")
                tracer.stop()
            self.assertEqual(tracer.names(), {"running": 1, "started": 1})
            self.assertEqual(running.gate(), 0)

    def test_detach_leaves_the_program_as_it_was(self):
        with Program("traced") as program:
            with Tracer(("span_start", "span_stop", "retry")) as tracer:
                program.ask("begin open")
                program.ask("span seen")
                tracer.stop()
                program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the detach")
                self.assertEqual(program.ask("span unseen"), "0")
                # Begins while a tracer is attached, and ends when none is.
                program.ask("end")
            self.assertEqual(tracer.names("span_stop", program.pid), {"seen": 1})
            self.assertEqual(tracer.names("span_start", program.pid), {"open": 1, "seen": 1})
            with Tracer() as again:
                program.ask("span seen_again")
                again.stop()
            self.assertEqual(again.names(pid=program.pid), {"seen_again": 1})

    def test_two_tracers_see_the_same(self):
        with Program("traced") as program:
            with Tracer() as first, Tracer(("span_start", "span_stop")) as second:
                program.ask("span both 5")
                first.stop()
                program.ask("span second 5")
                self.assertNotEqual(program.gate() & GATE_SPANS, 0, "the other tracer still looks")
                second.stop()
                program.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the last detach")
            self.assertEqual(first.names("span_stop", program.pid), {"both": 5})
            self.assertEqual(second.names("span_stop", program.pid), {"both": 5, "second": 5})
            identities = [sorted((e.span_id, e.sequence, e.duration_ns) for e in t.events("span_stop", program.pid)
                                 if e.name == "both") for t in (first, second)]
            self.assertEqual(identities[0], identities[1])

    def check_one_process(self, library):
        with Program("traced") as wanted, Program("traced") as other:
            with Tracer(libraries=[library], options=["-p", str(wanted.pid)], canary=canary_in(wanted)) as tracer:
                wanted.ask("span wanted 2")
                self.assertEqual(other.ask("span other 2"), "0", "another process does not pay")
                run("traced", "canary", "elsewhere")
                tracer.stop()
            self.assertEqual(tracer.names(), {"wanted": 2})
            self.assertEqual({e.pid for e in tracer.events()}, {wanted.pid})
            wanted.wait_for_gate(lambda gate: gate == 0, "the gate at zero after the detach")

    def test_one_process_by_its_pid_and_the_file(self):
        self.check_one_process(harness.LIBRARY)

    def test_one_process_by_its_pid_alone(self):
        self.check_one_process("*")


if __name__ == "__main__":
    harness.main(own_processes=False)
