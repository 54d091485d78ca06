#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""NOPSPAN_USDT: what AUTO, ON, OFF and nonsense do, on a machine without <sys/sdt.h> and on this one."""
import os
import subprocess

import without_sdt
from surroundings import CC, CMAKE, CXX, CXX_FLAGS, HERE, SOURCE, expect, fresh, run, version

WARNING = "nopspan is built without probes"


def configure(folder, *options):
    done = subprocess.run([CMAKE, "-S", SOURCE, "-B", folder, "-G", "Ninja", f"-DCMAKE_C_COMPILER={CC}",
                           f"-DCMAKE_CXX_COMPILER={CXX}", "-DCMAKE_BUILD_TYPE=Debug", "-DNOPSPAN_TESTS=OFF",
                           "-DNOPSPAN_EXAMPLES=OFF", "-DNOPSPAN_BENCH=OFF", *options],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # CMake wraps its messages.
    return done.returncode, " ".join(done.stdout.split())


def main():
    work = fresh("usdt_option")
    absent = [f"-DCMAKE_C_FLAGS={without_sdt.flags(CC, 'c', work)}",
              f"-DCMAKE_CXX_FLAGS={without_sdt.flags(CXX, 'c++', work)} {CXX_FLAGS}"]

    def build_folder(name):
        return os.path.join(work, name)

    code, output = configure(build_folder("auto"), *absent)
    expect(code == 0 and output.count(WARNING) == 1, f"AUTO without the header: {output}")
    expect("<sys/sdt.h> was not found" in output and "systemtap-sdt-dev" in output, f"says what is missing: {output}")
    code, output = configure(build_folder("auto"))
    expect(code == 0 and output.count(WARNING) == 1, f"AUTO configured again: {output}")

    code, output = configure(build_folder("on"), "-DNOPSPAN_USDT=ON", *absent)
    expect(code != 0 and "NOPSPAN_USDT=ON, but <sys/sdt.h> was not found" in output, f"ON without the header: {output}")
    expect("systemtap-sdt-dev" in output, f"says what to install: {output}")

    for nonsense in ("BOGUS", "", "AUTOMATIC"):
        code, output = configure(build_folder("bogus"), f"-DNOPSPAN_USDT={nonsense}")
        expect(code != 0 and f'NOPSPAN_USDT is "{nonsense}": it must be AUTO, ON or OFF' in output, f"{nonsense}: {output}")

    # OFF: no warning, and everything is compiled where the header does not exist.
    code, output = configure(build_folder("off"), "-DNOPSPAN_USDT=OFF", *absent)
    expect(code == 0 and "Warning" not in output, f"OFF: {output}")
    run([CMAKE, "--build", build_folder("off"), "--target", "nopspan"])
    library = os.path.join(build_folder("off"), f"libnopspan.so.{'.'.join(version())}")
    expect("stapsdt" not in run(["readelf", "-n", library]), "probes in a library without them")
    program = os.path.join(work, "program")
    run([CXX, "-std=c++17", *CXX_FLAGS.split(), f"-I{SOURCE}/include", os.path.join(HERE, "program.cpp"), "-o", program,
         f"-L{build_folder('off')}", "-lnopspan", f"-Wl,-rpath,{build_folder('off')}"])
    expect("consumer.closure.stop status 0 value 6" in run([program, "handled"]), "handlers in a library without probes")


main()
