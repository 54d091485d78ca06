# SPDX-License-Identifier: Apache-2.0
"""The chat server, the agent, and the files that they write, for tests of the example service."""

import collections
import json
import os
import signal
import subprocess

import harness
from harness import BUILD, PATIENCE_S, SOURCE, program_path, wait_until

SERVER = os.path.join(BUILD, "examples", "chat_service", "chat_server")
AGENT = os.path.join(BUILD, "examples", "chat_service", "agent")
# Prompts that make the agent call each of its tools, no tool, and a tool that fails.
PROMPTS = ["What is 6 * 7?", 'Find "traceparent" in the files.', "Explain spans to me.", "What is 1 / 0?"]

# Handlers receive its start only, as an event. For probes it is a span.
ITERATION = "agent.operator.iteration"
# Events that only handlers receive under these names. Probes have the retry, the first token and the gauges instead.
HANDLERS_ONLY = {ITERATION + "_start", "gen_ai.retry", "gen_ai.stream.first_token", "engine.stats"}


def with_events(path, env=None):
    """This environment and `env`. In it, a handler writes the events of a program to a file (programs/event_log.cpp)."""
    writes = {"LD_PRELOAD": program_path("event_log.so"), "EVENT_LOG": path} if path else {}
    return {**os.environ, **(env or {}), **writes}


def need():
    if not (os.path.exists(SERVER) and os.path.exists(AGENT)):
        harness.ability.unable("the examples are not built (NOPSPAN_EXAMPLES=ON)")


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def steps_of(books):
    """The engine's steps in the lines of a server's books, with the sums of their members' tokens."""
    names = ("prefill_tokens", "decode_tokens", "drafted_tokens", "accepted_tokens")
    return [{**line, **{name: sum(member[1 + at] for member in line["members"]) for at, name in enumerate(names)}}
            for line in books if "step" in line]


def canonical(attributes):
    """A text that is equal for equal values only: 1 and 1.0 differ."""
    return json.dumps(attributes, sort_keys=True, ensure_ascii=False)


def without_content(line):
    return {key: value for key, value in line["attributes"].items() if key not in line["content"]}


def of_handlers(lines):
    """(pid, span, probe, name) -> the attributes of each such event, as the record of that probe should have them."""
    found = collections.defaultdict(list)
    for line in lines:
        stem, _, suffix = line["event"].rpartition(".")
        if line["event"] in HANDLERS_ONLY or suffix == "start":
            continue
        if suffix in ("stop", "exception"):
            probe, name = "span_stop", stem
        elif line["event"] == "llm.adapter.retry":
            probe, name = "retry", "llm.step"
        else:
            probe, name = "event", line["event"]
        found[line["pid"], int(line["span_id"], 16), probe, name].append(canonical(without_content(line)))
    return found


class Server:
    """The chat server, whose events are written to the file `events`. A context manager: the server listens on entry
    and has ended on exit."""

    def __init__(self, folder, *options, events=None, env=None):
        port_file = os.path.join(folder, "port")
        self.process = subprocess.Popen([SERVER, "--port-file", port_file, *options], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env=with_events(events, env))
        self.pid = self.process.pid
        wait_until(lambda: self.process.poll() is not None or os.path.exists(port_file) and os.path.getsize(port_file),
                   "the server to listen")
        with open(port_file, encoding="ascii") as file:
            self.port = int(file.read())
        self.url = "http://127.0.0.1:%d" % self.port

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        if code != 0 and not failed:
            raise AssertionError("the server ended with %d" % code)


class Agent:
    """Runs the agent, whose events are written to the file `events`. Has its exit status, and the object that --json
    prints."""

    def __init__(self, url, *arguments, events=None, env=None):
        process = subprocess.Popen(
            [AGENT, "--base-url", url, "--json", "--search-root", os.path.join(SOURCE, "examples"), *arguments],
            stdout=subprocess.PIPE, text=True, env=with_events(events, env))
        output = process.communicate(timeout=2 * PATIENCE_S)[0]
        self.pid, self.status = process.pid, process.returncode
        self.summary = json.loads(output)
