# SPDX-License-Identifier: Apache-2.0
"""Content reaches a probe only if content capture is enabled. The test searches all bytes of the probes for texts of
each kind."""

import harness
from harness import PROBES, Program, Tracer, canary_in


class Content(harness.Test):
    def carried(self, env):
        """(emitted texts, texts that handlers received, all bytes of the probes)."""
        with Program("content", env=env) as program:
            with Tracer(PROBES, details=True, attributes=True, canary=canary_in(program)) as tracer:
                emitted = program.ask("emit").split()
                handled = int(program.ask("handled"))
                lines = tracer.stop()
            events = tracer.events()
        self.assertGreater(len(events), 60, "the events of three catalogues")
        seen = "\n".join(lines).encode() + b"\n".join(bytes(event.attributes) for event in events)
        return emitted, handled, seen

    def test_stays_with_the_handlers(self):
        emitted, handled, seen = self.carried({})
        self.assertGreater(len(emitted), 50)
        self.assertEqual(handled, len(emitted), "handlers see all of it")
        self.assertIn(b"gen_ai.tool.name", seen)
        self.assertNotIn(b"CANARY", seen)

    def test_goes_to_the_probes_of_events_alone(self):
        _, _, seen = self.carried({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY"})
        self.assertIn(b"-explanation-END", seen)
        self.assertNotIn(b"-memory-query-END", seen)

    def test_goes_to_the_probes_with_the_switch(self):
        emitted, _, seen = self.carried({"NOPSPAN_CAPTURE_CONTENT": "1"})
        missing = [text for text in emitted if text.encode() not in seen]
        self.assertEqual(missing, [])


if __name__ == "__main__":
    harness.main(own_processes=False)
