# SPDX-License-Identifier: Apache-2.0
"""The cost of a span by the extension of examples/python. Prints lines "NAME NS": the minimum of nine runs, less the empty
loop."""
import contextlib
import time

import nopspan

SPANS = 200_000
span = nopspan.span


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        return False


def empty():
    for _ in range(SPANS):
        pass


def empty_with(nothing=Nothing()):
    for _ in range(SPANS):
        with nothing:
            pass


def nullcontext():
    for _ in range(SPANS):
        with contextlib.nullcontext():
            pass


def with_span():
    for _ in range(SPANS):
        with span("bench.span"):
            pass


def with_fields():
    for _ in range(SPANS):
        with span("bench.span", table="orders", shard=3) as opened:
            opened.set("cached", False).measure("rows", 42)


def least_ns(work):
    times = []
    for _ in range(9):
        start = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - start)
    return min(times) / SPANS


def main():
    loop = least_ns(empty)
    for work in (empty_with, nullcontext):
        print(work.__name__, round(least_ns(work) - loop, 1))
    with span("bench.request"):
        for work in (with_span, with_fields):
            print(work.__name__, round(least_ns(work) - loop, 1))


main()
