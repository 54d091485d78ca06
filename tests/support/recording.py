# SPDX-License-Identifier: Apache-2.0
"""Reads a recording of `nopspan record` without any code of nopspan. docs/recording.md and probes/README.md document the
format."""

import collections
import gzip
import json
import struct
import zlib

FILE_HEADER = struct.Struct("<8sII")
FRAME_HEADER = struct.Struct("<4sIIIQII")
MOST_PAYLOAD = 16 << 20
KINDS = {1: "about", 5: "ledger", 6: "end", 9: "batches", 10: "batches_gzip"}
WITH_ENTRIES = ("batches", "batches_gzip")

Chunk = collections.namedtuple("Chunk", "kind entries time_unix_ns payload")


class Cut(Exception):
    """The bytes after the last complete chunk are not a chunk."""


def chunks(data):
    """The chunks in the bytes of a file. Raises Cut after the last one unless that is the end."""
    magic, version, zero = FILE_HEADER.unpack_from(data)
    if (magic, version, zero) != (b"NOPSPAN\0", 2, 0):
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


# `process` is a dictionary, and `fields` has what is in the batch: texts as bytes, numbers of parts as tuples.
Entry = collections.namedtuple("Entry", "kind process thread_id sequence_id sequence before_attach fields")

ENTRY_KINDS = ("span", "event", "retry", "gauge", "step", "members")
PROCESS_TEXTS = ("comm", "executable", "cgroup", "container", "library", "library_version", "host", "boot_id", "service_name",
                 "resource_attributes", "instance")
STEP = struct.Struct("<IIQQIIIIQQQQQQQ32x")
MEMBER = struct.Struct("<QIIHHHH")
WORDS = (("times", 1, "<QQ"), ("usage", 2, "<QQQQ"), ("first_token_ns", 4, "<Q"), ("engine_times", 8, "<QQQQQQQ"),
         ("values", 16, "<qQ"), ("step", 32, STEP.format))
TEXTS = (("exception_kind", 0x100), ("error_type", 0x200), ("text", 0x400), ("links", 0x800), ("attributes", 0x1000))
LEFT_OUT = 0x7F


class Steps:
    """Restores the members of a thread's steps in compressed chunks."""

    def __init__(self):
        self.before, self.now, self.next = [], [], 0

    def begin(self):
        self.before, self.now, self.next = self.now, [], 0

    def restored(self, member):
        expected = self.before[self.next][0] if self.next < len(self.before) else 0
        request = member[0] ^ expected
        base = (0,) * 7
        at = self.next
        if at >= len(self.before) or self.before[at][0] != request:
            at = next((i for i, one in enumerate(self.before) if one[0] == request), None)
        if at is not None:
            base, self.next = list(self.before[at]), at + 1
            base[2] += base[1] + base[3]
        sums = [(value + of_base) % size for value, of_base, size in
                zip(member[1:], base[1:], (2**32, 2**32, 2**16, 2**16, 2**16, 2**16))]
        self.now.append((request, *sums))
        return self.now[-1]


def whole_batch(pieces):
    """The batch of which these are pieces, and where the last one is in it."""
    batch, at, place = b"", 0, 0
    while at < len(pieces):
        place, size = struct.unpack_from("<II", pieces, at)
        batch = batch.ljust(place, b"\0") + pieces[at + 8:at + 8 + size]
        at += 8 + (size + 7) // 8 * 8
    return batch, place


def records(batch, count, at):
    """(kind, whole bytes of the record) of each entry."""
    while count > 0:
        size, kind = struct.unpack_from("<HB", batch, at)
        if kind < 0x80:
            count -= 1
            yield kind, batch[at:at + size]
        at += (size + 7) // 8 * 8


