# SPDX-License-Identifier: Apache-2.0
"""Content reaches a probe only if content capture is enabled. The test searches all bytes of the probes for texts of
each kind."""

import harness
from harness import PROBES, Program, Tracer


class Content(harness.Test):
    """One run of a program with each setting."""

    SETTINGS = {"none": {}, "events": {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY"},
                "all": {"NOPSPAN_CAPTURE_CONTENT": "1"}}

    @classmethod
    def setUpClass(cls):
        cls.emitted, cls.handled, cls.seen = {}, {}, {}
        for setting, env in cls.SETTINGS.items():
            # Each has its own tracer, because a line that is not a whole event does not say which program it is of.
            with Tracer(PROBES, details=True, attributes=True) as tracer:
                with Program("content", env=env) as program:
                    cls.emitted[setting] = program.ask("emit").split()
                    cls.handled[setting] = int(program.ask("handled"))
                lines = tracer.stop()
            events = tracer.events(pid=program.pid)
            assert len(events) > 60, "the events of three catalogues"
            printed = [line.encode("utf-8", tracer.decoding_errors) for line in lines]
            cls.seen[setting] = b"\n".join(printed + [bytes(event.attributes) for event in events])

    def test_stays_with_the_handlers(self):
        self.assertGreater(len(self.emitted["none"]), 50)
        self.assertEqual(self.handled["none"], len(self.emitted["none"]), "handlers see all of it")
        self.assertIn(b"gen_ai.tool.name", self.seen["none"])
        self.assertNotIn(b"CANARY", self.seen["none"])

    def test_goes_to_the_probes_of_events_alone(self):
        self.assertIn(b"-explanation-END", self.seen["events"])
        self.assertNotIn(b"-memory-query-END", self.seen["events"])

    def test_goes_to_the_probes_with_the_switch(self):
        missing = [text for text in self.emitted["all"] if text.encode() not in self.seen["all"]]
        self.assertEqual(missing, [])


if __name__ == "__main__":
    harness.main(own_processes=False)
