# SPDX-License-Identifier: Apache-2.0
"""Decodes OTLP requests with python3-protobuf's decoder in Python, which shares no code with protoc's decoder in C++, and
with the published definitions: otlp_of_python.py KIND FILE..., where KIND is trace, logs or metrics. Prints a line of JSON
for each file: nested lists of [name, value]. Bytes are {"hex": …}."""

import importlib
import json
import os
import subprocess
import sys
import tempfile

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
from google.protobuf.internal import api_implementation  # noqa: E402

DEFINITIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "otlp")


def request_type(kind, folder):
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(DEFINITIONS) for name in names
             if name.endswith(".proto")]
    subprocess.run(["protoc", "-I", DEFINITIONS, "--python_out", folder, *paths], check=True)
    sys.path.insert(0, folder)
    module = importlib.import_module(f"opentelemetry.proto.collector.{kind}.v1.{kind}_service_pb2")
    return getattr(module, f"Export{kind.title()}ServiceRequest")


def fields(message):
    found = []
    for field, value in message.ListFields():
        for one in value if field.label == field.LABEL_REPEATED else [value]:
            if field.message_type:
                one = fields(one)
            elif isinstance(one, bytes):
                one = {"hex": one.hex()}
            elif isinstance(one, float):
                one = repr(one)  # JSON has neither infinity nor NaN
            found.append([field.name, one])
    return found


def main(kind, paths):
    assert api_implementation.Type() == "python", api_implementation.Type()
    with tempfile.TemporaryDirectory() as folder:
        request = request_type(kind, folder)
        for path in paths:
            with open(path, "rb") as file:
                print(json.dumps(fields(request.FromString(file.read()))))


main(sys.argv[1], sys.argv[2:])
