#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds examples/hello.cpp against the installed tree with its own project, and runs it."""
import os

from surroundings import CMAKE, CXX, CXX_FLAGS, INSTALLED, SOURCE, WARNINGS, expect, fresh, run


def main():
    folder = fresh("hello")
    run([CMAKE, "-S", os.path.join(SOURCE, "examples"), "-B", folder, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={CXX}",
         f"-DCMAKE_PREFIX_PATH={INSTALLED}", f"-DCMAKE_CXX_FLAGS={CXX_FLAGS} {WARNINGS}"])
    run([CMAKE, "--build", folder, "--target", "hello"])
    expect(run([os.path.join(folder, "hello"), "1"]) == "hello, nobody is tracing\n", "it prints something else")


main()
