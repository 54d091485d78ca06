# SPDX-License-Identifier: Apache-2.0
"""What bpftrace printed of a script's maps, as values."""

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
    """{map: {key: value}} of lines; a key is the text between [ and ], "" without one; of what was printed several
    times the last. A value is an int, Stats, a text, or a histogram {lower bound: count} (None: below the range), of
    which only buckets that are not empty are in it."""
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
    """The lower bound of hist()'s bucket of a value."""
    return value if value < 2 else 1 << (value.bit_length() - 1)


def histogram(values):
    """What hist() makes of values."""
    return dict(collections.Counter(log2_bucket(value) for value in values))
