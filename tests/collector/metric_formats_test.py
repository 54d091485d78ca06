#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads metrics with readers that share no code with the collector: Prometheus' client library for Python, and protoc
with the published definitions.

By hand: NOPSPAN_METRICS=build/dev/tests/collector/metric_examples python3 tests/collector/metric_formats_test.py -v
"""
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "support"
sys.path.insert(0, str(SUPPORT))
import ability  # pylint: disable=wrong-import-position
from otlp_attributes import DEFINITIONS, key_values, parse_text  # pylint: disable=wrong-import-position

EXAMPLES = os.path.abspath(os.environ["NOPSPAN_METRICS"])
# Debian's Python, which has Debian's packages. CMake may have found another one.
PYTHON = "/usr/bin/python3"
PARSER = """
import json, sys
from {module} import text_string_to_metric_families as parsed
print(json.dumps([[family.name, family.type, family.documentation, family.unit,
                   [[s.name, s.labels, s.value, s.exemplar and [s.exemplar.labels, s.exemplar.value, float(s.exemplar.timestamp)]]
                    for s in family.samples]]
                  for family in parsed(sys.stdin.read())]))
"""
# What a terminal would interpret is written as on a terminal.
HOSTILE = 'quote " backslash \\ newline \\x0a bad \\xff terminal \\x1b]0;t\\x07\\x7f\\xc2\\x9b end \u00e4'
TRACE = "000102030405060708090a0b0c0d0e0f"
SPAN = "0102030405060708"
BEGIN, NOW = 1_700_000_000, 1_700_000_100


def run(form):
    return subprocess.run([EXAMPLES, form], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True, timeout=60)


def fields(message):
    """A message of parse_text() as {name: [value, …]}."""
    found = {}
    for name, value in message:
        found.setdefault(name, []).append(value)
    return found


def protoc(message, folder, file, data):
    done = subprocess.run(["protoc", f"--decode={message}", "-I", folder, file], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.decode())
    return fields(parse_text(done.stdout.decode()))


def delimited(data):
    """The messages of a stream, each after its length."""
    while data:
        length = shift = 0
        while True:
            byte, data = data[0], data[1:]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield data[:length]
        data = data[length:]


def numbers(message, name):
    return [float(value) for value in message.get(name, [])]


class TextTest(unittest.TestCase):
    def families(self, form, module):
        done = subprocess.run([PYTHON, "-c", PARSER.format(module=module)], input=run(form).stdout, stdout=subprocess.PIPE,
                              check=True, timeout=60)
        return {name: (kind, text, unit, samples) for name, kind, text, unit, samples in json.loads(done.stdout)}

    def check(self, families, with_exemplars):
        kind, text, _, samples = families["example_calls"]
        self.assertEqual((kind, text), ("counter", "Calls with a \\ and\na second line."))
        self.assertEqual(samples, [["example_calls_total", {"span_name": HOSTILE, "server_port": "443"}, 3, None],
                                   ["example_calls_total", {"span_name": "{}", "server_port": "http"}, 1e15, None]])
        kind, text, _, samples = families["example_level_bytes"]
        self.assertEqual((kind, text), ("gauge", 'A "level".'))
        labels = {"name": "a", "of_process": "1", "key__name__": "2"}
        self.assertEqual(samples, [["example_level_bytes", labels, -1.5, None]])
        kind, _, _, samples = families["example_time_seconds"]
        self.assertEqual(kind, "histogram")
        exemplar = {"trace_id": TRACE, "span_id": SPAN}
        first = [exemplar, 0.2, NOW - 5.5] if with_exemplars else None
        last = [exemplar, 2e6, NOW - 4.5] if with_exemplars else None
        name = "example_time_seconds"
        self.assertEqual(samples, [[name + "_bucket", {"model": "m", "le": "0.25"}, 2, first],
                                   [name + "_bucket", {"model": "m", "le": "1.0"}, 7, None],
                                   [name + "_bucket", {"model": "m", "le": "1.048576e+06"}, 7, None],
                                   [name + "_bucket", {"model": "m", "le": "+Inf"}, 8, last],
                                   [name + "_sum", {"model": "m"}, 2000005.2, None],
                                   [name + "_count", {"model": "m"}, 8, None]])
        self.assertEqual(families["vllm:example"][3], [["vllm:example_total", {}, 7, None]])
        self.assertEqual(families["vllm:iteration_tokens_total"][0], "histogram")

    def test_prometheus_text(self):
        self.check(self.families("text", "prometheus_client.parser"), with_exemplars=False)

    def test_openmetrics(self):
        families = self.families("openmetrics", "prometheus_client.openmetrics.parser")
        self.check(families, with_exemplars=True)
        self.assertEqual(families["example_time_seconds"][2], "seconds")
        self.assertEqual(families["example_level_bytes"][2], "bytes")

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_promtool_accepts_the_text(self):
        # promtool rejects colons, which Prometheus accepts.
        text = b"".join(line for line in run("text").stdout.splitlines(True) if b"vllm:" not in line)
        done = subprocess.run(["promtool", "check", "metrics"], input=text, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, timeout=60)
        self.assertEqual((done.stdout.decode(), done.returncode), ("", 0))


class ProtobufTest(unittest.TestCase):
    def families(self, form):
        decoded = [protoc("io.prometheus.client.MetricFamily", str(SUPPORT / "client_model"),
                          "io/prometheus/client/metrics.proto", message) for message in delimited(run(form).stdout)]
        return {family["name"][0]: family for family in decoded}

    def labels(self, metric):
        pairs = [fields(label) for label in metric.get("label", [])]
        return {pair["name"][0]: pair["value"][0] for pair in pairs}

    def test_families(self):
        families = self.families("protobuf")
        self.assertEqual(set(families), {"example_calls_total", "example_level_bytes", "example_time_seconds",
                                         "vllm:example_total", "vllm:iteration_tokens_total"})
        calls = families["example_calls_total"]
        self.assertEqual(calls["type"], ["COUNTER"])
        self.assertEqual(calls["help"], ["Calls with a \\ and\na second line."])
        first, second = (fields(metric) for metric in calls["metric"])
        self.assertEqual(self.labels(first), {"span_name": HOSTILE, "server_port": "443"})
        counter = fields(first["counter"][0])
        self.assertEqual(numbers(counter, "value"), [3])
        self.assertEqual(fields(counter["created_timestamp"][0]), {"seconds": [str(BEGIN)]})
        self.assertEqual(numbers(fields(second["counter"][0]), "value"), [1e15])
        level = fields(families["example_level_bytes"]["metric"][0])
        self.assertEqual(numbers(fields(level["gauge"][0]), "value"), [-1.5])
        self.assertEqual(self.labels(level), {"name": "a", "of_process": "1", "key__name__": "2"})

    def test_classic_histograms(self):
        times = fields(self.families("protobuf")["example_time_seconds"]["metric"][0])
        histogram = fields(times["histogram"][0])
        self.assertEqual(numbers(histogram, "sample_count") + numbers(histogram, "sample_sum"), [8, 2000005.2])
        self.assertNotIn("schema", histogram)
        buckets = [fields(bucket) for bucket in histogram["bucket"]]
        self.assertEqual([(numbers(bucket, "upper_bound"), numbers(bucket, "cumulative_count")) for bucket in buckets],
                         [([0.25], [2]), ([1], [7]), ([1048576], [7]), ([float("inf")], [8])])
        exemplar = fields(buckets[0]["exemplar"][0])
        self.assertEqual(self.labels(exemplar), {"trace_id": TRACE, "span_id": SPAN})
        self.assertEqual(numbers(exemplar, "value"), [0.2])
        self.assertEqual(fields(exemplar["timestamp"][0]), {"seconds": [str(NOW - 6)], "nanos": ["500000000"]})

    def test_native_histograms(self):
        times = fields(self.families("protobuf-native")["example_time_seconds"]["metric"][0])
        histogram = fields(times["histogram"][0])
        self.assertEqual([len(fields(bucket).get("exemplar", [])) for bucket in histogram["bucket"]], [0, 0, 0, 1])
        self.assertEqual((numbers(histogram, "schema"), numbers(histogram, "zero_count")), ([3], [1]))
        at = 0
        indexes = []
        for span in (fields(one) for one in histogram["positive_span"]):
            at += int(span["offset"][0])
            indexes += range(at, at + int(span["length"][0]))
            at += int(span["length"][0])
        counts, count = {}, 0
        for index, delta in zip(indexes, numbers(histogram, "positive_delta"), strict=True):
            count += delta
            counts[index] = count
        # 0.2 is in (2^(-19/8), 2^(-18/8)], 1 has the bound 2^0, 2e6 is in (2^(167/8), 2^(168/8)].
        self.assertEqual(counts, {-18: 1, 0: 5, 168: 1})


class OtlpTest(unittest.TestCase):
    def metrics(self, form):
        """{name: metric}, and the scopes, resources and the numbers of points by message."""
        done = run(form)
        data = protoc("opentelemetry.proto.metrics.v1.MetricsData", DEFINITIONS,
                      "opentelemetry/proto/metrics/v1/metrics.proto", done.stdout)
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
        metrics, scopes, resources, points = self.metrics("otlp")
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
        histogram = fields(self.metrics("otlp")[0]["example.time"][0]["histogram"][0])
        self.assertEqual(histogram["aggregation_temporality"], ["AGGREGATION_TEMPORALITY_CUMULATIVE"])
        point = fields(histogram["data_points"][0])
        self.assertEqual((numbers(point, "count"), numbers(point, "sum")), ([8], [2000005.2]))
        self.assertEqual((numbers(point, "bucket_counts"), numbers(point, "explicit_bounds")),
                         ([2, 5, 0, 1], [0.25, 1, 1048576]))
        self.assertEqual(self.attributes(point), {"model": "m"})
        exemplars = [fields(exemplar) for exemplar in point["exemplars"]]
        self.assertEqual([numbers(exemplar, "as_double") for exemplar in exemplars], [[0.2], [2e6]])
        self.assertEqual([exemplars[0][key][0].encode("latin-1").hex() for key in ("trace_id", "span_id")], [TRACE, SPAN])

    def test_exponential_histograms(self):
        histogram = fields(self.metrics("otlp-native")[0]["example.time"][0]["exponential_histogram"][0])
        point = fields(histogram["data_points"][0])
        self.assertEqual((numbers(point, "count"), numbers(point, "scale"), numbers(point, "zero_count")), ([8], [3], [1]))
        positive = fields(point["positive"][0])
        counts = {int(positive["offset"][0]) + i: count for i, count in enumerate(numbers(positive, "bucket_counts")) if count}
        self.assertEqual(counts, {-19: 1, -1: 5, 167: 1})
        self.assertEqual(self.attributes(point), {"model": "m"})

    def test_many_messages(self):
        metrics, scopes, _, points = self.metrics("otlp-small")
        self.assertEqual((points, len(scopes)), ([1, 1, 1, 1], 4))
        self.assertEqual(len(metrics["example.calls"]), 2)


ability.need("protoc")
if subprocess.run([PYTHON, "-c", "import prometheus_client.parser"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
    ability.unable("python3-prometheus-client is not installed")
unittest.main()
