# SPDX-License-Identifier: Apache-2.0
"""Runs one of the project's bpftrace scripts."""

import os
import re
import signal

import bpftrace_output
import harness
from harness import LIBRARY, SOURCE, Bpftrace

# Warnings of bpftrace that are not about a script.
HARMLESS = ("couldn't set RLIMIT_MEMLOCK", "Error while reading traceable functions")


class Script(Bpftrace):
    """One of the project's scripts. attach.sh attaches it to `library`, or it attaches as it is to the installed library
    (None). A context manager: attached on entry and ended on exit."""

    def __init__(self, name, *arguments, canary=None, env=None, library=LIBRARY):
        self.canary = canary or harness.canary_program("traced")
        path = os.path.join(SOURCE, "scripts", name)
        runner = [os.path.join(SOURCE, "scripts", "attach.sh"), library] if library else [harness.BPFTRACE]
        command = [*runner, path, *map(str, arguments)]
        with open(path, encoding="utf-8") as file:
            if re.search(r"(?m)^tracepoint:", file.read()):
                command = harness.with_tracefs(command)
        super().__init__(command, env=env)

    def wait_until_up(self):
        super().wait_until_up()
        warnings = [line for line in self.said if re.search("WARNING|ERROR", line) and not any(text in line for text in HARMLESS)]
        # Newer versions warn of other things.
        if harness.BPFTRACE == "bpftrace" and warnings:
            raise AssertionError("%s: %s" % (self.command_line, warnings))

    def has(self, pattern):
        return any(re.search(pattern, line) for line in list(self.lines))

    def wait_for(self, action, patterns):
        """Repeats the action until there is a line for each pattern."""
        def seen():
            action()
            return all(self.has(pattern) for pattern in patterns)
        self.wait_while_it_runs(seen, "lines with each of %s, in %s" % (patterns, self.lines[-40:]))

    def maps(self):
        """The maps that it printed: bpftrace_output.maps()."""
        return bpftrace_output.maps(self.lines)


class TraceScript(Script):
    """trace.bt."""

    def __init__(self, *arguments, **options):
        super().__init__("trace.bt", *arguments, **options)

    def stop(self, signal_number=signal.SIGINT):
        """Like Tracer.stop(), because on a signal it prints only what it has already read."""
        for model in harness.canary_of_each_cpu(self.canary):
            self.wait_for(lambda: None, [r"\+ canary %s\b" % model])
        return super().stop(signal_number)

    def rows(self):
        """(pid, request id, depth, mark, rest) of each line, without the canaries."""
        rows, in_canary = [], set()
        for line in self.lines:
            row = re.match(r" *\d+ +(\d+) (\S+) +((?:\|  )*)([+.-]) (.*)$", line)
            if not row:
                continue
            pid, name = int(row[1]), row[5].split()[0]
            if (row[4], name) == ("+", "canary"):
                in_canary.add(pid)
            if pid not in in_canary:
                rows.append((pid, row[2], len(row[3]) // 3, row[4], row[5].rstrip()))
            if (row[4], name) == ("-", "canary"):
                in_canary.discard(pid)
        return rows
