# SPDX-License-Identifier: Apache-2.0
"""The settings that ctest passes to these tests (see CMakeLists.txt), and how a test reports that it cannot run."""

import os
import platform
import sys
import unittest
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from ability import need_bpftrace, unable

SOURCE = Path(os.environ["NOPSPAN_SOURCE"])
BUILD = Path(os.environ["NOPSPAN_ELF_BUILD"])
LIBRARY = Path(os.environ["NOPSPAN_LIBRARY"])  # libnopspan.so of the build under test
CMAKE = os.environ["NOPSPAN_CMAKE"]
X86_64 = platform.machine() in ("x86_64", "AMD64")
LONG = os.environ.get("NOPSPAN_LONG") == "1"


def main():
    unittest.main(verbosity=2)
