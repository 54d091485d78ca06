# SPDX-License-Identifier: Apache-2.0
"""Waiting in tests: always for a condition, never for a fixed time."""

import fcntl
import time

# Far longer than anything here takes. It makes a test fail, instead of hang, if a condition never becomes true.
PATIENCE_S = 60


def wait_until(condition, what, patience_s=PATIENCE_S, seen=lambda: "", pause_s=0.01):
    """Returns condition()'s first true value. If there is none in time, fails with a description of the current state.
    The pauses become longer, up to ten times, because many conditions cost more than a look."""
    deadline = time.monotonic() + patience_s
    most_s = 10 * pause_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain: %s\n%s" % (what, seen()))
        time.sleep(pause_s)
        pause_s = min(1.1 * pause_s, most_s)


def hold_lock(path):
    """Takes the machine-wide lock that `path` stands for. This process holds it until it ends."""
    lock = open(path, "w", encoding="utf-8")  # pylint: disable=consider-using-with
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock
