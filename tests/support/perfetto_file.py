# SPDX-License-Identifier: Apache-2.0
"""Reads a trace of Perfetto without any code of nopspan, and reports what Perfetto's importer (trace_processor) would drop
or mend, by the names of its own statistics."""

import collections
import dataclasses
import zlib

MOST_DEPTH = 512
REALTIME, MONOTONIC = 1, 3
BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4


@dataclasses.dataclass
class Track:
    uuid: int
    name: str
    parent: int
    pid: int
    is_counter: bool


@dataclasses.dataclass
class Slice:
    """Also an instant, which ends where it begins."""
    name: str
    start: int
    track: int
    args: dict
    is_instant: bool
    end: int = None
    parent: object = None
    depth: int = 0


@dataclasses.dataclass
class Trace:
    errors: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # by statistic
    tracks: dict = dataclasses.field(default_factory=dict)
    slices: list = dataclasses.field(default_factory=list)
    counters: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))  # (time, value) by track
    flows: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))  # slices by id
    attributes: dict = dataclasses.field(default_factory=dict)
    clock: int = None
    snapshots: list = dataclasses.field(default_factory=list)  # times by clock
    plain: bytes = b""  # all packets, not compressed

    def path(self, uuid):
        """The names of the tracks from the top to this one."""
        track = self.tracks[uuid]
        return (*(self.path(track.parent) if track.parent else ()), track.name)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value, at = bytes(data[at:at + size]), at + size
            if at > len(data):
                raise ValueError("the file is cut")
        else:
            size = {1: 8, 5: 4}[kind]
            value, at = bytes(data[at:at + size]), at + size
        yield tag >> 3, value


def grouped(data):
    found = collections.defaultdict(list)
    for number, value in fields(data):
        found[number].append(value)
    return found


def packets(data):
    """The bytes of each packet."""
    for number, packet in fields(data):
        if number != 1:
            raise ValueError("field %d of Trace" % number)
        compressed = grouped(packet).get(50)
        if compressed:
            yield from packets(zlib.decompress(compressed[0]))
        else:
            yield packet


def varint_bytes(value):
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


class Importer:
    """Does what trace_processor does with the packets of one sequence."""

    def __init__(self):
        self.trace = Trace()
        self.is_cleared = False
        self.names = {}  # by field of InternedData and id
        self.events = []
        self.default_clock = None

    def error(self, statistic):
        self.trace.errors[statistic] += 1

    def read(self, data):
        plain = []
        for packet in packets(data):
            plain.append(b"\x0a" + varint_bytes(len(packet)) + packet)
            self.packet(grouped(packet))
        self.trace.plain = b"".join(plain)
        self.events.sort(key=lambda event: event[0])  # stable, as the importer's
        stacks = collections.defaultdict(list)
        for time, event in self.events:
            self.event(time, event, stacks[event[11][0]])
        for stack in stacks.values():
            for each in stack:
                self.error("slice_without_end")  # the importer shows it as one that never ended
                each.end = each.start
        for flow in self.trace.flows.values():
            if len(flow) < 2:
                self.error("flow_without_end")  # the importer shows no arrow
        return self.trace

    def packet(self, packet):
        flags = packet[13][0] if 13 in packet else 0
        self.is_cleared = self.is_cleared or flags & 1 != 0
        if flags & 2 and not self.is_cleared or 10 not in packet:
            self.error("tokenizer_skipped_packets")
            return
        for data in packet.get(12, ()):
            for field, entry in fields(data):
                name = grouped(entry)
                self.names[field, name[1][0]] = name[2][0].decode() if 2 in name else ""
        for data in packet.get(59, ()):
            self.default_clock = grouped(data)[58][0]
        for data in packet.get(6, ()):
            snapshot = grouped(data)
            clocks = [grouped(clock) for clock in snapshot[1]]
            times = {clock[1][0]: clock[2][0] for clock in clocks}
            if len(times) != len(clocks):
                self.error("invalid_clock_snapshots")
            self.trace.snapshots.append(times)
            self.trace.clock = snapshot[2][0]
        for data in packet.get(126, ()):
            for one in grouped(data)[1]:
                value = grouped(one)
                self.trace.attributes[value[1][0].decode()] = value[3][0].decode() if 3 in value else value[2][0]
        for data in packet.get(60, ()):
            self.track(grouped(data))
        for data in packet.get(11, ()):
            event = grouped(data)
            if 8 not in packet:
                self.error("tokenizer_skipped_packets")
            elif (packet[58][0] if 58 in packet else self.default_clock) not in {clock for one in self.trace.snapshots for clock in one}:
                self.error("clock_sync_failure_unknown_source_clock")
            elif 9 not in event or event[11][0] not in self.trace.tracks or not self.knows_names(event):
                self.error("track_event_tokenizer_errors")
            elif packet[8][0] >= 1 << 63:
                self.error("timestamp_out_of_range")
            else:
                self.events.append((packet[8][0], event))

    def knows_names(self, event):
        return all((2, each) in self.names for each in event.get(10, ())) and \
            all(self.knows_names_of(grouped(each)) for each in event.get(4, ()))

    def knows_names_of(self, annotation):
        return all((3, each) in self.names for each in annotation.get(1, ()))

    def track(self, track):
        uuid, parent = track[1][0], track[5][0] if 5 in track else 0
        if uuid in self.trace.tracks or uuid == 0:
            self.error("track_event_tokenizer_errors")
        if parent and parent not in self.trace.tracks:
            self.error("track_hierarchy_missing_uuid")
        pid = grouped(track[3][0])[1][0] if 3 in track else 0
        self.trace.tracks[uuid] = Track(uuid, track[2][0].decode() if 2 in track else "", parent, pid, 8 in track)

    def value(self, annotation):
        for number, read in ((2, bool), (4, lambda v: v - (1 << 64) if v >> 63 else v), (6, bytes.decode)):
            if number in annotation:
                return read(annotation[number][0])
        if 5 in annotation:
            return memoryview(annotation[5][0]).cast("d")[0]
        if 11 in annotation:
            return {grouped(one)[10][0].decode(): self.value(grouped(one)) for one in annotation[11]}
        return [self.value(grouped(one)) for one in annotation.get(12, ())]

    def args(self, event):
        found = {}
        for data in event.get(4, ()):
            annotation = grouped(data)
            found[self.names[3, annotation[1][0]] if 1 in annotation else annotation[10][0].decode()] = self.value(annotation)
        return found

    def event(self, time, event, stack):
        kind, uuid = event[9][0], event[11][0]
        if self.trace.tracks[uuid].is_counter != (kind == COUNTER):
            self.error("track_event_parser_errors")
            return
        if kind == COUNTER:
            self.trace.counters[uuid].append((time, event[30][0]))
            return
        if kind == END:
            if not stack:
                self.error("misplaced_end_event")
            else:
                stack.pop().end = time
            return
        if len(stack) >= MOST_DEPTH:
            self.error("slice_max_depth_exceeded")
            return
        name = self.names[2, event[10][0]] if 10 in event else event[22][0].decode()
        each = Slice(name, time, uuid, self.args(event), kind == INSTANT,
                     parent=stack[-1] if stack else None, depth=len(stack))
        self.trace.slices.append(each)
        if kind == BEGIN:
            stack.append(each)
        else:
            each.end = time
        for data in event.get(47, ()):
            self.trace.flows[int.from_bytes(data, "little")].append(each)


def read(path):
    with open(path, "rb") as file:
        return Importer().read(file.read())
