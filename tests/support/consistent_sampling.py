# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry's consistent probability sampling, as its specification and the Collector's processor describe it:
written apart from nopspan's own code, to compare with it."""

import re
from fractions import Fraction

RANGE = 2**56
WORD = 2**64 - 1


def threshold(one_in, precision=4):
    """The rejection threshold for a probability of 1/N, rounded to `precision` digits after the leading f."""
    probability = Fraction(1, one_in)
    digits = precision
    while probability * 16 < 1:
        probability *= 16
        digits += 1
    unit = Fraction(RANGE, 16**digits)
    return int((RANGE * (1 - Fraction(1, one_in)) / unit + Fraction(1, 2)) // 1 * unit)


def ot_values(tracestate):
    """The values of the member ot of a tracestate."""
    for member in (tracestate or "").split(","):
        key, _, value = member.strip().partition("=")
        if key == "ot":
            return dict(part.split(":", 1) for part in value.split(";"))
    return {}


def randomness(trace_id, tracestate=""):
    """56 bits: rv of the tracestate, or the last 7 bytes of the trace id (in hexadecimal)."""
    return int(ot_values(tracestate).get("rv") or trace_id[-14:], 16)


def applied_threshold(tracestate):
    """The threshold in a tracestate, None if there is none."""
    digits = ot_values(tracestate).get("th")
    return None if digits is None else int(digits.ljust(14, "0"), 16)


def adjusted_count(tracestate):
    """For how many spans this one stands."""
    return Fraction(RANGE, RANGE - (applied_threshold(tracestate) or 0))


def hashed_randomness(trace_id):
    """The rv that nopspan gives to a trace id (bytes) that is the hash of an application's id."""
    word = int.from_bytes(trace_id[:8], "little") ^ int.from_bytes(trace_id[8:], "little")
    for factor in (0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53):
        word = (word ^ word >> 33) * factor & WORD
    return (word ^ word >> 33) >> 8


def is_sampled(request_id, trace_id, one_in):
    """Whether --sample takes a request, whose trace id is given as bytes."""
    is_hashed = not re.fullmatch("[A-Za-z0-9_-]{21}[AQgw]|[0-9A-Fa-f]{32}", request_id)
    return (hashed_randomness(trace_id) if is_hashed else randomness(trace_id.hex())) >= threshold(one_in)
