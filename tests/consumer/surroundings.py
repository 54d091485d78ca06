# SPDX-License-Identifier: Apache-2.0
"""The settings that ctest passes to the tests of this folder, and functions to run commands."""
import os
import re
import shlex
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(HERE, "..", folder) for folder in ("support", "elf")]

SOURCE = os.environ["NOPSPAN_SOURCE"]
BUILD = os.environ["NOPSPAN_BUILD"]  # the build of nopspan under test
WORK = os.environ["NOPSPAN_CONSUMER_WORK"]  # the folder in which the tests build
INSTALLED = os.path.join(WORK, "installed")  # made by move_test.py
LIBDIR = os.path.join(INSTALLED, os.environ["NOPSPAN_LIBDIR"])
CMAKE = os.environ["NOPSPAN_CMAKE"]
CXX = os.environ["NOPSPAN_CXX"]
CC = os.environ["NOPSPAN_CC"]
CXX_FLAGS = os.environ.get("NOPSPAN_CXX_FLAGS", "")  # flags of the sanitizers, if the library was built with them
USDT = os.environ["NOPSPAN_USDT"]
HAVE_PROBES = os.environ["NOPSPAN_HAVE_PROBES"] == "1"
WARNINGS = "-Wall -Wextra -Wpedantic -Werror"


def run(command, **options):
    """Runs a command. If it fails, ends the test with the command's output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"exit status {done.returncode} of {shlex.join(command)}\n{done.stdout}")
    return done.stdout


def fresh(*names):
    """Creates an empty folder for this test."""
    folder = os.path.join(WORK, *names)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def expect(condition, what):
    if not condition:
        sys.exit(f"failed: {what}")


def version():
    """The version in version.h: (major, minor, patch)."""
    with open(os.path.join(SOURCE, "include/nopspan/version.h"), encoding="utf-8") as file:
        text = file.read()
    return tuple(re.search(rf"#define NOPSPAN_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))


def abi():
    """The number in the SONAME (docs/compatibility.md): MAJOR.MINOR before 1.0, then MAJOR."""
    major, minor, _ = version()
    return f"0.{minor}" if major == "0" else major
