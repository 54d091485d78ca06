# SPDX-License-Identifier: Apache-2.0
"""Steps of an engine are steps of their members' requests, and never requests themselves."""

import json
import os
import subprocess

import harness
from harness import LIBRARY, NOPSPAN, PATIENCE_S, Program, Test
from test_record import Record
from test_trace import Trace

REQUESTS = 1024
STEPS = 20


def replayed(*arguments):
    """The JSON that a command prints for a recording."""
    done = subprocess.run([NOPSPAN, "--json", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, timeout=PATIENCE_S, check=True)
    return done.stdout


def lines(*arguments):
    return [json.loads(line) for line in replayed(*arguments).splitlines()]


class Steps(Test):
    def check(self, traces, end, program):
        """A trace for each request, all with all steps, and none for a step."""
        traces = [trace for trace in traces if program.pid in [process["pid"] for process in trace["processes"]]]
        self.assertEqual(len(traces), REQUESTS)
        for trace in traces:
            self.assertEqual([span["name"] for span in trace["spans"]], ["engine.request"])
            linked = {linked["name"]: linked for linked in trace["linked"]}
            self.assertEqual(set(linked), {"engine.step", "llama.gpu"})
            self.assertEqual({name: each["count"] for name, each in linked.items()},
                             {"engine.step": STEPS, "llama.gpu": STEPS})
            self.assertEqual(linked["engine.step"]["decode_tokens"], STEPS)
        steps = end["traces"]["steps"]
        self.assertEqual(steps["members"]["joined"], REQUESTS * STEPS)
        self.assertEqual((steps["missing"], steps["stray"], steps["dropped"], steps["members"]["late"]), (0, 0, 0, 0))

    def run_engine(self, program):
        self.assertEqual(program.ask(f"begin {REQUESTS}"), str(REQUESTS))
        self.assertEqual(program.ask(f"step {STEPS}"), str(REQUESTS * STEPS))
        self.assertEqual(program.ask("end"), "0")

    def test_a_thousand_requests_lose_none_of_their_steps(self):
        with Trace("--json") as trace:
            with Program("steps") as program:
                self.run_engine(program)
                trace.wait_while_it_runs(lambda: len(trace.traces(program.pid)) >= REQUESTS, "all requests")
            trace.stop()
        self.check(trace.traces(program.pid), trace.last(), program)

    def test_a_recording_has_all_of_them(self):
        path = os.path.join(self.temporary_folder(), "steps.rec")
        with Record(path, "--binary", LIBRARY):
            with Program("steps") as program:
                self.run_engine(program)
        *traces, end = lines("trace", "--from", path)
        self.check(traces, end, program)
        entries = [entry for entry in lines("replay", path, "--spans") if entry["pid"] == program.pid]
        steps = [entry for entry in entries if "step" in entry]
        self.assertEqual([step["step"]["number"] for step in steps], list(range(1, STEPS + 1)))
        self.assertEqual({step["step"]["members"] for step in steps}, {REQUESTS})
        members = [len(entry["members"]) for entry in entries if "members" in entry]
        self.assertEqual(sum(members), REQUESTS * STEPS)
        hist = json.loads(replayed("hist", "--from", path, "--of", "step-tokens", "--pid", program.pid))
        self.assertEqual([row["histogram"]["sum"] for row in hist["rows"]], [REQUESTS * STEPS])
        top = lines("top", "--from", path, "--pid", program.pid)[-1]
        self.assertEqual(top["total"]["requests"], REQUESTS)

    def test_requests_from_before_the_attach_are_counted_and_no_step_is_a_request(self):
        with Program("steps") as program:
            program.ask("begin 4")
            with Trace("--json") as trace:
                program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
                program.ask("step 50")
                done = subprocess.run([NOPSPAN, "--json", "open", "--pid", str(program.pid)], stdout=subprocess.PIPE,
                                      text=True, timeout=PATIENCE_S, check=True)
                trace.stop()
        found = json.loads(done.stdout)
        self.assertEqual(found["requests"], [])
        self.assertEqual([process["early_request_keys"] for process in found["processes"]], [[1, 2, 3, 4]])
        self.assertEqual(trace.traces(program.pid), [])
        traces = trace.last()["traces"]
        self.assertEqual(traces["steps"]["requests_before_attach"], 4)
        # On a busy machine, the first of the 50 steps may run before the tracer has attached completely.
        self.assertGreater(traces["steps"]["all"], 0)
        self.assertEqual(traces["steps"]["members"]["unknown"], 4 * traces["steps"]["all"])
        self.assertEqual(trace.last()["ledger"]["total"]["lost"], 0)
        self.assertEqual((traces["unfinished"], traces["partial"]), (0, 0))

    def test_a_step_that_is_larger_than_the_buffer_says_how_many_requests_are_missing(self):
        with Program("steps") as program:
            program.ask("begin 4096")
            with Trace("--json"):
                program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
                program.ask("step 2")
                done = subprocess.run([NOPSPAN, "--json", "open", "--pid", str(program.pid)], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=True)
        (process,) = json.loads(done.stdout)["processes"]
        keys = process["early_request_keys"]
        self.assertEqual(keys[-1], 4096)
        self.assertEqual(len(keys) + process["early_requests_unread"], 4096)


if __name__ == "__main__":
    harness.main()
