# SPDX-License-Identifier: Apache-2.0
"""A process whose output a test reads while it runs."""

import os
import re
import shlex
import signal
import subprocess
import threading

from waiting import PATIENCE_S, wait_until


def children_of(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


class Followed:
    """Runs a command until SIGINT. `lines` (stdout) and `said` (stderr) grow while it runs. A context manager: the
    command is running (and attached) on entry and has ended on exit."""

    # how to decode output that is not UTF-8
    decoding_errors = "strict"

    def __init__(self, command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=None):
        self.command_line = shlex.join(command)
        self.process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
                                        env={**os.environ, **(env or {})})
        self.pid = self.process.pid
        self.lines = []
        self.said = []
        pairs = ((self.process.stdout, self.lines), (self.process.stderr, self.said))
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in pairs if pair[0]]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines):
        for line in stream:
            lines.append(line.decode("utf-8", self.decoding_errors).rstrip("\n"))

    def tracer(self):
        """The pid of the process that traces, or None."""
        return next(iter(children_of(self.pid)), None)

    def __enter__(self):
        try:
            self.wait_until_up()
        except BaseException:
            # A child that lives on may hold its output open.
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *_):
        if self.is_running():
            self.stop()

    def wait_until_up(self):
        """Waits until it is attached. Subclasses that can detect this override it."""

    def is_running(self):
        return self.process.poll() is None

    def wait_while_it_runs(self, condition, what):
        """Like wait_until(), but fails when the process ends."""
        def output():
            return "\n".join(line[:500] for line in self.said + self.lines[-20:])

        def checked():
            if not self.is_running():
                raise AssertionError("%s ended: %s" % (self.command_line, output()))
            return condition()
        return wait_until(checked, what, seen=output)

    def wait_for_line(self, condition, what):
        self.wait_while_it_runs(lambda: any(condition(line) for line in list(self.lines)), what)

    def wait_until_it_says(self, pattern):
        self.wait_while_it_runs(lambda: any(re.search(pattern, line) for line in list(self.said)),
                                "%s to say %s" % (self.command_line, pattern))

    def stop(self, signal_number=signal.SIGINT):
        """Ends the process by a signal, as a user does. Returns its exit status."""
        self.process.send_signal(signal_number)
        return self.end()

    def kill(self):
        """Ends the process by SIGKILL. The output until then is kept."""
        self.process.kill()
        self.end()

    def end(self):
        """Waits until the process ends. Returns its exit status."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join()
        for stream in filter(None, (self.process.stdin, self.process.stdout, self.process.stderr)):
            stream.close()
        return code
