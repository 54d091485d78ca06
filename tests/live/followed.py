# SPDX-License-Identifier: Apache-2.0
"""A process that is followed: what it prints and says is there for a test while it runs."""

import os
import re
import shlex
import signal
import subprocess
import threading

from waiting import PATIENCE_S, wait_until


class Followed:
    """A command from its start to SIGINT. `lines` of its stdout and `said` on its stderr grow while it runs. A context
    manager: up when entered, ended when left."""

    # What is done about output that is not UTF-8.
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

    def __enter__(self):
        try:
            self.wait_until_up()
        except BaseException:
            # Its output may be held open by a child that lives on.
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *_):
        if self.is_running():
            self.stop()

    def wait_until_up(self):
        """For those that have a way to tell that they are attached."""

    def is_running(self):
        return self.process.poll() is None

    def wait_while_it_runs(self, condition, what):
        """wait_until() that fails when the process ends."""
        def checked():
            if not self.is_running():
                raise AssertionError("%s ended: %s" % (self.command_line, "\n".join(self.said + self.lines[-20:])))
            return condition()
        return wait_until(checked, what)

    def wait_for_line(self, condition, what):
        self.wait_while_it_runs(lambda: any(condition(line) for line in list(self.lines)), what)

    def wait_until_it_says(self, pattern):
        self.wait_while_it_runs(lambda: any(re.search(pattern, line) for line in list(self.said)),
                                "%s to say %s" % (self.command_line, pattern))

    def stop(self, signal_number=signal.SIGINT):
        """Ends it by a signal, as a user does; returns its exit status."""
        self.process.send_signal(signal_number)
        return self.end()

    def kill(self):
        """As SIGKILL does it; what it had printed is there."""
        self.process.kill()
        self.end()

    def end(self):
        """Waits for its end; returns its exit status."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join()
        for stream in filter(None, (self.process.stdin, self.process.stdout, self.process.stderr)):
            stream.close()
        return code
