#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the project of one kind of consumer and runs its program: build_test.py KIND (see kinds.py)."""
import os
import re
import subprocess
import sys

from kinds import KINDS, link
from surroundings import HAVE_PROBES, LIBDIR, expect, run

HANDLED = """\
consumer.closure.stop status 0 value 6 config given
consumer.async.stop status 1 value -1 config given
consumer.scope.stop status 0 value -1 config given
"""


def main(kind):
    consumer = KINDS[kind](build=True)
    output = run([consumer.program, "handled"], env=consumer.environment)
    expect(output == HANDLED, f"the handler's output is\n{output}")

    maps = subprocess.run(["ldd", consumer.program], env=consumer.environment, stdout=subprocess.PIPE, text=True, check=True)
    loaded = re.search(r"libnopspan\.so\.\S+ => (\S+)", maps.stdout)
    if consumer.traced == consumer.program:
        expect(loaded is None, f"a static consumer loads {loaded and loaded[1]}")
    else:
        expect(loaded and os.path.samefile(loaded[1], consumer.traced), f"it loads {loaded and loaded[1]}")
        installed = consumer.traced.startswith(LIBDIR + os.sep)
        expect(installed == (kind != "subdirectory"), f"traced by {consumer.traced}")

    if kind == "pkg_config_shared":
        for form, tag in (("-D_GLIBCXX_USE_CXX11_ABI=0", "old_strings"), ("-D_GLIBCXX_DEBUG", "debug_containers")):
            other = subprocess.run(link("nopspan", os.devnull, form), stderr=subprocess.PIPE, text=True, check=False)
            expect(other.returncode != 0 and f"[abi:{tag}]" in other.stderr, f"with {form}: {other.stderr}")

    notes = run(["readelf", "-n", consumer.traced])
    expect(("Provider: nopspan" in notes) == HAVE_PROBES, f"probes in {consumer.traced}")


main(sys.argv[1])
