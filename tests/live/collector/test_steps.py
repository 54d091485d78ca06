# SPDX-License-Identifier: Apache-2.0
"""Steps with more members than an entry of a batch holds are steps of all their members' requests, and never requests
themselves."""

import json
import os
import subprocess

import harness
from harness import LIBRARY, NOPSPAN, PATIENCE_S, Program, Test
from test_record import Record

REQUESTS = 1024
STEPS = 20


def lines(*arguments):
    """What a command prints for a recording as JSON."""
    done = subprocess.run([NOPSPAN, "--json", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, timeout=PATIENCE_S, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Steps(Test):
    def test_a_thousand_requests_lose_none_of_their_steps(self):
        path = os.path.join(self.temporary_folder(), "steps.rec")
        with Record(path, "--binary", LIBRARY):
            with Program("steps") as program:
                self.assertEqual(program.ask(f"begin {REQUESTS}"), str(REQUESTS))
                self.assertEqual(program.ask(f"step {STEPS}"), str(REQUESTS * STEPS))
                self.assertEqual(program.ask("end"), "0")
        *traces, end = lines("trace", "--from", path)
        traces = [trace for trace in traces if program.pid in [process["pid"] for process in trace["processes"]]]
        self.assertEqual(len(traces), REQUESTS)
        for trace in traces:
            self.assertEqual([span["name"] for span in trace["spans"]], ["engine.request"])
            linked = {linked["name"]: linked for linked in trace["linked"]}
            self.assertEqual({name: each["count"] for name, each in linked.items()},
                             {"engine.step": STEPS, "llama.gpu": STEPS})
            self.assertEqual(linked["engine.step"]["decode_tokens"], STEPS)
        steps = end["traces"]["steps"]
        self.assertEqual(steps["members"]["joined"], REQUESTS * STEPS)
        self.assertEqual((steps["missing"], steps["stray"], steps["dropped"], steps["members"]["late"]), (0, 0, 0, 0))
        entries = [entry for entry in lines("replay", path, "--spans") if entry["pid"] == program.pid]
        steps = [entry for entry in entries if "step" in entry]
        self.assertEqual([step["step"]["number"] for step in steps], list(range(1, STEPS + 1)))
        self.assertEqual({step["step"]["members"] for step in steps}, {REQUESTS})
        members = [len(entry["members"]) for entry in entries if "members" in entry]
        self.assertEqual(sum(members), REQUESTS * STEPS)


if __name__ == "__main__":
    harness.main()
