# SPDX-License-Identifier: Apache-2.0
"""A terminal for a program, provided by tmux: tests type keys and read the screen."""

import os
import shlex
import subprocess
import tempfile

from waiting import PATIENCE_S, wait_until


class Terminal:
    """A context manager. It runs a tmux server of its own, so that no other server is affected."""

    def __init__(self, command, width=160, height=40, env=None):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.folder.name, "tmux")
        self.status = os.path.join(self.folder.name, "status")
        self.width, self.height = width, height
        settings = " ".join("%s=%s" % (name, shlex.quote(value)) for name, value in (env or {}).items())
        # The program runs in a shell with job control, as a user's does. The shell lives on, so that tests see what the
        # program leaves on the terminal. Enter continues a stopped program.
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
        """Types keys by tmux's names (Enter, Up, NPage), or single characters."""
        self.tmux("send-keys", *keys)

    def write(self, text):
        self.tmux("send-keys", "-l", text)

    def resize(self, width, height):
        self.width, self.height = width, height
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, *options):
        """The lines of the screen, without trailing blanks."""
        return [line.rstrip() for line in self.tmux("capture-pane", "-p", *options).split("\n")[:self.height]]

    def pid(self):
        return int(self.tmux("display-message", "-p", "#{pane_pid}"))

    def wait_for(self, condition, what):
        """Waits until condition(lines) is true. Returns its value."""
        return wait_until(lambda: condition(self.screen()), what, seen=lambda: "\n".join(self.screen()))

    def wait_for_text(self, text):
        return self.wait_for(lambda lines: any(text in line for line in lines), repr(text))

    def wait_without_text(self, text):
        return self.wait_for(lambda lines: all(text not in line for line in lines), "no " + repr(text))

    def wait_for_end(self):
        """Waits until the program has ended. Returns its exit status."""
        self.wait_for_text("it has ended")
        with open(self.status, encoding="ascii") as status:
            return int(status.read())

    def settings(self):
        """The output of stty after the program has ended."""
        with open(self.status + ".stty", encoding="ascii") as settings:
            return settings.read()
