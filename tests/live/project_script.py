# SPDX-License-Identifier: Apache-2.0
"""Runs one of the project's bpftrace scripts."""

import os
import re

import bpftrace_output
import harness
from harness import SOURCE, Bpftrace

# The numbers of epoll_wait and epoll_pwait on x86-64 and aarch64.
EPOLL_WAIT = ("232", "281", "22")


class Script(Bpftrace):
    """One of the project's scripts, started as a user starts it. A context manager: attached on entry and ended on
    exit."""

    def __init__(self, name, *arguments, canary=None, env=None, library=None):
        """`library`: attach.sh attaches it to this file, and not to the installed one."""
        self.name = name
        self.canary = canary or harness.canary_program("traced")
        path = os.path.join(SOURCE, "scripts", name)
        runner = [os.path.join(SOURCE, "scripts", "attach.sh"), library] if library else [harness.BPFTRACE]
        command = [*runner, path, *map(str, arguments)]
        with open(path, encoding="utf-8") as file:
            if re.search(r"(?m)^tracepoint:", file.read()):
                command = harness.with_tracefs(command)
        super().__init__(command, env=env)

    def wait_until_up(self):
        """bpftrace begins to wait for events when its last probe is attached."""
        self.wait_while_it_runs(self.is_in_epoll_wait, "bpftrace %s to attach" % self.name)

    def is_in_epoll_wait(self):
        try:
            # In a wrapper (for example of a chroot), bpftrace is the last child.
            pid = self.pid
            while True:
                with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
                    children = file.read().split()
                if not children:
                    break
                pid = int(children[0])
            with open("/proc/%d/comm" % pid, encoding="utf-8") as comm, open("/proc/%d/syscall" % pid, encoding="ascii") as call:
                return comm.read().strip().startswith("bpftrace") and call.read().split()[0] in EPOLL_WAIT
        except (FileNotFoundError, ProcessLookupError):
            return False  # bpftrace 0.17 first runs a child that asks clang for its paths, and it ended meanwhile

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
