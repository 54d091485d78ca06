# SPDX-License-Identifier: Apache-2.0
"""Runs a real bpftrace on the span probes of one file."""
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time

# A generous limit for a loaded machine. Tests wait for a condition, never for this time.
DEADLINE_S = 60

SCRIPT = """
usdt:"{path}":nopspan:span_start {{ printf("start %s %s %s\\n", str(arg1), str(arg0), str(arg3)); }}
usdt:"{path}":nopspan:span_stop {{ printf("stop %s %s %s %d\\n", str(arg1), str(arg0), str(arg3), arg4); }}
"""


class Tracer:
    """Reads lines as (event, name, request id, model[, status])."""

    def __init__(self, path, canary):
        """Returns when both probes are attached. Calls `canary`, which runs a program with one span, until its events
        arrive."""
        self._process = subprocess.Popen(["bpftrace", "-B", "line", "-e", SCRIPT.format(path=path)], stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True)
        self._lines = queue.Queue()
        self._complaints = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._listen)]
        for reader in self._readers:
            reader.start()
        self._canary = canary
        self._canaries(DEADLINE_S)

    def _read(self):
        for line in self._process.stdout:
            words = line.rstrip("\n").split(" ")
            if words[0] in ("start", "stop") and words[1].startswith("consumer."):
                self._lines.put(tuple(words))
        self._lines.put(None)

    def _listen(self):
        self._complaints.extend(self._process.stderr)

    def _canaries(self, seconds):
        """Runs canaries until both probes report one of them. Returns the other programs' lines before it."""
        seen, others = set(), []
        deadline = time.monotonic() + seconds
        while seen != {"start", "stop"}:
            self._canary()
            if time.monotonic() > deadline:
                self.stop()
                sys.exit("no event of a canary in %d s\n%s" % (seconds, "".join(self._complaints)))
            while True:
                try:
                    line = self._lines.get_nowait()
                except queue.Empty:
                    break
                if line is None:
                    self.stop()
                    sys.exit("bpftrace ended\n" + "".join(self._complaints))
                if line[1] == "consumer.canary":
                    seen.add(line[0])
                else:
                    others.append(line)
        return others

    def lines_of(self, work, count):
        """Runs `work` and returns the lines that it caused. Waits until there are `count` lines, and until a later
        canary proves that no more will arrive."""
        work()
        lines = []
        deadline = time.monotonic() + DEADLINE_S
        while len(lines) < count and time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=deadline - time.monotonic())
            except queue.Empty:
                break
            if line is None:
                break
            if line[1] != "consumer.canary":
                lines.append(line)
        return lines + self._canaries(DEADLINE_S)

    def stop(self):
        # More than once, because bpftrace 0.17 does not notice a signal that arrives just before it waits for events.
        while self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
        for reader in self._readers:
            reader.join()
