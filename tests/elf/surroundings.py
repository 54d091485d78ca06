# SPDX-License-Identifier: Apache-2.0
"""The settings that ctest passes to these tests (see CMakeLists.txt), and how a test reports that it cannot run."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from ability import need_bpftrace, unable

from elf_file import ElfFile
from probe_abi import Abi

SOURCE = Path(os.environ["NOPSPAN_SOURCE"])
BUILD = Path(os.environ["NOPSPAN_ELF_BUILD"])
LIBRARY = Path(os.environ["NOPSPAN_LIBRARY"])  # libnopspan.so of the build under test
CMAKE = os.environ["NOPSPAN_CMAKE"]
X86_64 = platform.machine() in ("x86_64", "AMD64")
LONG = os.environ.get("NOPSPAN_LONG") == "1"


class AbiTest(unittest.TestCase):
    abi = Abi(SOURCE / "probes" / "README.md")

    def assembled(self, *command):
        """Links sites.S alone into a shared library, which gives its symbols addresses."""
        if shutil.which(command[0]) is None:
            self.skipTest(f"{command[0]} is not installed")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "probes.so"
        done = subprocess.run([*command, "-shared", "-nostdlib", SOURCE / "probes" / "sites.S", "-o", path],
                              capture_output=True, text=True)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return ElfFile(path)

    @staticmethod
    def site(elf, probe):
        """The bytes of a site."""
        symbol = elf.symbols()[f"nopspan_site_{probe}"]
        return elf.read(symbol.value, symbol.size).hex(" ")


def main():
    unittest.main(verbosity=2)
