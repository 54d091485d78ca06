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


def whole(message):
    """A message of parse_text() as {name: value}, without the enums' prefixes. A field that is repeated is a list."""
    found = {name: [whole(value) if isinstance(value, list) else as_hex(value) if name in IDS else value for value in values]
             for name, values in fields(message).items() if name != "attributes"}
    found = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    attributes = [value for name, value in message if name == "attributes"]
    return {**found, "attributes": key_values(attributes)} if attributes else found


def leaves(message, kind):
    """{"Span: name", …}: the fields of all messages in it that are no messages themselves, and attributes."""
    found = set()
    for name, value in message:
        if name == "attributes" or not isinstance(value, list):
            found.add(f"{kind}: {name}")
        elif name == "data_points":
            found |= leaves(value, "HistogramDataPoint" if kind == "Histogram" else "NumberDataPoint")
        else:
            inner, = {one.split(".")[-1] for of, one, _ in FIELDS if of == name} - {"double"}
            found |= leaves(value, inner)
    return found


def documented():
    """The same of the table in docs/export.md."""
    found = set()
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for row in re.findall(r"(?m)^\| ([A-Z]\w+(?:, \w+)*: `.*?) \| ", page):
        for part in row.split("; "):
            kinds, names = part.split(": ")
            found |= {f"{kind}: {name}" for kind in kinds.split(", ") for name in re.findall("`(.*?)`", names)}
    return found


def all_of(message, name):
    return [value for of, value in message if of == name]


