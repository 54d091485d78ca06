#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the project of one kind of consumer, runs its program, and checks the probes in the file that a tracer attaches
to: build_test.py KIND (see kinds.py)."""
import os
import re
import subprocess
import sys

from kinds import KINDS, link
from surroundings import HAVE_PROBES, LIBDIR, SOURCE, expect, run

from elf_file import ElfFile
from probe_abi import Abi

HANDLED = """\
consumer.closure.stop status 0 value 6 config given
consumer.async.stop status 1 value -1 config given
consumer.scope.stop status 0 value -1 config given
"""


def main(kind):
    consumer = KINDS[kind]()
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

    if HAVE_PROBES:
        defects = Abi(os.path.join(SOURCE, "probes", "README.md")).defects(ElfFile(consumer.traced))
        expect(not defects, f"probes in {consumer.traced}: {defects}")
    else:
        expect("Provider: nopspan" not in run(["readelf", "-n", consumer.traced]), f"probes in {consumer.traced}")


main(sys.argv[1])
