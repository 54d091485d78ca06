#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads OTLP requests with a reader that shares no code with the collector: protoc with the published definitions. Their
JSON, which export_test.cpp reads, must say the same.

By hand: NOPSPAN_EXAMPLES=build/dev/tests/collector/export_examples python3 tests/collector/export_format_test.py -v
"""
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import ability  # pylint: disable=wrong-import-position
import otlp_attributes  # pylint: disable=wrong-import-position
from otlp_attributes import key_values  # pylint: disable=wrong-import-position

EXAMPLES = os.path.abspath(os.environ["NOPSPAN_EXAMPLES"])
SERVICES = {"traces": "trace", "logs": "logs", "metrics": "metrics"}
IDS = {"trace_id", "span_id", "parent_span_id"}


def enums():
    """The numbers of all enums, by their names."""
    found = {}
    for path in Path(otlp_attributes.DEFINITIONS).rglob("*.proto"):
        found.update((name, int(number)) for name, number in
                     re.findall(r"(?m)^\s*([A-Z][A-Z0-9_]+)\s*=\s*(\d+);", path.read_text(encoding="utf-8")))
    return found


ENUMS = enums()
# What a terminal would interpret is written as on a terminal.
HOSTILE = 'quote " backslash \\ newline \\x0a bad \\xff terminal \\x1b]0;t\\x07\\x7f\\xc2\\x9b end \u00e4'
TRACE = "000102030405060708090a0b0c0d0e0f"
SPAN = "0102030405060708"
BEGIN, NOW = 1_789_999_900, 1_790_000_000


def fields_of_definitions():
    """[(name of a field, its type, whether it is in a oneof)] of all messages."""
    found = []
    for path in Path(otlp_attributes.DEFINITIONS).rglob("*.proto"):
        text = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
        scopes = []
        for scope, end, kind, name in re.findall(r"\b(message|enum|oneof|service)\s+\w+\s*\{|(\})|"
                                                 r"\b([\w.]+)\s+(\w+)\s*=\s*\d+;", text):
            if scope:
                scopes.append(scope)
            elif end:
                scopes = scopes[:-1]
            else:
                found.append((name, kind, scopes[-1] == "oneof"))
    return found


FIELDS = fields_of_definitions()
DOUBLES, TEXTS = ({name for name, type_of, _ in FIELDS if type_of == kind} for kind in ("double", "string"))
# Members of a oneof are present even if they are 0.
ONEOFS = {name for name, _, in_oneof in FIELDS if in_oneof}


def decoded(path):
    """The fields of a request, as protoc decodes them."""
    kind = path.stem.split("-")[-1]
    service = SERVICES[kind]
    return otlp_attributes.decode_message(f"opentelemetry.proto.collector.{service}.v1.Export{service.title()}ServiceRequest",
                                          path.read_bytes())


def as_hex(text):
    """The bytes of a field of the type bytes."""
    return (text or "").encode("utf-8", "surrogateescape").hex()


def of_protoc(name, value):
    if name in TEXTS:
        return value
    if name in IDS:
        return as_hex(value)
    if name == "bytes_value":
        return value.encode("utf-8", "surrogateescape")
    if name in DOUBLES:
        return repr(float(value))
    if value in ("true", "false"):
        return value == "true"
    return ENUMS[value] if value in ENUMS else int(value)


def of_json(name, value):
    if name in TEXTS or name in IDS or isinstance(value, bool):
        return value
    if name == "bytes_value":
        return base64.b64decode(value, validate=True)
    return repr(float(value)) if name in DOUBLES else int(value)


def fields_of_json(message):
    """The fields of a JSON object as parse_text() has them: [(name, value)]."""
    fields = []
    for key, value in message.items():
        name = re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), key)
        fields += [(name, item) for item in (value if isinstance(value, list) else [value])]
    return fields


def canonical(fields, leaf):
    """Sorted fields without those that have their default. The order of equal names stays."""
    found = []
    for name, value in fields:
        if isinstance(value, dict):
            value = fields_of_json(value)
        if isinstance(value, list):
            found.append((name, canonical(value, leaf)))
            continue
        value = leaf(name, value)
        if name in ONEOFS or value not in (0, "", False, "0.0"):
            found.append((name, value))
    return sorted(found, key=lambda field: field[0])


def fields(message):
    """A message of parse_text() as {name: [value, …]}."""
    found = {}
    for name, value in message:
        found.setdefault(name, []).append(value)
    return found


def numbers(message, name):
    return [float(value) for value in message.get(name, [])]


class RequestTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        subprocess.run([EXAMPLES, cls.folder], check=True, timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_it_says_what_protoc_decodes(self):
        names = sorted(path.name for path in self.folder.glob("*.pb"))
        self.assertEqual(names, [f"part{i}-1-metrics.pb" for i in (1, 2, 3, 4)] +
                         ["random-logs.pb", "random-traces.pb", "whole-4-metrics.pb"])
        for name in names:
            with self.subTest(name):
                path = self.folder / name
                text = path.with_suffix(".json").read_text(encoding="utf-8")
                self.assertNotIn("\n", text)
                self.assertEqual(canonical(fields_of_json(json.loads(text, parse_int=str)), of_json),
                                 canonical(decoded(path), of_protoc))

    def metrics(self, path):
        """{name: metric}, and the attributes of the resource, and the scope."""
        resource_metrics, = map(fields, fields(decoded(path))["resource_metrics"])
        resource = key_values([one for name, one in resource_metrics["resource"][0] if name == "attributes"])
        scope_metrics, = map(fields, resource_metrics["scope_metrics"])
        metrics = {metric["name"][0]: metric for metric in map(fields, scope_metrics["metrics"])}
        return metrics, resource, dict(scope_metrics["scope"][0])

    def attributes(self, point):
        return key_values(point.get("attributes", []))

    def test_sums_and_gauges(self):
        metrics, resource, scope = self.metrics(self.folder / "whole-4-metrics.pb")
        self.assertEqual((resource, scope), ({"service.name": "nopspan"}, {"name": "nopspan", "version": "1.2.3"}))
        self.assertEqual(set(metrics), {"example.calls", "example.level", "example.time"})
        calls = metrics["example.calls"]
        self.assertEqual((calls["unit"], calls["description"]), (["{call}"], ["Calls with a \\ and\na second line."]))
        total = fields(calls["sum"][0])
        self.assertEqual((total["aggregation_temporality"], total["is_monotonic"]),
                         (["AGGREGATION_TEMPORALITY_CUMULATIVE"], ["true"]))
        first, second = map(fields, total["data_points"])
        self.assertEqual((first["as_int"], second["as_int"]), (["3"], ["1000000000000000"]))
        self.assertEqual((first["start_time_unix_nano"], first["time_unix_nano"]), ([f"{BEGIN}000000000"], [f"{NOW}000000000"]))
        self.assertEqual(self.attributes(first), {"span.name": HOSTILE, "server.port": 443})
        self.assertEqual(self.attributes(second), {"span.name": "{}", "server.port": "http"})
        level = fields(fields(metrics["example.level"]["gauge"][0])["data_points"][0])
        self.assertEqual(numbers(level, "as_double"), [-1.5])
        self.assertEqual(self.attributes(level), {"name": "a", "of.process": "1", "__name__": "2"})

    def test_histograms(self):
        histogram = fields(self.metrics(self.folder / "whole-4-metrics.pb")[0]["example.time"]["histogram"][0])
        self.assertEqual(histogram["aggregation_temporality"], ["AGGREGATION_TEMPORALITY_CUMULATIVE"])
        point = fields(histogram["data_points"][0])
        self.assertEqual((numbers(point, "count"), numbers(point, "sum")), ([8], [2000005.2]))
        self.assertEqual((numbers(point, "bucket_counts"), numbers(point, "explicit_bounds")),
                         ([2, 5, 0, 1], [0.25, 1, 1048576]))
        self.assertEqual(self.attributes(point), {"model": "m"})
        exemplars = [fields(exemplar) for exemplar in point["exemplars"]]
        self.assertEqual([numbers(exemplar, "as_double") for exemplar in exemplars], [[0.2], [2e6]])
        self.assertEqual([exemplars[0][key][0].encode("latin-1").hex() for key in ("trace_id", "span_id")], [TRACE, SPAN])

    def test_one_message_for_each_point(self):
        names = []
        for path in sorted(self.folder.glob("part*-1-metrics.pb")):
            (name, metric), = self.metrics(path)[0].items()
            point, = fields((metric.get("sum") or metric.get("gauge") or metric["histogram"])[0])["data_points"]
            self.assertTrue(point)
            names.append(name)
        self.assertEqual(names, ["example.calls", "example.calls", "example.level", "example.time"])


ability.need("protoc")
unittest.main()