def fields_of(batch, record):
    """What an entry says, with its form and its request."""
    def text(offset, length):
        return batch[8 * offset:8 * offset + length]

    _, kind, status, form_at, request_at, span_id, parent_id, start, duration = struct.unpack_from("<HBBHHQQiI", record)
    _, form_kind, entry_kind, flags, parts, *texts = struct.unpack_from("<HBBII8HI", batch, 8 * form_at)
    _, request_kind, request_flags, _, _, trace_id, root_id, begin, *own = struct.unpack_from("<HBBHH16sQQ4H", batch,
                                                                                             8 * request_at)
    assert (form_kind, request_kind, entry_kind) == (0x81, 0x80, kind), (form_kind, request_kind, entry_kind, kind)
    found = {"trace_id": trace_id.hex(), "span_id": span_id, "parent_id": parent_id, "root_id": root_id,
             "status": status & 0x7F, "flags": flags | (0x10 if status & 0x80 else 0), "start_ns": begin + start,
             "duration_ns": duration, "counts_tokens": bool(parts & 0x10000), "counts_tool": bool(parts & 0x20000)}
    for i, name in enumerate(("name", "engine", "model", "tenant")):
        found[name] = text(*texts[2 * i:2 * i + 2])
    found["foreign_id"], found["tracestate"] = text(*own[:2]), text(*own[2:])
    assert bool(request_flags & 1) == bool(flags & 4), "the request and the form agree on the id"
    at = 32
    for name, bit, layout in WORDS:
        if parts & bit:
            found[name] = struct.unpack_from(layout, record, at)
            at += struct.calcsize(layout)
    if parts & 1:
        found["start_ns"], found["duration_ns"] = found.pop("times")
    if parts & 0x1F00:
        for name, bit in TEXTS:
            if parts & bit:
                found[name] = text(*struct.unpack_from("<HH", record, at))
                at += 4
    else:
        found["attributes"] = record[at:]
    return found


def entries(chunk):
    """The entries in a chunk."""
    found, processes, clocks, threads, at = [], [], [], {}, 0
    payload = gzip.decompress(chunk.payload) if chunk.kind == "batches_gzip" else chunk.payload
    while at < len(payload):
        kind, size = struct.unpack_from("<II", payload, at)
        message, at = payload[at + 8:at + size], at + size
        if kind == 1:
            clocks.append(struct.unpack_from("<QQ", message))
        elif kind == 2:
            names = ("pid", "namespace_pid", "start_ticks", "clock_offset_ns", "attached_ns")
            texts = [text.decode("utf-8", "surrogateescape") for text in message[32:].split(b"\0")]
            processes.append({**dict(zip(names, struct.unpack_from("<IIQqQ", message))), **dict(zip(PROCESS_TEXTS, texts))})
        elif kind == 3:
            process, thread_id, sequence_id, first, count, flags, length = struct.unpack_from("<IIQQIII", message)
            batch, begin = whole_batch(message[40:40 + length]) if flags & 8 else (message[40:40 + length], 0)
            steps = threads.setdefault((process, sequence_id), Steps())
            for i, (entry_kind, record) in enumerate(records(batch, count, begin)):
                if entry_kind == LEFT_OUT:
                    continue
                fields = fields_of(batch, record)
                if entry_kind >= 4:
                    if entry_kind == 4:
                        steps.begin()
                    members = MEMBER.iter_unpack(fields.pop("links", b""))
                    fields["members"] = [steps.restored(one) if chunk.kind == "batches_gzip" else one for one in members]
                before = bool(flags & 2)
                if not flags & 1:
                    before = before or fields["start_ns"] < processes[process]["attached_ns"]
                    start = fields["start_ns"] - processes[process]["clock_offset_ns"]
                    offset = [offset for since, offset in clocks if since <= start or since == clocks[0][0]][-1]
                    fields["start_ns"] = (start + offset) % 2**64
                found.append(Entry(ENTRY_KINDS[entry_kind], processes[process], thread_id, sequence_id, first + i, before,
                                   fields))
    if len(found) != chunk.entries:
        raise ValueError("%d entries in a chunk of %d" % (len(found), chunk.entries))
    return found


def all_entries(path):
    """The entries of a file that must be complete."""
    found, is_whole = whole_chunks(path)
    if not is_whole:
        raise ValueError(path + " is not whole")
    return [entry for chunk in found if chunk.kind in WITH_ENTRIES for entry in entries(chunk)]


def ledger(path):
    """The last ledger."""
    return json.loads([chunk.payload for chunk in whole_chunks(path)[0] if chunk.kind == "ledger"][-1])
