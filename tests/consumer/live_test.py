#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Traces the program that build_test.py KIND has built, by the path of the file that contains its probes.

The program attaches no handler. If its spans are recorded, the kernel has raised the word that the program reads."""
import re
import subprocess
import sys

import tracer
from kinds import KINDS
from surroundings import expect, need_bpftrace, run


def main(kind):
    need_bpftrace()
    consumer = KINDS[kind](build=False)

    def start(mode):
        return run([consumer.program, mode], env=consumer.environment)

    expect(start("traced").count("nobody is tracing") == 3, "spans are live although nobody is tracing")
    bpftrace = tracer.Tracer(consumer.traced, lambda: start("canary"))
    try:
        said = []
        # Three spans, each with a start and a stop event.
        lines = bpftrace.lines_of(lambda: said.append(start("traced")), 6)
    finally:
        bpftrace.stop()

    requests = re.findall(r"^span \S+ (\S+)$", said[0], re.M)
    expect(len(requests) == 3 and len(set(requests)) == 1, f"the program says\n{said[0]}")
    request = requests[0]
    expect(re.fullmatch(r"[A-Za-z0-9_-]{21}[AQgw]", request), f"request id {request}")
    expected = [
        ("start", "consumer.scope", request, "a-model"),
        ("start", "consumer.closure", request, "a-model"),
        ("stop", "consumer.closure", request, "a-model", "0"),
        ("start", "consumer.async", request, "a-model"),
        ("stop", "consumer.async", request, "a-model", "1"),
        ("stop", "consumer.scope", request, "a-model", "0"),
    ]
    # Sorted, because bpftrace reads one buffer per CPU and the program may move between CPUs.
    expect(sorted(lines) == sorted(expected), "bpftrace saw\n" + "\n".join(map(str, lines)))
    expect(start("traced").count("nobody is tracing") == 3, "spans are live after the tracer is gone")


main(sys.argv[1])