def points_of(metric):
    points = next(metric[kind] for kind in ("sum", "gauge", "histogram") if kind in metric)["data_points"]
    return points if isinstance(points, list) else [points]


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
        self.assertEqual(names, ["earlier-metrics.pb", "fields-logs.pb", "fields-traces.pb", "first-metrics.pb"] + [f"part{i}-1-metrics.pb" for i in (1, 2, 3, 4)] +
                         ["random-logs.pb", "random-traces.pb", "second-metrics.pb", "services-metrics.pb", "whole-4-metrics.pb"])
        for name in names:
            with self.subTest(name):
                path = self.folder / name
                text = path.with_suffix(".json").read_text(encoding="utf-8")
                self.assertNotIn("\n", text)
                self.assertEqual(canonical(fields_of_json(json.loads(text, parse_int=str)), of_json),
                                 canonical(decoded(path), of_protoc))

    def one(self, name, *inside):
        """The only item of a request, with the resource and the scope that it is in."""
        message, found = decoded(self.folder / name), []
        for level in inside:
            message, = (value for name, value in message if name == level)
            found.append(whole([(name, value) for name, value in message if name not in inside]))
        return found

    SCHEMA = "https://opentelemetry.io/schemas/1.41.1"
    RESOURCE = {"service.name": "checkout", "service.instance.id": "5f0a4d65-6f0c-8f4e-a9f2-6a5f5b6f5f5a", "host.name": "host-1",
                "process.pid": 12, "process.executable.path": "/usr/bin/server", "process.executable.name": "server",
                "process.linux.cgroup": "/system.slice/server.service", "container.id": "4f5e6d", "telemetry.sdk.name": "nopspan",
                "telemetry.sdk.language": "cpp", "telemetry.sdk.version": "1.2.3"}
    CHAT_TRACE = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"

    def check_head(self, resource, scope):
        resource["resource"]["attributes"]["service.instance.id"] = self.RESOURCE["service.instance.id"]
        self.assertEqual(resource, {"resource": {"attributes": self.RESOURCE, "dropped_attributes_count": "1"},
                                    "schema_url": self.SCHEMA})
        self.assertEqual(scope, {"scope": {"name": "nopspan", "version": "1.2.3"}, "schema_url": self.SCHEMA})

    def test_every_field_of_a_span(self):
        resource, scope, span = self.one("fields-traces.pb", "resource_spans", "scope_spans", "spans")
        self.check_head(resource, scope)
        self.assertEqual(span, {
            "trace_id": self.CHAT_TRACE, "span_id": "0123456789abcdef", "parent_span_id": "00000000000000ff",
            "trace_state": "vendor=1", "name": "llm.chat", "kind": "SPAN_KIND_CLIENT", "flags": str(0x303),
            "start_time_unix_nano": "1790000000123456789", "end_time_unix_nano": "1790000000469135690",
            "dropped_attributes_count": "1", "dropped_links_count": "1",
            "links": {"trace_id": "5a" * 16, "span_id": "0000000000000063", "trace_state": "vendor=2", "flags": str(0x303)},
            "status": {"code": "STATUS_CODE_ERROR", "message": "no answer"},
            "events": [{"name": "gen_ai.prompt.sent", "time_unix_nano": "1790000000123456789", "attributes": {"key": "value"},
                        "dropped_attributes_count": "1"},
                       {"name": "gen_ai.stream.first_token", "time_unix_nano": "1790000000168456789",
                        "attributes": {"time_to_first_token": 45_000_000}},
                       {"name": "exception", "time_unix_nano": "1790000000469135690",
                        "attributes": {"exception.type": "timeout", "exception.message": "no answer"}}],
            "attributes": {"error.type": "timeout", "gen_ai.usage.input_tokens": 12,
                           "gen_ai.usage.output_tokens": 30, "gen_ai.response.time_to_first_chunk": 0.045,
                           "gen_ai.request.model": "small-1", "nopspan.engine": "llama.cpp", "nopspan.tenant": "acme",
                           "thread.id": 4711}})

    def test_every_field_of_a_log_record(self):
        resource, scope, record = self.one("fields-logs.pb", "resource_logs", "scope_logs", "log_records")
        self.check_head(resource, scope)
        self.assertEqual(record, {
            "time_unix_nano": "1790000000123456789", "observed_time_unix_nano": f"{NOW + 5}000000000",
            "severity_number": "SEVERITY_NUMBER_INFO", "severity_text": "INFO", "event_name": "gen_ai.evaluation.result",
            "trace_id": self.CHAT_TRACE, "span_id": "0123456789abcdef", "flags": "1", "dropped_attributes_count": "1",
            "attributes": {"key": "value", "gen_ai.request.model": "small-1", "nopspan.engine": "llama.cpp",
                           "nopspan.tenant": "acme", "thread.id": 4711}})

    def test_the_documentation_lists_every_field(self):
        written = set()
        for path in self.folder.glob("*.pb"):
            written |= leaves(decoded(path), "Export")
        self.assertEqual(written, documented())

    def services(self, name):
        """{(service.name, service.version): {name: metric}}."""
        found = {}
        for resource in map(whole, all_of(decoded(self.folder / name), "resource_metrics")):
            attributes = resource["resource"]["attributes"]
            metrics = resource["scope_metrics"]["metrics"]
            found[attributes["service.name"], attributes.get("service.version")] = attributes, {
                metric["name"]: metric for metric in (metrics if isinstance(metrics, list) else [metrics])}
        return found

    def test_each_service_is_a_resource_of_metrics(self):
        services = self.services("services-metrics.pb")
        self.assertEqual(set(services), {("checkout", "1"), ("checkout", "2"), ("billing", "1"), ("nopspan", None)})
        calls = {key: metrics["traces.span.metrics.calls"]["sum"]["data_points"]["as_int"]
                 for key, (_, metrics) in services.items() if key[0] != "nopspan"}
        self.assertEqual(calls, {("checkout", "1"): "3", ("checkout", "2"): "1", ("billing", "1"): "1"})
        self.assertEqual(set(services["nopspan", None][1]), {"nopspan.entries.emitted"})
        instances = [attributes["service.instance.id"] for attributes, _ in services.values()]
        self.assertEqual((len(set(instances)), instances.count("pod-7")), (4, 1))
        self.assertEqual({attributes.get("process.pid") for attributes, _ in services.values()}, {None})
        # The Collector's resource_to_telemetry_conversion copies the resource's attributes over those of each point.
        points = [(name, *sorted({**point["attributes"], **attributes}.items()))
                  for attributes, metrics in services.values() for name, metric in metrics.items()
                  for point in points_of(metric) if "attributes" in point]
        self.assertEqual(len(points), len(set(points)))

    def test_deltas(self):
        first, second = self.services("first-metrics.pb"), self.services("second-metrics.pb")
        self.assertEqual((len(first), set(second)), (4, {("billing", "1")}), "what has not changed is left out")
        calls = second["billing", "1"][1]["traces.span.metrics.calls"]["sum"]
        self.assertEqual((calls["aggregation_temporality"], calls["data_points"]["as_int"]), ("AGGREGATION_TEMPORALITY_DELTA", "1"))
        self.assertEqual([calls["data_points"][key] for key in ("start_time_unix_nano", "time_unix_nano")],
                         [f"{NOW + 1}000000000", f"{NOW + 2}000000000"])
        earlier = self.services("earlier-metrics.pb")["billing", "1"][1]["traces.span.metrics.calls"]["sum"]["data_points"]
        self.assertEqual([earlier[key] for key in ("start_time_unix_nano", "time_unix_nano", "as_int")],
                         [f"{NOW}000000000", f"{NOW}000000000", "1"], "no point begins after its end")
        times = second["billing", "1"][1]["traces.span.metrics.duration"]["histogram"]
        self.assertEqual((times["aggregation_temporality"], times["data_points"]["count"]), ("AGGREGATION_TEMPORALITY_DELTA", "1"))
        self.assertEqual(sum(map(int, times["data_points"]["bucket_counts"])), 1)
        self.assertAlmostEqual(float(times["data_points"]["sum"]), 0.345678901)

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
