# SPDX-License-Identifier: Apache-2.0
"""A program with open spans, for tests that read them."""

import subprocess

import harness


class Opened:
    """The program `opened`, which waits. `expected` are the lines that it printed before "ready"."""

    def __init__(self, *arguments, prefix=()):
        self.process = subprocess.Popen([*prefix, harness.program_path("opened"), *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.expected = []
        for line in self.process.stdout:
            if line == "ready\n":
                break
            self.expected.append(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=60)
