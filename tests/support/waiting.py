# SPDX-License-Identifier: Apache-2.0
"""Waiting in tests: always for a condition, never for a fixed time."""

import time

# Far longer than anything here takes. It makes a test fail, instead of hang, if a condition never becomes true.
PATIENCE_S = 60


def wait_until(condition, what, patience_s=PATIENCE_S, seen=lambda: ""):
    """Returns condition()'s first true value. If there is none in time, fails with a description of the current
    state."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain: %s\n%s" % (what, seen()))
        time.sleep(0.01)
