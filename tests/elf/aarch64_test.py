# SPDX-License-Identifier: Apache-2.0
"""A library that is cross-compiled for aarch64: the notes name x0 to x5, and the gate has a page of 64 KiB, the largest
page size there."""

import glob
import os
import shutil
import subprocess

import surroundings
from elf_file import ElfFile

CXX = "aarch64-linux-gnu-g++"
# The host's <sys/sdt.h> is the same file for all machines. Its folder is searched last, so that no other header of the
# host is found.
INCLUDE = ["-idirafter", os.path.dirname(os.path.dirname((glob.glob("/usr/include/*-linux-gnu/sys/sdt.h") + [
    "/usr/include/sys/sdt.h"])[0]))]
BUILD = surroundings.BUILD / "aarch64"


class Aarch64(surroundings.AbiTest):
    def test_the_sites(self):
        elf = self.assembled(CXX, *INCLUDE, "-std=c++17")
        self.assertEqual(183, elf.machine)
        self.assertEqual([], self.abi.defects(elf))
        self.assertEqual("8@x0 8@x1 8@x2 8@x3 8@x4 8@x5", elf.notes[0].arguments)
        self.assertEqual(65536, elf.sections[".probes"].size)
        self.assertEqual("1f 20 03 d5 c0 03 5f d6", self.site(elf, "span_stop"))

    def test_with_branch_protection_a_site_begins_with_bti(self):
        elf = self.assembled(CXX, *INCLUDE, "-mbranch-protection=standard")
        self.assertEqual([], self.abi.defects(elf))
        self.assertEqual("5f 24 03 d5 1f 20 03 d5 c0 03 5f d6", self.site(elf, "span_stop"))
        self.assertIn("BTI", elf.properties, "linked into a program, it would switch BTI off")

    def test_the_whole_library(self):
        flags = " ".join(INCLUDE)
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        subprocess.run([surroundings.CMAKE, "-S", surroundings.SOURCE, "-B", BUILD, *generator,
                        "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
                        "-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc", f"-DCMAKE_CXX_COMPILER={CXX}",
                        f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}", f"-DCMAKE_ASM_FLAGS={flags}",
                        "-DNOPSPAN_USDT=ON", "-DNOPSPAN_TESTS=OFF", "-DNOPSPAN_EXAMPLES=OFF", "-DNOPSPAN_BENCH=OFF", "-DNOPSPAN_COLLECTOR=OFF",
                        "-DNOPSPAN_INSTALL=OFF",
                        "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=",  # the fastest to compile
                        "-DNOPSPAN_PRICES=OFF", "-DCMAKE_UNITY_BUILD=ON"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([surroundings.CMAKE, "--build", BUILD, "--target", "nopspan", "--parallel", str(os.cpu_count())],
                       check=True, stdout=subprocess.DEVNULL)
        elf = ElfFile((BUILD / "libnopspan.so").resolve())
        self.assertEqual(183, elf.machine)
        self.assertEqual([], self.abi.defects(elf))


if __name__ == "__main__":
    if shutil.which(CXX) is None:
        surroundings.unable(f"no {CXX} (Debian: apt-get install g++-aarch64-linux-gnu)")
    surroundings.main()
