# SPDX-License-Identifier: Apache-2.0
"""Hostile processes, and a command whose output nobody reads. Several tests use them. Each is a context manager that
ends its processes and mounts in every case."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from harness import NOPSPAN, PATIENCE_S, Program

NOBODY = 65534
SOON_S = 20  # 1 s is promised, but other programs take the processors; a program that hangs would never end


def abort(connection):
    """Ends all requests of a FUSE connection, so that nothing waits for them any more."""
    with tempfile.TemporaryDirectory(prefix="nopspan-live-") as folder:
        subprocess.run(["mount", "-t", "fusectl", "none", folder], check=True)
        try:
            with open(os.path.join(folder, connection, "abort"), "w", encoding="utf-8") as file:
                file.write("1")
        except FileNotFoundError:
            pass  # it ended with the program
        finally:
            subprocess.run(["umount", folder], check=True)


class Unanswered(Program):
    """programs/unanswered. Its mount ends with it, in every case."""

    def __init__(self, what, *options):
        self.folder = tempfile.mkdtemp(prefix="nopspan-live-")
        os.chmod(self.folder, 0o755)
        try:
            self.before_the_mount()
            super().__init__("unanswered", self.folder, *options)
            self.ask(what)
        except BaseException:
            self._unmount()
            raise

    def before_the_mount(self):
        pass

    def __exit__(self, failed, *rest):
        try:
            abort(self.ready[2])
            super().__exit__(failed, *rest)
        finally:
            self._unmount()

    def _unmount(self):
        subprocess.run(["umount", "--lazy", "--quiet", self.folder], check=False)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def as_user(user, *command):
    """Runs a command as this user. The word FOLDER in it stands for a folder that the user owns. Files in the command are
    copied, because the user may not be permitted to enter the folder of this build. Another process copies them, for the
    reason that replace_file() gives."""
    folder = tempfile.mkdtemp(prefix="nopspan-live-")
    try:
        os.chmod(folder, 0o755)
        work = os.path.join(folder, "work")
        os.mkdir(work)
        os.chown(work, user, user)
        files = [word for word in command if os.path.isfile(word)]
        subprocess.run(["cp", *files, folder], check=True)
        words = [os.path.join(folder, os.path.basename(word)) if word in files else word.replace("FOLDER", work)
                 for word in command]
        with subprocess.Popen(words, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, user=user, group=user, extra_groups=[]) as process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Unread:
    """A command whose stdout nobody reads until read(). A context manager."""

    def __init__(self, *words, stderr=None):
        self.reader, self.writer = os.pipe()
        self.process = subprocess.Popen([NOPSPAN, *map(str, words)], stdout=self.writer,
                                        stderr=self.writer if stderr == subprocess.STDOUT else subprocess.PIPE)
        self.data = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.reader)
        if self.writer is not None:
            os.close(self.writer)
        if self.process.stderr:
            self.process.stderr.close()

    def wait_until_it_says(self, text):
        while text not in self.process.stderr.readline():
            if self.process.poll() is not None:
                raise AssertionError("it has ended")

    def is_full(self):
        return not select.select([], [self.writer], [], 0)[1]

    def read(self):
        """Reads the rest on a thread."""
        def work():
            while some := os.read(self.reader, 1 << 16):
                self.data += some
        os.close(self.writer)
        self.writer = None
        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def end(self, test, signal_number=signal.SIGINT):
        """Returns the exit status and what it said."""
        began = time.monotonic()
        if signal_number:
            self.process.send_signal(signal_number)
        status = self.process.wait(PATIENCE_S)
        test.assertLess(time.monotonic() - began, SOON_S)
        return status, self.process.stderr.read().decode() if self.process.stderr else ""
