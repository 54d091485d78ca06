# SPDX-License-Identifier: Apache-2.0
"""Parses the maps that bpftrace prints."""

import collections
import re

ENTRY = re.compile(r"@(\w+)(?:\[(.*)\])?: ?(.*)$")
# [1K, 2K)   3 |@@@   |, [5]   3 |@@@  |, (..., 0)   3 |@ |, [10, ...)   3 |@ |
BAR = re.compile(r"[\[(](\S+?)(?:, (\S+?))?[\])] +(\d+) \|[@ ]*\|$")
# count 3, average 2, total 6; 0.27: { .count = 3, .average = 2, .total = 6 }
STATS = re.compile(r"(?:\{ \.)?count (?:= )?(\d+), \.?average (?:= )?(-?\d+), \.?total (?:= )?(-?\d+)(?: \})?$")
UNITS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}

Stats = collections.namedtuple("Stats", "count average total")


def _bound(text):
    if text == "...":
        return None
    return int(text[:-1]) << UNITS[text[-1]] if text[-1] in UNITS else int(text)


def _value(text):
    stats = STATS.match(text)
    if stats:
        return Stats(*map(int, stats.groups()))
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def maps(lines):
    """{map: {key: value}} of the lines. A key is the text between [ and ], or "" if there is none. If a map was printed
    several times, the last one counts. A value is an int, Stats, a text, or a histogram {lower bound: count} (None:
    below the range) without its empty buckets."""
    found = collections.defaultdict(dict)
    histogram = None
    for line in lines:
        bar = BAR.match(line)
        if bar and histogram is not None:
            if int(bar[3]):
                histogram[_bound(bar[1])] = int(bar[3])
            continue
        entry = ENTRY.match(line)
        if not entry:
            continue
        name, key, value = entry.groups()
        histogram = {} if value == "" else None
        found[name][key or ""] = histogram if value == "" else _value(value)
    return found


def log2_bucket(value):
    """The lower bound of the bucket in which hist() counts a value."""
    return value if value < 2 else 1 << (value.bit_length() - 1)


def histogram(values):
    """The histogram that hist() makes of the values."""
    return dict(collections.Counter(log2_bucket(value) for value in values))
