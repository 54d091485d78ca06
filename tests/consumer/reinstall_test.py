#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second install must replace the library's file, not write into it. A process that maps the old file must
survive."""
import hashlib
import os
import subprocess

from surroundings import BUILD, CMAKE, CXX, CXX_FLAGS, HERE, abi, expect, fresh, run


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def main():
    prefix = fresh("reinstall")
    libdir = os.path.join(prefix, os.environ["NOPSPAN_LIBDIR"])
    library = os.path.join(libdir, f"libnopspan.so.{abi()}")
    install = [CMAKE, "--install", BUILD, "--prefix", prefix]
    run(install)
    first = os.stat(library)

    program = os.path.join(prefix, "program")
    run([CXX, "-std=c++17", *CXX_FLAGS.split(), f"-I{prefix}/include", os.path.join(HERE, "program.cpp"), "-o", program,
         f"-L{libdir}", "-lnopspan", f"-Wl,-rpath,{libdir}"])
    with subprocess.Popen([program, "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = []
        while not said or said[-1] not in ("holding\n", ""):
            said.append(process.stdout.readline())
        expect(said[-1] == "holding\n", "".join(said))
        # Keeps the mapped file open, because its name may soon refer to another file.
        mapped = os.open(library, os.O_RDONLY)
        before = digest(f"/proc/self/fd/{mapped}")

        # cmake does not copy a file whose time is equal, so the installed file must look older.
        os.utime(library, (0, 0))
        run(install)
        second = os.stat(library)
        expect(second.st_mtime == first.st_mtime, "the second install did not install the library")
        expect((second.st_dev, second.st_ino) != (first.st_dev, first.st_ino), "the library was written in place")
        expect(digest(f"/proc/self/fd/{mapped}") == before, "the old file's content changed")
        os.close(mapped)

        output, _ = process.communicate()
        expect(process.returncode == 0 and output.endswith("survived\n"), f"exit {process.returncode}: {output}")


main()
