#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""NOPSPAN_USDT=AUTO, ON, OFF and an invalid value, on a machine without <sys/sdt.h> and on this machine."""
import os
import shutil
import subprocess

import without_sdt
from surroundings import CC, CMAKE, CXX, CXX_FLAGS, HERE, SOURCE, abi, expect, fresh, run

WARNING = "nopspan is built without probes"


def absent(folder, cc, cxx, flags):
    """Compiler options that hide <sys/sdt.h>. clang warns about those that it does not need to link."""
    return [f"-DCMAKE_C_COMPILER={cc}", f"-DCMAKE_C_FLAGS={without_sdt.flags(cc, 'c', folder)}",
            f"-DCMAKE_CXX_COMPILER={cxx}", f"-DCMAKE_CXX_FLAGS={without_sdt.flags(cxx, 'c++', folder)} {flags} "
            "-Wno-unused-command-line-argument"]


def configure(folder, *options):
    done = subprocess.run([CMAKE, "-S", SOURCE, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                           "-DCMAKE_CXX_FLAGS_DEBUG=", "-DNOPSPAN_TESTS=OFF",
                           "-DNOPSPAN_EXAMPLES=OFF", "-DNOPSPAN_BENCH=OFF", "-DNOPSPAN_COLLECTOR=OFF", "-DNOPSPAN_PRICES=OFF", "-DCMAKE_UNITY_BUILD=ON",
                           *options],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # CMake wraps its messages, so join their lines.
    return done.returncode, " ".join(done.stdout.split())


def compilers():
    """(C compiler, C++ compiler, flags) of the build under test, and of other compilers on this machine."""
    yield CC, CXX, CXX_FLAGS
    for cc, cxx in (("gcc", "g++"), ("clang", "clang++")):
        found = shutil.which(cxx)
        if found and os.path.realpath(found) != os.path.realpath(shutil.which(CXX)):
            yield cc, cxx, ""


def off(folder, cc, cxx, flags):
    os.makedirs(folder)
    build = os.path.join(folder, "build")
    code, output = configure(build, "-DNOPSPAN_USDT=OFF", *absent(folder, cc, cxx, flags))
    expect(code == 0 and "Warning" not in output, f"OFF with {cxx}: {output}")
    run([CMAKE, "--build", build, "--target", "nopspan"])
    library = os.path.join(build, f"libnopspan.so.{abi()}")
    expect("stapsdt" not in run(["readelf", "-n", library]), "probes in a library without them")
    program = os.path.join(folder, "program")
    run([cxx, "-std=c++17", *flags.split(), f"-I{SOURCE}/include", os.path.join(HERE, "program.cpp"), "-o", program,
         f"-L{build}", "-lnopspan", f"-Wl,-rpath,{build}"])
    expect("consumer.closure.stop status 0 value 6" in run([program, "handled"]), "handlers in a library without probes")


def main():
    work = fresh("usdt_option")
    no_header = absent(work, CC, CXX, CXX_FLAGS)

    def build_folder(name):
        return os.path.join(work, name)

    code, output = configure(build_folder("auto"), *no_header)
    expect(code == 0 and output.count(WARNING) == 1, f"AUTO without the header: {output}")
    expect("<sys/sdt.h> was not found" in output and "systemtap-sdt-dev" in output, f"says what is missing: {output}")
    code, output = configure(build_folder("auto"))
    expect(code == 0 and output.count(WARNING) == 1, f"AUTO configured again: {output}")

    code, output = configure(build_folder("on"), "-DNOPSPAN_USDT=ON", *no_header)
    expect(code != 0 and "NOPSPAN_USDT=ON, but <sys/sdt.h> was not found" in output, f"ON without the header: {output}")
    expect("systemtap-sdt-dev" in output, f"says what to install: {output}")

    for nonsense in ("BOGUS", "", "AUTOMATIC"):
        code, output = configure(build_folder("bogus"), f"-DNOPSPAN_USDT={nonsense}", *no_header)
        expect(code != 0 and f'NOPSPAN_USDT must be AUTO, ON or OFF, and not "{nonsense}"' in output, f"{nonsense}: {output}")

    # With OFF there is no warning, and everything compiles without the header, with every compiler on this machine.
    for cc, cxx, flags in compilers():
        off(os.path.join(work, os.path.basename(cxx)), cc, cxx, flags)


main()
