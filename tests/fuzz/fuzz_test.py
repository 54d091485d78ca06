#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a libFuzzer program for 15 s, or for ten minutes with NOPSPAN_LONG=1: fuzz_test.py PROGRAM SEEDS

Inputs that reach new code are saved in PROGRAM.corpus, where the next run continues. A failing input is kept in
PROGRAM.failures until the next run. It is also printed as hex, with the command that repeats it.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

SECONDS = 600 if os.environ.get("NOPSPAN_LONG") == "1" else 15
MAX_BYTES = 2048  # enough for some headers, or hundreds of fields
# A run with fewer inputs than this has tested nothing. Thousands per second are usual.
FEWEST_RUNS = 10 * SECONDS  # of the slowest target, on a busy machine


def report(program, artifact):
    print(f"failing input, {artifact.stat().st_size} bytes as hex: {artifact.read_bytes().hex()}\n"
          f"again: {program} {artifact}\n"
          f"elsewhere: echo HEX | xxd -r -p > input; {program.name} input", flush=True)


def main():
    program, seeds = Path(sys.argv[1]), Path(sys.argv[2])
    corpus = program.with_suffix(".corpus")
    corpus.mkdir(exist_ok=True)
    artifacts = program.with_suffix(".failures")
    artifacts.mkdir(exist_ok=True)
    for old in artifacts.iterdir():
        old.unlink()
    # Low priority, because other tests wait for conditions and this one runs for a fixed time.
    done = subprocess.run(
        ["nice", "-n", "19", program, f"-max_total_time={SECONDS}", f"-max_len={MAX_BYTES}", "-rss_limit_mb=1024", "-timeout=20",
         f"-artifact_prefix={artifacts}/", corpus, seeds],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False,
        env={**os.environ, "ASAN_OPTIONS": "malloc_context_size=2"})  # several times as fast as with complete stacks
    if done.returncode != 0:
        print(done.stdout[-8000:])
        for artifact in artifacts.iterdir():
            report(program, artifact)
        sys.exit(f"failed: {program.name} exited with {done.returncode}")
    runs = int(re.search(r"^Done (\d+) runs", done.stdout, re.M)[1])
    if runs < FEWEST_RUNS:
        sys.exit(f"failed: {runs} runs in {SECONDS} s\n{done.stdout[-8000:]}")
    print(f"{program.name}: {runs} runs in {SECONDS} s, {runs // SECONDS}/s")


main()
