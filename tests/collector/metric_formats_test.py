#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads metrics as OTLP with a reader that shares no code with the collector: protoc with the published definitions.

By hand: NOPSPAN_METRICS=build/dev/tests/collector/metric_examples python3 tests/collector/metric_formats_test.py -v
"""
import os
import subprocess
import sys
import unittest
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "support"
sys.path.insert(0, str(SUPPORT))
import ability  # pylint: disable=wrong-import-position
from otlp_attributes import DEFINITIONS, key_values, parse_text  # pylint: disable=wrong-import-position

EXAMPLES = os.path.abspath(os.environ["NOPSPAN_METRICS"])
# What a terminal would interpret is written as on a terminal.
HOSTILE = 'quote " backslash \\ newline \\x0a bad \\xff terminal \\x1b]0;t\\x07\\x7f\\xc2\\x9b end \u00e4'
TRACE = "000102030405060708090a0b0c0d0e0f"
SPAN = "0102030405060708"
BEGIN, NOW = 1_700_000_000, 1_700_000_100


def fields(message):
    """A message of parse_text() as {name: [value, …]}."""
    found = {}
    for name, value in message:
        found.setdefault(name, []).append(value)
    return found


def numbers(message, name):
    return [float(value) for value in message.get(name, [])]


class OtlpTest(unittest.TestCase):
    def metrics(self, *form):
        """{name: metric}, and the scopes, resources and the numbers of points by message."""
        done = subprocess.run([EXAMPLES, *form], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True, timeout=60)
        decoded = subprocess.run(["protoc", "--decode=opentelemetry.proto.metrics.v1.MetricsData", "-I", DEFINITIONS,
                                  "opentelemetry/proto/metrics/v1/metrics.proto"], input=done.stdout, capture_output=True,
                                 check=False)
        self.assertEqual(decoded.returncode, 0, decoded.stderr)
        data = fields(parse_text(decoded.stdout.decode()))
        metrics, scopes, resources = {}, [], []
        for resource_metrics in map(fields, data["resource_metrics"]):
            resources.append(key_values([one for name, one in resource_metrics["resource"][0] if name == "attributes"]))
            for scope_metrics in map(fields, resource_metrics["scope_metrics"]):
                scopes.append(dict(scope_metrics["scope"][0]))
                for metric in map(fields, scope_metrics["metrics"]):
                    metrics.setdefault(metric["name"][0], []).append(metric)
        return metrics, scopes, resources, [int(line) for line in done.stderr.split()]

    def attributes(self, point):
        return key_values(point.get("attributes", []))

    def test_sums_and_gauges(self):
        metrics, scopes, resources, points = self.metrics()
        self.assertEqual((scopes, resources, points),
                         ([{"name": "nopspan", "version": "1.2.3"}], [{"service.name": "nopspan"}], [4]))
        self.assertEqual(set(metrics), {"example.calls", "example.level", "example.time"})
        calls = metrics["example.calls"][0]
        self.assertEqual((calls["unit"], calls["description"]), (["{call}"], ["Calls with a \\ and\na second line."]))
        total = fields(calls["sum"][0])
        self.assertEqual((total["aggregation_temporality"], total["is_monotonic"]),
                         (["AGGREGATION_TEMPORALITY_CUMULATIVE"], ["true"]))
        first, second = map(fields, total["data_points"])
        self.assertEqual((first["as_int"], second["as_int"]), (["3"], ["1000000000000000"]))
        self.assertEqual((first["start_time_unix_nano"], first["time_unix_nano"]), ([f"{BEGIN}000000000"], [f"{NOW}000000000"]))
        self.assertEqual(self.attributes(first), {"span.name": HOSTILE, "server.port": 443})
        self.assertEqual(self.attributes(second), {"span.name": "{}", "server.port": "http"})
        level = fields(fields(metrics["example.level"][0]["gauge"][0])["data_points"][0])
        self.assertEqual(numbers(level, "as_double"), [-1.5])
        self.assertEqual(self.attributes(level), {"name": "a", "of.process": "1", "__name__": "2"})

    def test_histograms(self):
        histogram = fields(self.metrics()[0]["example.time"][0]["histogram"][0])
        self.assertEqual(histogram["aggregation_temporality"], ["AGGREGATION_TEMPORALITY_CUMULATIVE"])
        point = fields(histogram["data_points"][0])
        self.assertEqual((numbers(point, "count"), numbers(point, "sum")), ([8], [2000005.2]))
        self.assertEqual((numbers(point, "bucket_counts"), numbers(point, "explicit_bounds")),
                         ([2, 5, 0, 1], [0.25, 1, 1048576]))
        self.assertEqual(self.attributes(point), {"model": "m"})
        exemplars = [fields(exemplar) for exemplar in point["exemplars"]]
        self.assertEqual([numbers(exemplar, "as_double") for exemplar in exemplars], [[0.2], [2e6]])
        self.assertEqual([exemplars[0][key][0].encode("latin-1").hex() for key in ("trace_id", "span_id")], [TRACE, SPAN])

    def test_many_messages(self):
        metrics, scopes, _, points = self.metrics("small")
        self.assertEqual((points, len(scopes)), ([1, 1, 1, 1], 4))
        self.assertEqual(len(metrics["example.calls"]), 2)


ability.need("protoc")
unittest.main()
