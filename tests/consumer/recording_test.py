#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that record themselves, built against the installed nopspan::recording: by find_package() and pkg-config,
shared and static. What they write is a recording, and they load no other library."""
import os
import re
import subprocess

from kinds import pkg_config
from surroundings import CMAKE, CXX, CXX_FLAGS, HERE, INSTALLED, LIBDIR, WARNINGS, expect, fresh, run

PROGRAM = os.path.join(HERE, "recording.cpp")
EXPECTED = {"linux-vdso", "libnopspan-recording", "libnopspan", "libstdc++", "libgcc_s", "libc", "libm", "ld-linux-x86-64",
            "ld-linux-aarch64"}


def check(program, recorded, environment=None):
    environment = {**os.environ, **(environment or {})}
    run([program, recorded], env=environment)
    with open(recorded, "rb") as file:
        data = file.read()
    expect(data.startswith(b"NOPSPAN\0") and b"consumer.recorded" in data, f"{program} wrote {data[:64]}")
    loaded = subprocess.run(["ldd", program], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    names = {re.sub(r"\.so.*", "", os.path.basename(line.split()[0])) for line in loaded.splitlines()}
    if not re.search(r"-fsanitize", CXX_FLAGS):
        expect(names <= EXPECTED, f"{program} loads {names - EXPECTED}")
    return names


def main():
    folder = fresh("recording")
    build = os.path.join(folder, "build")
    run([CMAKE, "-S", os.path.join(HERE, "projects", "recording"), "-B", build, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={CXX}",
         f"-DNOPSPAN_CONSUMER_PROGRAM={PROGRAM}", f"-DCMAKE_PREFIX_PATH={INSTALLED}",
         f"-DCMAKE_CXX_FLAGS={CXX_FLAGS} {WARNINGS}"])
    run([CMAKE, "--build", build])
    expect("libnopspan-recording" in check(os.path.join(build, "shared"), os.path.join(folder, "shared.rec")), "not shared")
    expect("libnopspan" not in check(os.path.join(build, "static"), os.path.join(folder, "static.rec")), "not static")
    for package in ("nopspan-recording", "nopspan-recording-static"):
        program = os.path.join(folder, package)
        run([CXX, "-std=c++17", *CXX_FLAGS.split(), *WARNINGS.split(), *pkg_config(package, "--cflags"), PROGRAM, "-o", program,
             *pkg_config(package, "--libs")])
        check(program, program + ".rec", {"LD_LIBRARY_PATH": LIBDIR})


main()
