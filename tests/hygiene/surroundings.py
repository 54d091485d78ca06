# SPDX-License-Identifier: Apache-2.0
"""The settings that ctest passes to the tests of this folder, and the source tree that they check."""
import concurrent.futures
import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from ability import need, unable

SOURCE = Path(os.environ.get("NOPSPAN_SOURCE", Path(__file__).resolve().parents[2]))
COMPILERS = ("g++", "clang++")
# Published definitions.
PUBLISHED = (("tests", "support", "otlp"),)


def git(*arguments):
    """The output of git, or "" if the tree is not a clone."""
    if not (SOURCE / ".git").exists():
        return ""
    # The tree may belong to another user.
    return subprocess.run(["git", "-c", "safe.directory=*", "-C", SOURCE, *arguments], stdout=subprocess.PIPE, text=True,
                          check=True).stdout


def tree():
    """The project's files, relative to SOURCE: those in git, and those that `git add` would add."""
    listed = git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    if not listed:
        listed = [path.relative_to(SOURCE) for path in SOURCE.rglob("*")]
    return sorted(path for path in map(Path, listed) if (SOURCE / path).is_file() and path.parts[0] not in ("build", ".git"))


def files(*suffixes):
    return [path for path in tree() if path.suffix in suffixes]


def read(path):
    return (SOURCE / path).read_text(encoding="utf-8")


def compile_all(jobs):
    """Runs compilers for each (name, command, input) in parallel. Returns the names and errors of those that failed."""
    def run(job):
        name, command, text = job
        done = subprocess.run(command, input=text, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        return None if done.returncode == 0 else f"{name}\n{done.stderr}"

    # The CPUs that this process may use. The machine may have more.
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [failure for failure in pool.map(run, jobs) if failure]


def main():
    unittest.main(verbosity=2)


def texts():
    """[(path, text)] of the tree."""
    for path in tree():
        try:
            yield path, read(path)
        except UnicodeDecodeError:
            continue
