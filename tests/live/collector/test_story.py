# SPDX-License-Identifier: Apache-2.0
"""One chat, made with each API: with the setters of the library, with the names of OpenTelemetry's conventions on spans and
on async spans, in C, in Python and with nopspan_mini.h. The record, top, hist and metrics are the same.
(OpenTelemetry's own API makes the spans of `async`: live.opentelemetry.) With the header, a span inherits no
provider."""

import collections
import json
import os
import sys

import harness
from harness import LIBRARY, Program, nopspan, program_path
from test_bindings import build_module
from test_record import Record

PYTHON = """
import nopspan, os, sys
print("ready", os.getpid(), flush=True)
sys.stdin.readline()
with nopspan.span("llm.chat", engine="vllm", model="m", tenant="acme", provider="openai") as chat:
    nopspan.event("gen_ai.retry", **{"retry.attempt": 2, "retry.delay_ms": 500, "retry.reason": "rate_limit"})
    with nopspan.span("llm.tool", tool_name="calc"):
        pass
    with nopspan.span("llm.stream") as stream:
        stream.first_token()
        stream.usage(100, 20, 40, 5)
    with nopspan.span("llm.step", http_status=503):
        pass
print("made", flush=True)
"""
# What the record of an entry says, apart from names, ids and times.
FACTS = ("type", "model", "engine", "tenant", "usage", "tool", "status", "error_type", "attempt", "delay_ns")
METRICS = ("gen_ai.client.token.usage", "gen_ai.client.operation.duration", "gen_ai.execute_tool.duration", "nopspan.retries")


def facts_of(recording):
    """The entries in the order of their ends, and whether the third span had a first token."""
    lines = [json.loads(line) for line in nopspan("replay", recording, "--spans", "--json").stdout.splitlines()]
    lines = [line for line in lines if line.get("type") in ("span", "retry", "event")]
    return [{**{key: line.get(key) for key in FACTS}, "first token": "first_token_ns" in line,
             "has a parent": "parent_id" in line, "retried": "span" in line and line["span"] != line["name"]}
            for line in lines]


def top_of(recording):
    rows = json.loads(nopspan("top", "--from", recording, "--json", "--by", "model").stdout.splitlines()[-1])["rows"]
    keys = ("spans", "errors", "input_tokens", "output_tokens", "retries")
    return [[row.get("model")] + [row.get("total", row).get(key) for key in keys] for row in rows]


def hist_of(recording):
    shown = json.loads(nopspan("hist", "--from", recording, "--json", "--of", "input-tokens", "--by", "model").stdout)
    return [(row.get("model"), row.get("count"), row.get("sum")) for row in shown.get("rows", shown.get("histograms", []))]


def metrics_of(recording, folder):
    nopspan("export", "--from", recording, "--otlp-file", folder, check=True)
    found = collections.Counter()
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        for line in file:
            for resource in json.loads(line)["resourceMetrics"]:
                for metric in (one for scope in resource["scopeMetrics"] for one in scope["metrics"]):
                    if metric["name"] not in METRICS:
                        continue
                    for point in (metric.get("histogram") or metric.get("sum"))["dataPoints"]:
                        labels = {one["key"]: next(iter(one["value"].values())) for one in point["attributes"]}
                        key = tuple(labels.get(label) for label in (
                            "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type",
                            "gen_ai.tool.name", "error.type", "reason"))
                        is_tokens = metric["name"] == "gen_ai.client.token.usage"
                        found[metric["name"], key] = (int(point.get("count", point.get("asInt", 0))),
                                                      point["sum"] if is_tokens else None)
    return sorted((name, str(key), str(value)) for (name, key), value in found.items())


class Story(harness.Test):
    maxDiff = None

    def made(self, binary, make, command):
        folder = self.temporary_folder()
        recording = os.path.join(folder, "story.rec")
        with Record(recording, "--binary", binary):
            with make() as program:
                program.ask(command)
        return {"record": facts_of(recording), "top": top_of(recording), "hist": hist_of(recording),
                "metrics": metrics_of(recording, folder)}

    def test_all_report_the_same(self):
        expected = self.made(LIBRARY, lambda: Program("story"), "setters")
        self.assertEqual(len(expected["record"]), 5)
        self.assertEqual(expected["record"][2]["usage"], {"input": 100, "output": 20, "cached": 40, "reasoning": 5})
        self.assertEqual([entry["status"] for entry in expected["record"] if entry["type"] == "span"], ["ok", "ok", "error", "ok"])
        self.assertTrue(expected["hist"] and expected["top"] and len(expected["metrics"]) >= 5, expected)
        modules = self.temporary_folder()
        build_module(modules)
        python = Program, ("python",), {"command": [sys.executable, "-c", PYTHON], "env": {"PYTHONPATH": modules}}
        for what, binary, make, command in (
                ("names", LIBRARY, lambda: Program("story"), "names"), ("async", LIBRARY, lambda: Program("story"), "async"),
                ("C", LIBRARY, lambda: Program("story"), "c"),
                ("Python", LIBRARY, lambda: python[0](*python[1], **python[2]), "tell"),
                ("mini", program_path("mini"), lambda: Program("mini"), "story")):
            with self.subTest(what):
                made = self.made(binary, make, command)
                for part, value in made.items():
                    with self.subTest(part):
                        self.assertEqual(value, expected[part])


if __name__ == "__main__":
    harness.main()
