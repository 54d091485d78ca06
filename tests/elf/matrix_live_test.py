# SPDX-License-Identifier: Apache-2.0
"""For every compiler, linker, kind of code and linkage: bpftrace receives exactly the program's events, whether it
attaches before or after the program starts."""

import itertools
import os
import re
import subprocess
import time
import unittest
from collections import Counter

import builds
import surroundings
from tracer import Tracer

RECORD = 216  # offsetof(struct nopspan_span, reserved)
# The events of programs/work.cpp as tracer.py prints them: name, model, a check of the time or its value, arg4, record
# size.
EVENTS = Counter([
    f"span_start matrix.scope a-model 1 1 {RECORD}",
    f"span_start matrix.async a-model 1 1 {RECORD}",
    f"retry matrix.scope a-model 500000000 2 {RECORD}",
    f"event matrix.moment a-model 1 1 {RECORD}",
    f"span_start matrix.closure a-model 1 1 {RECORD}",
    f"span_stop matrix.closure a-model 1 3 {RECORD}",
    f"span_exception matrix.closure a-model 1 std::out_of_range {RECORD}",
    f"span_stop matrix.async a-model 1 0 {RECORD}",
    f"span_stop matrix.scope a-model 1 0 {RECORD}",
])

numbers = itertools.count()


class Run:
    """One process of a program. It begins its request when the test releases it."""

    def __init__(self, program, **environment):
        self.program = program
        self.request = f"{program.name}#{next(numbers)}"
        self._process = subprocess.Popen([program.path, self.request], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, env={**os.environ, **environment})
        assert self._process.stdout.readline() == "ready\n"

    def stop(self):
        """Lets the process finish, unless it already has."""
        if self._process.returncode is None:
            self._process.communicate()

    def release(self):
        """Lets the process finish. Returns the gate as the program read it, and the exit status."""
        output, _ = self._process.communicate()
        gate = re.fullmatch(r"gate ([0-9a-f]{16})\n", output)
        return int(gate[1], 16) if gate else None, self._process.returncode


class Matrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.programs = list(builds.programs())
        cls.files = sorted({str(program.sites) for program in cls.programs})

    def attach(self):
        """Attaches a tracer to all files. When this returns, the tracer reports all events of a run that begins now."""
        started = time.monotonic()
        tracer = Tracer(self.files)
        self.addCleanup(tracer.stop)
        dark = self.programs
        while dark and tracer.alive() and time.monotonic() < started + 120:
            canaries = [Run(program) for program in dark]
            for canary in canaries:
                canary.release()
            # If a probe is attached, its output appears within a fraction of a second.
            tracer.wait(lambda: all(tracer.lines(canary.request) == EVENTS for canary in canaries), timeout=1)
            dark = [canary.program for canary in canaries if tracer.lines(canary.request) != EVENTS]
        self.assertEqual([], [program.name for program in dark], f"never traced; bpftrace said: {tracer.complaints}")
        print(f"{len(self.files)} files, {len(self.files) * 5} probes: up after {time.monotonic() - started:.1f} s")
        return tracer

    def start_all(self, when):
        runs = [(when, Run(program)) for program in self.programs]
        for _, run in runs:
            self.addCleanup(run.stop)
        return runs

    def check(self, tracer, runs):
        for when, run in runs:
            gate, status = run.release()
            with self.subTest(run.program.name, attached=when):
                self.assertEqual(0, status)
                self.assertNotEqual(0, gate & 0xFFFF, "spans: the program does not see the raised gate")
                self.assertNotEqual(0, gate >> 48, "points: the program does not see the raised gate")
        tracer.wait(lambda: all(tracer.lines(run.request) == EVENTS for _, run in runs), timeout=20)
        started = time.monotonic()
        tracer.stop()  # also reads the remaining output, so that superfluous events are seen
        print(f"detached after {time.monotonic() - started:.1f} s")
        for when, run in runs:
            with self.subTest(run.program.name, attached=when):
                self.assertEqual(EVENTS, tracer.lines(run.request))
        self.assertEqual([], tracer.complaints)

    def test_attached_before_and_after_the_program_starts(self):
        """One tracer for both cases, because the kernel takes 0.1 s to detach each probe."""
        runs = self.start_all("after")
        tracer = self.attach()
        self.check(tracer, runs + self.start_all("before"))

    @unittest.skipUnless(surroundings.LONG, "NOPSPAN_LONG=1")
    def test_attached_before_any_process_maps_the_file(self):
        tracer = self.attach()
        self.check(tracer, self.start_all("before"))

    def test_without_a_tracer(self):
        for program in self.programs:
            with self.subTest(program.name):
                self.assertEqual((0, 0), Run(program).release())


if __name__ == "__main__":
    surroundings.need_bpftrace()
    surroundings.main()
