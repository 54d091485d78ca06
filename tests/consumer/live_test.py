#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Traces a consumer's program, as build_test.py KIND left it, by the path of the file that has its probes.

No handler is attached in it: that its spans live shows that the kernel's counter reaches the word that the program reads.
"""
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

    expect(start("traced").count("nobody listens") == 3, "spans live although nobody listens")
    bpftrace = tracer.Tracer(consumer.traced, lambda: start("canary"))
    try:
        said = []
        # Three spans, each with a start and a stop.
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
    # Sorted: bpftrace reads a buffer for each CPU, and the program may move between them.
    expect(sorted(lines) == sorted(expected), "bpftrace saw\n" + "\n".join(map(str, lines)))
    expect(start("traced").count("nobody listens") == 3, "spans live after the tracer is gone")


main(sys.argv[1])
