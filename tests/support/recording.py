# SPDX-License-Identifier: Apache-2.0
"""Reads a recording of `nopspan record` without any code of nopspan. docs/recording.md documents the format, and
protobuf's own compiler decodes the messages."""

import collections
import json
import os
import struct
import subprocess
import zlib

import otlp_attributes
import recorded_steps

FILE_HEADER = struct.Struct("<8sII")
FRAME_HEADER = struct.Struct("<4sIIIQII")
MOST_PAYLOAD = 16 << 20
KINDS = {1: "about", 2: "traces", 3: "logs", 4: "metrics", 5: "ledger", 6: "end", 7: "steps"}
MESSAGES = {
    "steps": ("opentelemetry.proto.trace.v1.TracesData", "opentelemetry/proto/trace/v1/trace.proto"),
    "traces": ("opentelemetry.proto.trace.v1.TracesData", "opentelemetry/proto/trace/v1/trace.proto"),
    "logs": ("nopspan.otlp.LogsData", "otlp_logs_metrics.proto"),
    "metrics": ("nopspan.otlp.MetricsData", "otlp_logs_metrics.proto"),
}

Chunk = collections.namedtuple("Chunk", "kind entries time_unix_ns payload")


class Cut(Exception):
    """The bytes after the last complete chunk are not a chunk."""


def chunks(data):
    """The chunks in the bytes of a file. Raises Cut after the last one unless that is the end."""
    magic, version, zero = FILE_HEADER.unpack_from(data)
    if (magic, version, zero) != (b"NOPSPAN\0", 1, 0):
        raise ValueError("no recording: %r" % data[:16])
    at = FILE_HEADER.size
    while at < len(data):
        if len(data) - at < FRAME_HEADER.size:
            raise Cut(at)
        magic, kind, length, entries, time_unix_ns, crc, header_crc = FRAME_HEADER.unpack_from(data, at)
        if magic != b"NSPF" or length > MOST_PAYLOAD or zlib.crc32(data[at:at + 28]) != header_crc:
            raise Cut(at)
        at += FRAME_HEADER.size
        payload = data[at:at + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            raise Cut(at)
        at += length
        yield Chunk(KINDS[kind], entries, time_unix_ns, payload)


def whole_chunks(path):
    """The complete chunks at the beginning of a file, and whether the file ends there."""
    with open(path, "rb") as file:
        data = file.read()
    found = []
    try:
        for chunk in chunks(data):
            found.append(chunk)
    except Cut:
        return found, False
    return found, bool(found) and found[-1].kind == "end"


def _decode(kind, payload):
    message, file = MESSAGES[kind]
    here = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run(["protoc", "--decode=" + message, "-I", otlp_attributes.DEFINITIONS, "-I", here, file],
                          input=payload, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise ValueError("protoc does not decode it: " + done.stderr.decode())
    return otlp_attributes.parse_text(done.stdout.decode())


class Message(dict):
    """The fields of a message: {name: list of values}. `attributes` is {key: value}."""

    def one(self, name, default=None):
        values = self.get(name, [])
        if len(values) > 1:
            raise ValueError("%s %d times" % (name, len(values)))
        return values[0] if values else default


def _message(fields):
    message = Message()
    attributes = []
    for name, value in fields:
        if name == "attributes":
            attributes.append(value)
        elif isinstance(value, list):
            message.setdefault(name, []).append(_message(value))
        else:
            message.setdefault(name, []).append(value)
    message.attributes = otlp_attributes.key_values(attributes)
    return message


Entry = collections.namedtuple("Entry", "kind resource scope message")


def entries(chunk):
    """The messages of the spans, log records or metrics in a chunk, with the attributes of resource and scope. A step is
    a span, and its parts are of the kind "parts"."""
    found = []
    if chunk.kind == "steps":
        payload, parts = recorded_steps.as_traces(chunk.payload)
        spans = entries(Chunk("traces", chunk.entries - parts, chunk.time_unix_ns, payload))
        return spans + [Entry("parts", spans[0].resource, None, Message())] * parts if spans else []
    inner = {"traces": ("resource_spans", "scope_spans", "spans"), "logs": ("resource_logs", "scope_logs", "log_records"),
             "metrics": ("resource_metrics", "scope_metrics", "metrics")}[chunk.kind]
    data = _message(_decode(chunk.kind, chunk.payload))
    for resource in data.get(inner[0], []):
        for scope in resource.get(inner[1], []):
            for message in scope.get(inner[2], []):
                found.append(Entry(chunk.kind, resource.one("resource").attributes, scope.one("scope"), message))
    if len(found) != chunk.entries:
        raise ValueError("%d entries in a chunk of %d" % (len(found), chunk.entries))
    return found


def all_entries(path):
    """The entries of a file that must be complete."""
    found, is_whole = whole_chunks(path)
    if not is_whole:
        raise ValueError(path + " is not whole")
    return [entry for chunk in found if chunk.kind in MESSAGES for entry in entries(chunk)]


def ledger(path):
    """The last ledger."""
    return json.loads([chunk.payload for chunk in whole_chunks(path)[0] if chunk.kind == "ledger"][-1])
