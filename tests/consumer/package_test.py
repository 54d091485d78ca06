#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The package files of the installed tree. All state the version of version.h, and a request for an incompatible
version is refused."""
import os
import re
import subprocess

from kinds import installed_library
from surroundings import CMAKE, INSTALLED, LIBDIR, abi, expect, fresh, run, version

PROJECT = """\
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(nopspan {wanted} REQUIRED {components})
message(STATUS "found ${{nopspan_VERSION}}")
"""


RECORDING = os.environ["NOPSPAN_RECORDING"] == "1"


def find_package(wanted, components=""):
    folder = fresh("package")
    with open(os.path.join(folder, "CMakeLists.txt"), "w", encoding="utf-8") as file:
        file.write(PROJECT.format(wanted=wanted, components=components))
    done = subprocess.run([CMAKE, "-S", folder, "-B", os.path.join(folder, "build"), "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={INSTALLED}"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def main():
    major, minor, patch = version()
    dotted = ".".join(version())
    code, output = find_package(f"{major}.{minor}")
    expect(code == 0 and f"found {dotted}" in output, output)
    # docs/compatibility.md: a newer version is not compatible; before 1.0 nor is another minor version.
    older = f"{major}.0.0" if major != "0" else f"0.{minor}.0"
    code, output = find_package(older)
    expect(code == 0, output)
    others = [] if major != "0" else [f"0.{int(minor) - 1}"]
    for other in (*others, f"{major}.{int(minor) + 1}", f"{int(major) + 1}.0", f"{major}.{minor}.{int(patch) + 1}"):
        code, output = find_package(other)
        expect(code != 0 and "compatible with requested version" in output, f"version {other} is taken: {output}")

    code, output = find_package(f"{major}.{minor}", "COMPONENTS recording")
    expect((code == 0) == RECORDING, output)
    recording = ("nopspan-recording", "nopspan-recording-static")
    opentelemetry = ("nopspan-opentelemetry", "nopspan-opentelemetry-static")
    has_opentelemetry = os.path.exists(os.path.join(LIBDIR, "libnopspan-opentelemetry.a"))
    for package in ("nopspan", "nopspan-static", *(recording if RECORDING else ()),
                    *(opentelemetry if has_opentelemetry else ())):
        environment = {**os.environ, "PKG_CONFIG_PATH": os.path.join(LIBDIR, "pkgconfig")}
        expect(run(["pkg-config", "--modversion", package], env=environment).strip() == dotted, f"pkg-config {package}")
        run(["pkg-config", "--validate", package], env=environment)

    soname = re.search(r"soname: \[(.*)\]", run(["readelf", "-d", installed_library()]))[1]
    expect(soname == f"libnopspan.so.{abi()}", f"soname {soname}")
    for link in ("libnopspan.so", soname):
        expect(os.path.samefile(os.path.join(LIBDIR, link), installed_library()), link)
    expect(os.path.exists(os.path.join(INSTALLED, "include/nopspan/probes.h")), "nopspan/probes.h is not installed")
    expect(not os.path.exists(os.path.join(INSTALLED, "include/probes.h")), "a header outside include/nopspan")

    # The tree can be moved, so none of its text files may contain the path that it was configured for or built in.
    for folder, _, files in os.walk(INSTALLED):
        for name in files:
            if name.endswith((".cmake", ".pc", ".h", ".bt", ".stp", ".awk", ".sh")):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    text = file.read()
                for path in (os.path.dirname(INSTALLED), os.environ["NOPSPAN_SOURCE"]):
                    expect(path not in text, f"{name} names {path}")


main()
