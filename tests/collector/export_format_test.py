#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the JSON of OTLP requests against what protoc decodes with the published definitions. export_test.cpp reads
this JSON.

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


class Json(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        subprocess.run([EXAMPLES, cls.folder], check=True, timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

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
        self.assertEqual(names, ["random-logs.pb", "random-traces.pb"])
        for name in names:
            with self.subTest(name):
                path = self.folder / name
                text = path.with_suffix(".json").read_text(encoding="utf-8")
                self.assertNotIn("\n", text)
                self.assertEqual(canonical(fields_of_json(json.loads(text, parse_int=str)), of_json),
                                 canonical(decoded(path), of_protoc))


ability.need("protoc")
unittest.main()
