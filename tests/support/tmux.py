# SPDX-License-Identifier: Apache-2.0
"""A terminal for a program to draw on, by tmux: keys are typed, the screen is read back."""

import os
import shlex
import subprocess
import tempfile

from waiting import PATIENCE_S, wait_until


class Terminal:
    """A context manager. It has a tmux server of its own, which nobody else's is touched by."""

    def __init__(self, command, width=160, height=40, env=None):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.folder.name, "tmux")
        self.status = os.path.join(self.folder.name, "status")
        self.width, self.height = width, height
        settings = " ".join("%s=%s" % (name, shlex.quote(value)) for name, value in (env or {}).items())
        # A shell with jobs that lives on, as a user's does: what the program leaves behind on the terminal is seen, and
        # a stopped one is continued by Enter.
        self.line = ("set -m; env %s %s; code=$?; "
                     "while [ $code = 148 ]; do echo it is stopped; read line; fg; code=$?; done; "
                     "echo $code > %s; stty -a > %s.stty; echo; echo it has ended; exec cat") % (
                         settings, " ".join(map(shlex.quote, command)), self.status, self.status)

    def tmux(self, *arguments, check=True):
        environment = {name: value for name, value in os.environ.items() if name not in ("TMUX", "TMUX_PANE")}
        environment["LC_ALL"] = "C.UTF-8"
        done = subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", *arguments], env=environment, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE_S)
        if check and done.returncode != 0:
            raise AssertionError("tmux %s: %s" % (arguments, done.stderr.decode(errors="replace")))
        return done.stdout.decode("utf-8", "replace")

    def __enter__(self):
        self.tmux("new-session", "-d", "-x", str(self.width), "-y", str(self.height), "sh", "-c", self.line,
                  ";", "set-option", "status", "off", ";", "set-option", "escape-time", "0")
        return self

    def __exit__(self, *_):
        self.tmux("kill-server", check=False)
        self.folder.cleanup()

    def type(self, *keys):
        """Names of keys as tmux has them (Enter, Up, NPage), or single characters."""
        self.tmux("send-keys", *keys)

    def write(self, text):
        self.tmux("send-keys", "-l", text)

    def resize(self, width, height):
        self.width, self.height = width, height
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, *options):
        """Its lines, without the blanks at their ends."""
        return [line.rstrip() for line in self.tmux("capture-pane", "-p", *options).split("\n")[:self.height]]

    def pid(self):
        return int(self.tmux("display-message", "-p", "#{pane_pid}"))

    def wait_for(self, condition, what):
        """Until condition(lines) is true; returns its value."""
        return wait_until(lambda: condition(self.screen()), what, seen=lambda: "\n".join(self.screen()))

    def wait_for_text(self, text):
        return self.wait_for(lambda lines: any(text in line for line in lines), repr(text))

    def wait_without_text(self, text):
        return self.wait_for(lambda lines: all(text not in line for line in lines), "no " + repr(text))

    def wait_for_end(self):
        """Until the program has ended; returns its exit status."""
        self.wait_for_text("it has ended")
        with open(self.status, encoding="ascii") as status:
            return int(status.read())

    def settings(self):
        """What stty says of the terminal after the program's end."""
        with open(self.status + ".stty", encoding="ascii") as settings:
            return settings.read()
