#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the entries of a recording without nopspan: kind, time, duration, trace, span, parent, process, name.
docs/recording.md describes the format. usage: read_recording.py FILE"""
import gzip
import struct
import sys
import zlib

KINDS = dict(enumerate(("span", "event", "retry", "gauge", "step", "members")))


def chunks(data):
    at = 0
    while at < len(data):
        if data[at:at + 8] == b"NOPSPAN\0":  # a file's header
            at += 16
            continue
        magic, kind, size, _, _, crc, _ = struct.unpack_from("<4sIIIQII", data, at)
        payload = data[at + 32:at + 32 + size]
        if magic != b"NSPF" or zlib.crc32(payload) != crc:
            sys.exit("damaged at byte %d" % at)
        at += 32 + size
        yield kind, payload


def whole_batch(pieces):
    """The batch of which these are pieces, and where the last one is in it."""
    batch, at, place = b"", 0, 0
    while at < len(pieces):
        place, size = struct.unpack_from("<II", pieces, at)
        batch = batch.ljust(place, b"\0") + pieces[at + 8:at + 8 + size]
        at += 8 + (size + 7) // 8 * 8
    return batch, place


def entries(batch, at, count):
    """(kind, start, duration, trace id, span id, parent id, name) of each entry whose kind is known."""
    while count > 0:
        size, kind, _, form, request, span, parent, start, duration = struct.unpack_from("<HBBHHQQiI", batch + bytes(32), at)
        count -= 1 if kind < 0x80 else 0
        if kind in KINDS:
            trace, _, begin = struct.unpack_from("<16sQQ", batch, 8 * request + 8)
            parts, name, length = struct.unpack_from("<IHH", batch, 8 * form + 8)
            start, duration = struct.unpack_from("<QQ", batch, at + 32) if parts & 1 else (begin + start, duration)
            yield kind, start, duration, trace, span, parent, batch[8 * name:8 * name + length]
        at += (size + 7) // 8 * 8


def print_batches(payload):
    processes, clocks, at = [], [], 0
    while at < len(payload):
        message, size = struct.unpack_from("<II", payload, at)
        fields, at = payload[at + 8:at + size], at + size
        if message == 1:
            clocks.append(struct.unpack_from("<QQ", fields))
        elif message == 2:
            processes.append((*struct.unpack_from("<IIQq", fields), fields[32:].split(b"\0")[0].decode(errors="replace")))
        elif message == 3:
            process, _, _, _, count, flags, length = struct.unpack_from("<IIQQIII", fields)
            pid, _, _, ahead, comm = processes[process]
            batch = whole_batch(fields[40:40 + length]) if flags & 8 else (fields[40:40 + length], 0)
            for kind, start, duration, trace, span, parent, name in entries(*batch, count):
                if not flags & 1:  # not the time of the wall clock
                    start += [offset for since, offset in clocks if since <= start - ahead or since == clocks[0][0]][-1] - ahead
                print(KINDS[kind], start % 2**64, duration, trace.hex(), "%016x %016x" % (span, parent), pid, comm,
                      name.decode(errors="replace"))


with open(sys.argv[1], "rb") as file:
    for what, content in chunks(file.read()):
        if what in (9, 10):
            print_batches(gzip.decompress(content) if what == 10 else content)
