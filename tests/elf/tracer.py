# SPDX-License-Identifier: Apache-2.0
"""A real bpftrace on many files at the same time, and its output."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter

# One clause per probe, with one attach point per file. arg0 (the request id) identifies the run, so process ids and
# their namespaces do not matter. The record's first word is its size.
SCRIPT = """
struct record {{ unsigned int size; }};
{clauses}
"""
# Warnings of bpftrace 0.17 on kernels that do not need what it tries to set up. It attaches and detaches nevertheless.
HARMLESS = ("RLIMIT_MEMLOCK", "tracing/uprobe_events", "failed to detach probe: usdt:")
FORMATS = {
    "span_start": ("%s %s %s %d %d", "str(arg0), str(arg1), str(arg3), arg2 > 0, arg4 != 0"),
    "span_stop": ("%s %s %s %d %d", "str(arg0), str(arg1), str(arg3), arg2 < 60000000000, arg4"),
    "span_exception": ("%s %s %s %d %s", "str(arg0), str(arg1), str(arg3), arg2 < 60000000000, str(arg4)"),
    "event": ("%s %s %s %d %d", "str(arg0), str(arg1), str(arg3), arg2 > 0, arg4 != 0"),
    "retry": ("%s %s %s %d %d", "str(arg0), str(arg1), str(arg3), arg2, arg4"),
}


def clause(probe, files):
    points = ",\n".join(f'usdt:"{file}":nopspan:{probe}' for file in files)
    form, values = FORMATS[probe]
    return (f'{points}\n{{ printf("{probe} {form} %d\\n", {values}, ((struct record *)arg5)->size); }}\n')


class Tracer:
    """`lines` of a request are the lines that bpftrace printed for it, without the id."""

    def __init__(self, files, probes=tuple(FORMATS)):
        self._script = tempfile.NamedTemporaryFile("w", suffix=".bt")
        self._script.write(SCRIPT.format(clauses="".join(clause(probe, files) for probe in probes)))
        self._script.flush()
        environment = dict(os.environ, BPFTRACE_MAX_PROBES=str(max(512, len(files) * len(probes) + 8)))
        self._process = subprocess.Popen(["bpftrace", self._script.name], stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True, env=environment)
        self._seen = {}
        self.complaints = []
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self):
        for line in self._process.stdout:
            words = line.rstrip("\n").split(" ", 2)
            if words[0] in FORMATS and len(words) == 3:
                self._seen.setdefault(words[1], []).append(f"{words[0]} {words[2]}")
            elif "Lost" in line:
                self.complaints.append(line.strip())

    def _listen(self):
        for line in self._process.stderr:
            if not any(part in line for part in HARMLESS):
                self.complaints.append(line.strip())

    def alive(self):
        return self._process.poll() is None

    def lines(self, request):
        return Counter(self._seen.get(request, []))

    def wait(self, condition, timeout=60):
        """Returns whether the condition became true before the deadline."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline or not self.alive():
                return condition()
            time.sleep(0.02)
        return True

    def stop(self):
        """Detaches, and reads the remaining output."""
        # More than once, because bpftrace 0.17 does not notice a signal that arrives just before it waits for events.
        while self.alive():
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
        for thread in self._threads:
            thread.join()
        self._process.stdout.close()
        self._process.stderr.close()
        self._script.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
