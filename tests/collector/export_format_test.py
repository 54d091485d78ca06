#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the OTLP requests of known entries with protoc and the published definitions, field by field, and their JSON
against what protoc decodes.

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

EXAMPLES = os.path.abspath(os.environ["NOPSPAN_EXAMPLES"])
BEGIN = 1_790_000_000_000_000_000
TRACE = bytes(range(1, 17))
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
# Fields that only profiles use.
PROFILES = {"key_strindex", "string_value_strindex"}
SCALARS = {"string": '"größe"', "bytes": r'"\001\377"', "bool": "true", "double": "-0.25", "uint32": "4000000000",
           "int64": "-9000000000000000000", "uint64": "18000000000000000000", "sint32": "-7", "fixed32": "4000000000",
           "fixed64": "18000000000000000000", "sfixed64": "-9000000000000000000"}


def messages():
    """{name of a message: [(name of a field, its type, whether it is repeated, whether it is in a oneof)]}"""
    found = {}
    for path in Path(otlp_attributes.DEFINITIONS).rglob("*.proto"):
        text = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
        scopes = []
        for scope, name, end, label, kind, field in re.findall(
                r"\b(message|enum|oneof|service)\s+(\w+)\s*\{|(\})|(repeated\s+|optional\s+)?\b([\w.]+)\s+(\w+)\s*=\s*\d+;", text):
            if scope:
                scopes.append((scope, name))
            elif end:
                if scopes:
                    scopes.pop()
            elif scopes and scopes[-1][0] in ("message", "oneof") and field not in PROFILES:
                owner = [name for scope, name in scopes if scope == "message"][-1]
                found.setdefault(owner, []).append((field, kind.split(".")[-1], "repeated" in label, scopes[-1][0] == "oneof"))
    return found


MESSAGES = messages()
DOUBLES, TEXTS = ({name for fields in MESSAGES.values() for name, type_of, _, _ in fields if type_of == kind}
                  for kind in ("double", "string"))
# Members of a oneof are present even if they are 0.
ONEOFS = {name for fields in MESSAGES.values() for name, _, _, in_oneof in fields if in_oneof}


def text_of(message, member, depth=0):
    """A message in protobuf's text format, with all of its fields. `member` selects a member of each oneof."""
    fields = [field for field in MESSAGES[message] if not field[3]]
    members = [field for field in MESSAGES[message] if field[3]]
    if members:
        fields.append(members[(member if depth < 12 else 0) % len(members)])
    parts = []
    for name, kind, is_repeated, _ in fields:
        for _ in range(2 if is_repeated and depth < 8 else 1):
            if kind in MESSAGES:
                parts.append(f"{name} {{ {text_of(kind, member + 1 if depth > 6 else member, depth + 1)} }}")
            else:
                parts.append(f"{name}: {SCALARS.get(kind, '1')}")  # an enum has the number 1
    return " ".join(parts)


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


