#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All C++ is formatted by clang-format 14. `format_test.py --fix` or the build's target `format` does it."""
import re
import subprocess
import sys

import surroundings

VERSION = "14"


def main():
    surroundings.need("clang-format")
    said = subprocess.run(["clang-format", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    version = re.search(r"version (\d+)", said)[1]
    if version != VERSION:
        surroundings.unable(f"clang-format is {version}: another version formats otherwise than {VERSION}")
    sources = [str(path) for path in surroundings.files(".h", ".cpp")]
    how = ["-i"] if sys.argv[1:] == ["--fix"] else ["--dry-run", "-Werror", "--ferror-limit=1"]
    done = subprocess.run(["clang-format", *how, *sources], cwd=surroundings.SOURCE, check=False)
    if done.returncode != 0:
        sys.exit("\nnot formatted; to do so: cmake --build BUILD_FOLDER --target format")


main()
