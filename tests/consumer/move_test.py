#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Moves the installed tree. The other tests use it in a place where it was never installed."""
import os
import shutil

from surroundings import INSTALLED, LIBDIR, abi, expect

shutil.rmtree(INSTALLED, ignore_errors=True)
shutil.copytree(os.environ["NOPSPAN_STAGE"], INSTALLED, symlinks=True)
expect(os.path.exists(os.path.join(LIBDIR, f"libnopspan.so.{abi()}")), "there is no library in the tree")
