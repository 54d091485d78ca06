# SPDX-License-Identifier: Apache-2.0
"""A temporary Debian in a container on this machine's kernel, with systemd as its first process and every capability.

    with Container(folder) as container:
        container.run("apt-get", "update")
        with container.start("nopspan", "record", "/tmp/spans.rec") as process:
            process.wait_for_line("Recording.")
            process.interrupt()
"""

import functools
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import debian
import waiting

PATIENCE_S = 120
wait_until = functools.partial(waiting.wait_until, patience_s=PATIENCE_S)
ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
               "DEBIAN_FRONTEND=noninteractive"]


class Process:
    """A command in the container. It keeps the output. As a context manager, it kills the command at the end."""

    def __init__(self, entered, command):
        # The shell prints its pid in the container first, because a signal to nsenter does not reach the command.
        self.process = subprocess.Popen([*entered, "sh", "-c", 'echo $$; exec "$@"', "sh", *command], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.entered = entered
        self.lines = queue.Queue()
        self.said = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.pid = int(self.next_line())

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def next_line(self):
        line = self.lines.get(timeout=PATIENCE_S)
        if line is None:
            raise AssertionError("it ended: " + "\n".join(self.said))
        self.said.append(line)
        return line

    def wait_for_line(self, beginning):
        while not self.next_line().startswith(beginning):
            pass

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.next_line()

    def interrupt(self):
        """Sends SIGINT. Returns the exit status and the remaining output."""
        subprocess.run([*self.entered, "sh", "-c", "kill -INT %d" % self.pid], check=True)
        status = self.process.wait(PATIENCE_S)
        self.reader.join()
        said = []
        while (line := self.lines.get()) is not None:
            said.append(line)
        return status, said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            subprocess.run([*self.entered, "sh", "-c", "kill -KILL %d" % self.pid], check=False)
            self.process.wait(PATIENCE_S)
        self.process.stdout.close()


class Container:
    def __init__(self, packages, tree):
        subprocess.run(["rm", "-rf", "--one-file-system", tree], check=True)
        os.makedirs(os.path.dirname(tree), exist_ok=True)
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]  # that of this machine
        subprocess.run(["cp", "-a", debian.bare(suite, packages), tree], check=True)
        shutil.copy("/etc/resolv.conf", os.path.join(tree, "etc", "resolv.conf"))
        self.tree = tree

    def __enter__(self):
        # Independent of the host's own systemd, if there is one. The container dies with this test.
        self.console = open(self.tree + ".console", "w+", encoding="utf-8")
        self.nspawn = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
             "--directory=" + self.tree, "--capability=all", "--machine=nopspan-package", "--resolv-conf=off",
             "--console=pipe", "--system-call-filter=bpf perf_event_open"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT)
        try:
            self.first = wait_until(self._first_process, "the container's first process")
            wait_until(self._is_up, "systemd to be up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _first_process(self):
        if self.nspawn.poll() is not None:
            self.console.seek(0)
            raise AssertionError("systemd-nspawn ended: " + self.console.read())
        with open("/proc/%d/task/%d/children" % (self.nspawn.pid, self.nspawn.pid), encoding="ascii") as file:
            children = file.read().split()
        if not children:
            return None
        with open("/proc/%s/comm" % children[0], encoding="utf-8") as file:
            return int(children[0]) if file.read().strip() == "systemd" else None

    def _is_up(self):
        return self.run("systemctl", "is-system-running", check=False)[1].strip() in ("running", "degraded")

    def _entered(self):
        return ["nsenter", "--target", str(self.first), "--all", "env", "-i", *ENVIRONMENT]

    def run(self, *command, check=True):
        """Returns (exit status, output)."""
        done = subprocess.run([*self._entered(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        assert not check or done.returncode == 0, "%s: status %d: %s" % (command, done.returncode, done.stdout[-4000:])
        return done.returncode, done.stdout

    def output(self, *command):
        """The output of a command that must succeed."""
        return subprocess.run([*self._entered(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              check=True).stdout

    def start(self, *command):
        return Process(self._entered(), command)

    def __exit__(self, *_):
        self.nspawn.kill()  # kills the first process too, and with it every process in its namespace
        self.nspawn.wait()
        self.console.close()
        subprocess.run(["rm", "-rf", "--one-file-system", self.tree, self.tree + ".console"], check=False)
