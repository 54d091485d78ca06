# SPDX-License-Identifier: Apache-2.0
"""Scripts of events that are not spans, each run alone. The attributes of an enclosing plain span reach the events
inside it nevertheless."""

import os
import re

import installed
from harness import SOURCE, Program, Test

# What each script shows of `within_plain` in programs/traced.cpp.
SHOWN = {
    "tokens.bt": ("requests", {"llm.step, outer-model": 1}),
    "retries.bt": ("retries", {"busy, llm.step, outer-model": 1}),
    "tools.bt": ("calls", {"calculator": 1}),
    "queue.bt": ("requests", {"outer-model": 1}),
    "cancelled.bt": ("cancelled", {"outer-model, queue, deadline": 1}),
}


class Alone(Test):
    def test_labels_of_a_plain_span(self):
        for name, (table, expected) in SHOWN.items():
            with self.subTest(name), Program("traced") as program:
                with installed.Script(name, program.pid, "acme") as script:
                    program.ask("within_plain")
                    script.stop()
                self.assertEqual(script.maps()[table], expected)

    def test_every_script_of_such_events_is_here(self):
        for name in SHOWN:
            with open(os.path.join(SOURCE, "scripts", name), encoding="utf-8") as file:
                self.assertIsNone(re.search(r"(?m):span_(start|stop)$", file.read()), name)


if __name__ == "__main__":
    installed.main()
