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


def entries(batch, count):
    """(kind, start, duration, trace id, span id, parent id, name) of each entry."""
    at = 0
    while count > 0:
        size, kind, _, form, request, span, parent, start, duration = struct.unpack_from("<HBBHHQQiI", batch + bytes(32), at)
        if kind < 0x80:
            count -= 1
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
            process, _, _, _, count, skipped, flags, length = struct.unpack_from("<IIQQIIII", fields)
            pid, _, _, ahead, comm = processes[process]
            for kind, start, duration, trace, span, parent, name in list(entries(fields[40:40 + length], count))[skipped:]:
                if not flags & 1:  # not the time of the wall clock
                    start += [offset for since, offset in clocks if since <= start - ahead or since == clocks[0][0]][-1] - ahead
                if kind in KINDS:
                    print(KINDS[kind], start % 2**64, duration, trace.hex(), "%016x %016x" % (span, parent), pid, comm,
                          name.decode(errors="replace"))


with open(sys.argv[1], "rb") as file:
    for what, content in chunks(file.read()):
        if what in (9, 10):
            print_batches(gzip.decompress(content) if what == 10 else content)
