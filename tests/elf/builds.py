# SPDX-License-Identifier: Apache-2.0
"""The programs in programs/, built with every compiler and linker. Run as a script, it builds them (ctest's
fixture)."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

from surroundings import BUILD, CMAKE, LONG, SOURCE, unable

COMPILERS = {"gcc": ("gcc", "g++"), "clang": ("clang", "clang++")}
# The first linker of each compiler links every kind of program. The others link one kind, unless NOPSPAN_LONG=1.
LINKERS = {"gcc": ("bfd", "gold"), "clang": ("bfd", "lld")}
if LONG:
    LINKERS = dict.fromkeys(COMPILERS, ("bfd", "gold", "lld"))
LTO_FLAGS = {"gcc": "-flto=auto", "clang": "-flto"}

# Combinations that no option can link, each with the reason and the toolchain's message.
IMPOSSIBLE = {
    ("gcc", "lto", "lld"): ("lld reads no GIMPLE, and takes no plug-in of gcc's that does", "undefined symbol: main"),
}

# A built program. `sites`: the file with the probe sites. `reader`: the file whose code reads the gate. `kind`: the
# options for the compiler and linker.
Program = namedtuple("Program", "name compiler linker linkage kind path sites reader")


def flavours():
    """The configured build directories: a compiler, and plain or LTO."""
    for compiler in COMPILERS:
        yield compiler, "plain"
    yield "gcc", "lto"
    if LONG:
        yield "clang", "lto"
        yield "clang", "thinlto"


def kinds(compiler, linker, flavour):
    if linker != "bfd" and not LONG:
        yield from ("pie",) if flavour == "plain" else ()
    elif flavour == "plain":
        yield from ("pie", "nopie", "pic", "gc")
        if LONG and linker != "bfd":
            yield "icf"
    elif (compiler, flavour, linker) not in IMPOSSIBLE:
        yield "lto"
        if LONG and compiler == "gcc" and linker != "lld":
            yield from ("lto_none", "lto_max")


def directory(compiler, flavour):
    return BUILD / f"{compiler}-{flavour}"


def programs():
    for compiler, flavour in flavours():
        top = directory(compiler, flavour)
        for linker in LINKERS[compiler]:
            for kind in kinds(compiler, linker, flavour):
                for linkage in ("shared", "static"):
                    path = top / f"{linkage}-{linker}-{kind}"
                    reader = top / f"lib{path.name}-plugin.so" if kind == "pic" else path
                    library = "plain" if kind in ("pie", "nopie", "pic") else kind
                    shared = (top / f"lib-{linker}-{library}" / "libnopspan.so").resolve()
                    yield Program(f"{compiler}-{flavour}-{path.name}", compiler, linker, linkage, kind, path,
                                  reader if linkage == "static" else shared, reader)


def missing_tools():
    tools = ["gcc", "g++", "clang", "clang++", "llvm-ar", "llvm-ranlib", "readelf", "objdump", "nm"]
    return [tool for tool in tools + [f"ld.{linker}" for linker in ("bfd", "gold", "lld")] if shutil.which(tool) is None]


def build():
    for compiler, flavour in flavours():
        top = directory(compiler, flavour)
        cc, cxx = COMPILERS[compiler]
        # The library too is compiled with -ffunction-sections, so that --gc-sections can remove as much as possible.
        flags = "-O2 -ffunction-sections -fdata-sections"
        options = []
        if flavour != "plain":
            flags = f"-O2 {LTO_FLAGS[compiler] if flavour == 'lto' else '-flto=thin'}"
            # Only llvm-ar makes an index for an archive of LLVM bitcode.
            if compiler == "clang":
                options = [f"-DCMAKE_{tool.upper()}={shutil.which('llvm-' + tool)}" for tool in ("ar", "ranlib")]
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        subprocess.run([CMAKE, "-S", Path(__file__).parent / "programs", "-B", top, *generator, "-Wno-dev",
                        f"-DELF_SOURCE={SOURCE}", f"-DELF_LINKERS={';'.join(LINKERS[compiler])}", f"-DCMAKE_C_COMPILER={cc}", f"-DCMAKE_CXX_COMPILER={cxx}",
                        f"-DCMAKE_CXX_FLAGS={flags}", f"-DCMAKE_C_FLAGS={flags}", "-DCMAKE_BUILD_TYPE=", "-DNOPSPAN_USDT=ON", "-DNOPSPAN_PRICES=OFF",
                        f"-DELF_LTO={'OFF' if flavour == 'plain' else 'ON'}", f"-DELF_LONG={'ON' if LONG else 'OFF'}",
                        *options], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([CMAKE, "--build", top, "--parallel", str(os.cpu_count())], check=True)


if __name__ == "__main__":
    if missing_tools():
        unable("not installed: " + " ".join(missing_tools()))
    try:
        build()
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
