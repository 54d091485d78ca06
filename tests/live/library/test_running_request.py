# SPDX-License-Identifier: Apache-2.0
"""A tracer that attaches in the middle of a request does not create false root spans."""

import time

import harness
from harness import FLAG_ORPHAN, Program, Tracer


class RunningRequest(harness.Test):
    def one(self, tracer, name):
        events = [e for e in tracer.events("span_stop") if e.name == name]
        self.assertEqual(len(events), 1, name)
        return events[0]

    def test_a_span_inside_one_that_nobody_recorded_is_an_orphan(self):
        with Program("traced") as program:
            program.ask("begin running")
            with Tracer(("span_start", "span_stop")) as tracer:
                program.ask("span inside")
                program.ask("thread_span new_thread")
                program.ask("end")
                tracer.stop()
        inside = self.one(tracer, "inside")
        self.assertEqual(inside.parent_id, 0)
        self.assertTrue(inside.flags & FLAG_ORPHAN, "it looks like a root, and is none")
        self.assertTrue(self.one(tracer, "new_thread").flags & FLAG_ORPHAN, "the library does not know a thread's age")
        self.assertEqual(tracer.names("span_stop", program.pid), {"inside": 1, "new_thread": 1})
        for event in tracer.events("span_start"):
            self.assertEqual(event.flags, self.one(tracer, event.name).flags)

    def test_roots_are_roots_again(self):
        with Program("traced") as program:
            with Tracer() as tracer:
                program.ask("begin parent")
                program.ask("span child")
                program.ask("end")
                # The doubt lasts one second by design (src/library/state/orphans.h). Here the condition is a time.
                time.sleep(1.1)
                program.ask("span child_name_never_seen_below")
                program.ask("span root")
                program.ask("thread_span new_thread")
                tracer.stop()
        self.assertTrue(self.one(tracer, "parent").flags & FLAG_ORPHAN)
        self.assertFalse(self.one(tracer, "child").flags & FLAG_ORPHAN, "its parent is known")
        self.assertFalse(self.one(tracer, "root").flags & FLAG_ORPHAN)
        self.assertFalse(self.one(tracer, "new_thread").flags & FLAG_ORPHAN)


if __name__ == "__main__":
    harness.main()
