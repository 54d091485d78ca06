# SPDX-License-Identifier: Apache-2.0
"""How tests wait: for a condition, never for time."""

import time

# Far more than anything here takes: a condition that never comes true fails the test, and does not hang it.
PATIENCE_S = 60


def wait_until(condition, what, patience_s=PATIENCE_S, seen=lambda: ""):
    """Returns condition()'s first true value; fails if none comes, and then tells what there is to be seen."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain: %s\n%s" % (what, seen()))
        time.sleep(0.01)
