# SPDX-License-Identifier: Apache-2.0
"""Recordings of entries that a test describes. record_lines (tests/collector) writes them."""

import itertools
import json
import os
import subprocess
import time

PROGRAM = os.path.abspath(os.environ["NOPSPAN_PROGRAM"])
LINES = os.path.abspath(os.environ["NOPSPAN_LINES"])
BEGIN = time.time_ns() - 1_000_000_000
ids = itertools.count(1)


def run(*words, **options):
    return subprocess.run([PROGRAM, *map(str, words)], check=False, timeout=300, **{
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options})


def requests_of(path, *options):
    """As `nopspan trace --json` prints them."""
    done = run("trace", "--from", path, "--json", *options)
    return [one for one in map(json.loads, done.stdout.splitlines()) if one["type"] == "trace"]


def span(name, start, end, parent=None, **more):
    """A span in the trace of its parent, or a request of its own. Times are in us."""
    number = next(ids)
    of_parent = {"trace": parent["trace"], "parent": parent["id"], "root": parent["root"]} if parent else {"trace": number}
    return {"name": name, "id": number, "root": number, **of_parent, "start": BEGIN + 1000 * start, "duration": 1000 * (end - start), **more}


def event(name, at, of, **more):
    return {"kind": "event", "name": name, "id": of["id"], "trace": of["trace"], "root": of["root"], "start": BEGIN + 1000 * at, **more}


def step(number, start, end, *requests, **more):
    return span("engine.step", start, end, kind="step", number=number, engine="vllm", **{"members": [one["id"] for one in requests], "instance": 7, **more})


def gauge(name, at, value, **more):
    return {"kind": "gauge", "name": name, "start": BEGIN + 1000 * at, "value": value, **more}


def recording(path, *lines):
    with subprocess.Popen([LINES, path], stdin=subprocess.PIPE, text=True) as writer:
        for line in lines:
            json.dump(line, writer.stdin)
            writer.stdin.write("\n")
    assert writer.returncode == 0, path
    return path
