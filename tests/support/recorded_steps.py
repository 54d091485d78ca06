# SPDX-License-Identifier: Apache-2.0
"""Decodes the chunks of steps in a recording, as docs/recording.md documents them."""

import struct

NUMBERS = 39
SEQUENCE, SPAN_ID, PARENT_ID, START, DURATION, NUMBER, STEP_NUMBER = 0, 3, 4, 6, 7, 23, 27
OF_PART = (1, 2, 3, 4, 5, 6, 7, 9)  # the numbers that a part has from its step
TEXTS, TEXTS_OF_PART = 10, 4
ATTRIBUTES = 9
WORD = 1 << 64


class Bytes:
    """Bytes that are read from the front."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        self.at += count
        return self.data[self.at - count:self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def difference(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def fields(self):
        """The fields of a protobuf message: (number, value)."""
        while self.at < len(self.data):
            tag = self.varint()
            yield tag >> 3, (self.varint() if tag & 7 == 0 else self.take(8 if tag & 7 == 1 else self.varint()))


class Thread:
    def __init__(self, resource):
        self.resource = resource
        self.numbers = [0] * NUMBERS
        self.texts = [b""] * TEXTS
        self.before, self.members = [], []
        self.next = self.sequence = 0


def read_members(data, thread):
    """Members are lists: request, prefill, context, decode, drafted and accepted tokens, flags."""
    end = len(thread.members) + data.varint()
    kept = []
    while len(thread.members) < end:
        same, added, skipped = data.varint(), data.varint(), data.varint()
        for member in thread.before[thread.next:thread.next + same]:
            request, prefill, context, decode, *rest = member
            kept.append([request, prefill, context + prefill + decode, decode, *rest])
            thread.members.append(kept[-1])
        thread.next += same + skipped
        for _ in range(added):
            request, = struct.unpack("<Q", data.take(8))
            thread.members.append([request, *(data.varint() for _ in range(6))])
    at = 0
    for _ in range(data.varint()):
        at += data.varint()
        kept[at][1:] = [value + data.difference() for value in kept[at][1:]]
        at += 1


def read_entry(data, threads):
    """(thread, whether it is a part, its numbers, its texts)."""
    head = data.varint()
    thread, is_part = threads[head >> 1], head & 1
    if is_part:
        numbers = [thread.numbers[i] if i in OF_PART else 0 for i in range(NUMBERS)]
        numbers[NUMBER] = len(thread.members)
        texts = thread.texts[:TEXTS_OF_PART] + [b""] * (TEXTS - TEXTS_OF_PART)
    else:
        thread.before, thread.members, thread.next = thread.members, [], 0
        numbers, texts = list(thread.numbers), list(thread.texts)
        numbers[START] += numbers[DURATION]
        numbers[STEP_NUMBER] += 1
    numbers[SEQUENCE] = thread.sequence
    for _ in range(data.varint()):
        i = data.varint()
        numbers[i] = (numbers[i] + data.difference()) % WORD
    for _ in range(data.varint()):
        i, begin, end = data.varint(), data.varint(), data.varint()
        middle = data.take(data.varint())
        texts[i] = texts[i][:begin] + middle + texts[i][len(texts[i]) - end:]
    read_members(data, thread)
    thread.sequence = numbers[SEQUENCE] + 1
    if not is_part:
        thread.numbers, thread.texts = numbers, texts
    return thread, is_part, numbers, texts


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def as_traces(payload):
    """The steps of a chunk as a TracesData with a part of their fields, and the number of parts."""
    threads, out, parts = [], b"", 0
    for number, value in Bytes(payload).fields():
        if number == 1:
            threads.append(Thread(dict(Bytes(value).fields())[1]))
            continue
        thread, is_part, numbers, texts = read_entry(Bytes(value), threads)
        if is_part:
            parts += 1
            continue
        span = field(2, struct.pack(">Q", numbers[SPAN_ID]))
        if numbers[PARENT_ID]:
            span += field(4, struct.pack(">Q", numbers[PARENT_ID]))
        span += field(5, texts[0]) + texts[ATTRIBUTES]
        for time_field, time in ((7, numbers[START]), (8, numbers[START] + numbers[DURATION])):
            span += varint(time_field << 3 | 1) + struct.pack("<Q", time)
        out += field(1, field(1, thread.resource) + field(2, field(1, b"") + field(2, span)))
    return out, parts
