# SPDX-License-Identifier: Apache-2.0
"""Where the tests run: what ctest tells them (CMakeLists.txt), and how they say that they cannot."""

import os
import platform
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

SOURCE = Path(os.environ["NOPSPAN_SOURCE"])
BUILD = Path(os.environ["NOPSPAN_ELF_BUILD"])
LIBRARY = Path(os.environ["NOPSPAN_LIBRARY"])  # libnopspan.so of the build that is tested
CMAKE = os.environ["NOPSPAN_CMAKE"]
X86_64 = platform.machine() in ("x86_64", "AMD64")
LONG = os.environ.get("NOPSPAN_LONG") == "1"


def unable(reason):
    """Ends the test as skipped; in CI, where everything is there, as failed."""
    if os.environ.get("CI") == "true":
        sys.exit(f"failed, because in CI this is never skipped: {reason}")
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(77)


def need_bpftrace():
    if os.geteuid() != 0:
        unable("not root: bpftrace needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN")
    if shutil.which("bpftrace") is None:
        unable("no bpftrace (Debian: apt-get install bpftrace)")
    tried = subprocess.run(["bpftrace", "-e", "BEGIN { exit(); }"], capture_output=True, text=True)
    if tried.returncode != 0:
        unable("bpftrace cannot load a program here: " + tried.stderr.strip())


def main():
    unittest.main(verbosity=2)