class Export(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        subprocess.run([EXAMPLES, cls.folder], check=True, timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()


class Json(Export):
    def test_it_has_every_field_of_the_published_definitions(self):
        for number, (kind, service) in enumerate((("traces", "Trace"), ("logs", "Logs"), ("metrics", "Metrics"))):
            name = f"opentelemetry.proto.collector.{SERVICES[kind]}.v1.Export{service}ServiceRequest"
            for member in range(7):
                with self.subTest(kind=kind, member=member):
                    request = otlp_attributes.encode_message(name, text_of(f"Export{service}ServiceRequest", member))
                    path = self.folder / f"all-{kind}.bin"
                    path.write_bytes(request)
                    done = subprocess.run([EXAMPLES, "-", str(number)], input=request, stdout=subprocess.PIPE, check=True)
                    self.assertEqual(canonical(fields_of_json(json.loads(done.stdout, parse_int=str)), of_json),
                                     canonical(decoded(path), of_protoc))

    def test_it_says_what_protoc_decodes(self):
        names = sorted(path.name for path in self.folder.glob("*.pb"))
        self.assertEqual(names, ["known-logs.pb", "known-traces.pb", "metrics.pb", "random-logs.pb", "random-traces.pb"])
        for name in names:
            with self.subTest(name):
                path = self.folder / name
                text = path.with_suffix(".json").read_text(encoding="utf-8")
                self.assertNotIn("\n", text)
                self.assertEqual(canonical(fields_of_json(json.loads(text, parse_int=str)), of_json),
                                 canonical(decoded(path), of_protoc))

    def test_numbers_of_64_bits_are_texts_and_enums_are_numbers(self):
        request = json.loads((self.folder / "known-traces.json").read_text(encoding="utf-8"))
        span = request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        self.assertEqual(span["startTimeUnixNano"], "1790000000123456789")
        self.assertEqual(span["kind"], 3)
        self.assertEqual(span["traceId"], bytes(range(0xf0, 0x100)).hex())

    def test_numbers_that_json_does_not_have_are_texts(self):
        request = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
        values = [point["asDouble"] for point in metrics[1]["sum"]["dataPoints"]]
        self.assertEqual(values[2:], [1e300, "Infinity", "-Infinity", "NaN"])
        point, = metrics[2]["histogram"]["dataPoints"]
        self.assertEqual(point["bucketCounts"], ["1", "0", "1000000000000000000"])
        self.assertEqual(point["explicitBounds"], [0.1, 1])


class Known(Export):
    def setUp(self):
        self.resource, self.scope, self.spans = self.only("known-traces.pb", "resource_spans", "scope_spans", "spans")
        self.logs_resource, _, self.logs = self.only("known-logs.pb", "resource_logs", "scope_logs", "log_records")

    def only(self, name, *levels):
        """The resource, the scope and the items of a request that has one resource."""
        request = otlp_attributes.Message(decoded(self.folder / name))
        resource = request.one(levels[0])
        scope = resource.one(levels[1])
        return resource.one("resource"), scope.one("scope"), scope[levels[2]]

    def span(self, name):
        span, = [span for span in self.spans if span.one("name") == name]
        return span

    def log(self, name):
        record, = [record for record in self.logs if record.one("event_name") == name]
        return record

    def test_a_process_is_a_resource(self):
        attributes = dict(self.resource.attributes)
        instance = attributes.pop("service.instance.id")
        self.assertRegex(instance, "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        self.assertEqual(attributes, {
            "service.name": "checkout", "host.name": "host-1", "process.pid": 12, "process.executable.path": "/usr/bin/server",
            "process.executable.name": "server", "process.linux.cgroup": "/system.slice/server.service",
            "container.id": "4f5e6d", "telemetry.sdk.name": "nopspan", "telemetry.sdk.language": "cpp",
            "telemetry.sdk.version": "1.2.3", "deployment.environment.name": "test", "team": "a,b", "service.namespace": "shop"})
        self.assertEqual(self.logs_resource.attributes, self.resource.attributes)

    def test_the_scope_is_nopspan_alone(self):
        self.assertEqual(self.scope, {"name": ["nopspan"], "version": ["1.2.3"]})
        self.assertEqual(self.scope.attributes, {})

    def test_a_chat_has_the_conventions_name_and_its_own_attributes(self):
        span = self.span("chat small-1")
        self.assertEqual(as_hex(span.one("trace_id")), bytes(range(0xf0, 0x100)).hex())
        self.assertEqual(as_hex(span.one("span_id")), "0123456789abcdef")
        self.assertEqual(as_hex(span.one("parent_span_id")), "00000000000000ff")
        self.assertEqual(span.one("trace_state"), "vendor=1")
        self.assertEqual(span.one("kind"), "SPAN_KIND_CLIENT")
        self.assertEqual(int(span.one("start_time_unix_nano")), 1_790_000_000_123_456_789)
        self.assertEqual(int(span.one("end_time_unix_nano")), 1_790_000_000_123_456_789 + 345_678_901)
        self.assertEqual(int(span.one("flags")), 0x101)
        self.assertNotIn("status", span)
        self.assertEqual(span.attributes, {
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "small-1", "nopspan.engine": "llama.cpp",
            "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 30, "nopspan.name": "llm.chat",
            "gen_ai.response.time_to_first_chunk": 0.045, "nopspan.tenant": "acme", "thread.id": 4711})
        link, = span["links"]
        self.assertEqual(as_hex(link.one("trace_id")), "5a" * 16)
        self.assertEqual(as_hex(link.one("span_id")), "%016x" % 99)
        self.assertEqual(span.one("dropped_links_count"), "1")  # its trace id is empty

    def test_events_are_in_their_span(self):
        sent, retry = self.span("chat small-1")["events"]
        self.assertEqual((sent.one("name"), int(sent.one("time_unix_nano"))), ("gen_ai.prompt.sent", BEGIN + 40))
        self.assertEqual(sent.attributes, {"prompt": "größe", "turn": -3})
        self.assertEqual(retry.one("name"), "llm.adapter.retry")
        self.assertEqual(retry.attributes, {"retry.attempt": 2, "retry.delay_ms": 500, "retry.reason": "rate_limit"})

    def test_an_exception_is_an_error_with_a_description(self):
        span = self.span("db.query")
        self.assertEqual(span.one("status"), {"message": ["no such table"], "code": ["STATUS_CODE_ERROR"]})
        self.assertEqual(span.attributes, {
            "nopspan.error.message": "no such table", "nopspan.outcome": "exception", "nopspan.exception.kind": "error",
            "error.type": "std::runtime_error", "thread.id": 77})
        self.assertEqual(int(span.one("end_time_unix_nano")) - int(span.one("start_time_unix_nano")), 1000)

    def test_a_cancelled_span_is_not_an_error(self):
        span = self.span("tool")
        self.assertNotIn("status", span)
        self.assertEqual(int(span.one("flags")), 0x301)
        self.assertEqual(span.attributes, {
            "nopspan.outcome": "cancelled", "nopspan.cancel.reason": "deadline", "nopspan.request_id": "req-17",
            "gen_ai.tool.name": "search", "thread.id": 77})

    def test_texts_are_repaired_and_what_cannot_be_repaired_is_dropped(self):
        span = self.span("\x1b[2J\ufffd")
        self.assertEqual(span.attributes, {"good": "1", "\ufffd": None, "thread.id": 77})
        self.assertEqual(span.one("dropped_attributes_count"), "1")

    def test_a_step_has_its_facts_and_links_to_its_first_members(self):
        span = self.span("engine.step")
        self.assertEqual(span.attributes, {
            "nopspan.device": "gpu0", "nopspan.step.kind": "mixed", "nopspan.step.instance": 0, "nopspan.step.number": 4,
            "nopspan.step.members": 3, "nopspan.step.members_with_prefill": 1, "nopspan.batch_size": 3,
            "nopspan.prefill_tokens": 128, "nopspan.decode_tokens": 2, "nopspan.device_ns": 900, "thread.id": 77})
        link, = span["links"]
        self.assertEqual(as_hex(link.one("trace_id")), bytes(range(0xf0, 0x100)).hex())
        self.assertEqual(span.one("dropped_links_count"), "1")  # the engine's own key is not a span

    def test_events_of_the_conventions_are_log_records(self):
        record = self.log("gen_ai.evaluation.result")
        self.assertEqual((record.one("severity_number"), record.one("severity_text")), ("SEVERITY_NUMBER_INFO", "INFO"))
        self.assertEqual(int(record.one("observed_time_unix_nano")), BEGIN + 5_000_000_000)
        self.assertEqual(as_hex(record.one("trace_id")), TRACE.hex())
        self.assertEqual(as_hex(record.one("span_id")), "11" * 8)
        self.assertEqual(record.one("flags"), "1")
        self.assertEqual(record.attributes, {"gen_ai.evaluation.name": "relevance", "thread.id": 77})

    def test_an_event_without_a_span_is_a_log_record(self):
        record = self.log("cache.cleared")
        self.assertNotIn("span_id", record)
        self.assertEqual(record.attributes, {"nopspan.tenant": "acme", "thread.id": 77})

    def test_an_event_whose_span_does_not_come_is_a_log_record(self):
        record = self.log("gen_ai.retry")
        self.assertEqual((record.one("severity_number"), record.one("severity_text")), ("SEVERITY_NUMBER_WARN", "WARN"))
        self.assertEqual(as_hex(record.one("span_id")), "44" * 8)
        self.assertEqual(record.attributes, {
            "retry.attempt": 1, "retry.delay_ms": 1.5, "gen_ai.request.model": "small-1", "thread.id": 77})


ability.need("protoc")
unittest.main()
