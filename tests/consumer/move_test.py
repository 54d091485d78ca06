#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Moves the installed tree. The other tests use it in a place where it was never installed."""
import os
import shutil

from surroundings import INSTALLED, LIBDIR, expect, version

shutil.rmtree(INSTALLED, ignore_errors=True)
shutil.copytree(os.environ["NOPSPAN_STAGE"], INSTALLED, symlinks=True)
expect(os.path.exists(os.path.join(LIBDIR, f"libnopspan.so.{'.'.join(version())}")), "there is no library in the tree")
