# SPDX-License-Identifier: Apache-2.0
"""Reads a recording of `nopspan record` without any code of nopspan. docs/recording.md documents the format, and
protobuf's own compiler decodes the messages."""

import collections
import json
import struct
import zlib

import otlp_attributes
import recorded_steps
from otlp_attributes import Message

FILE_HEADER = struct.Struct("<8sII")
FRAME_HEADER = struct.Struct("<4sIIIQII")
MOST_PAYLOAD = 16 << 20
KINDS = {1: "about", 2: "traces", 3: "logs", 4: "metrics", 5: "ledger", 6: "end", 7: "steps"}
MESSAGES = {"steps": "opentelemetry.proto.trace.v1.TracesData", "traces": "opentelemetry.proto.trace.v1.TracesData",
            "logs": "opentelemetry.proto.logs.v1.LogsData", "metrics": "opentelemetry.proto.metrics.v1.MetricsData"}

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


Entry = collections.namedtuple("Entry", "kind resource scope message sequence")


def own_sequence(message):
    points = [point for gauge in message.get("gauge", []) for point in gauge.get("data_points", [])]
    return (points[0] if points else message).attributes.get("nopspan.sequence")


def entries(chunk):
    """The messages of the spans, log records or metrics in a chunk, with the attributes of resource and scope, and with
    their sequence. A step is a span, and its parts are of the kind "parts". Both are without a sequence."""
    found = []
    if chunk.kind == "steps":
        payload, parts = recorded_steps.as_traces(chunk.payload)
        spans = entries(Chunk("traces", chunk.entries - parts, chunk.time_unix_ns, payload))
        return spans + [Entry("parts", spans[0].resource, None, Message([]), None)] * parts if spans else []
    inner = {"traces": ("resource_spans", "scope_spans", "spans"), "logs": ("resource_logs", "scope_logs", "log_records"),
             "metrics": ("resource_metrics", "scope_metrics", "metrics")}[chunk.kind]
    data = Message(otlp_attributes.decode_message(MESSAGES[chunk.kind], chunk.payload))
    for resource in data.get(inner[0], []):
        for scope in resource.get(inner[1], []):
            following = scope.one("scope").attributes.get("nopspan.sequence")
            for message in scope.get(inner[2], []):
                own = own_sequence(message)
                sequence = following if own is None else own
                found.append(Entry(chunk.kind, resource.one("resource").attributes, scope.one("scope"), message, sequence))
                following = None if sequence is None else sequence + 1
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
