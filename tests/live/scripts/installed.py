# SPDX-License-Identifier: Apache-2.0
"""For tests of the project's scripts as users run them: the library is in /usr/local, and the programs load it from
there."""

import os
import sys

import harness
from harness import BUILD, SOURCE

WITH_INSTALLED = os.path.join(SOURCE, ".ci", "with-installed.sh")


def main(*commands):
    """Like harness.main(), but with the library installed while the tests run. with-installed.sh runs the file
    again."""
    harness.need(*commands)
    if os.environ.get("NOPSPAN_LIVE_INSTALLED") != "1":
        os.environ["NOPSPAN_LIVE_INSTALLED"] = "1"
        # Searched before the programs' own RUNPATH, which leads to the build tree.
        os.environ["LD_LIBRARY_PATH"] = "/usr/local/lib"
        os.execv(WITH_INSTALLED, [WITH_INSTALLED, BUILD, "--", sys.executable, *sys.argv])
    harness.main(*commands, own_processes=False)
