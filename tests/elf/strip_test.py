# SPDX-License-Identifier: Apache-2.0
"""What strip leaves in a file. GNU strip keeps the notes. llvm-strip deletes them by default, but has options to keep
them."""

import shutil
import subprocess
import sys
import unittest

import builds
import surroundings
from elf_file import ElfFile
from matrix_live_test import EVENTS, Run
from tracer import Tracer

KEEPS = {
    "gnu": ["strip"],
    "gnu-debug": ["strip", "--strip-debug"],
    "gnu-unneeded": ["strip", "--strip-unneeded"],
    "llvm-keep": ["llvm-strip", "--keep-section=.note.stapsdt"],
    "llvm-debug": ["llvm-strip", "--strip-debug"],
    "llvm-unneeded": ["llvm-strip", "--strip-unneeded"],
}
DELETES = {"llvm": ["llvm-strip"], "llvm-all": ["llvm-strip", "--strip-all"]}
# A program with its own copy of the library, and one with the shared library. Also one that lld linked, because its
# layout differs.
PROGRAMS = ("gcc-plain-static-bfd-pie", "clang-plain-static-lld-pie", "gcc-plain-shared-bfd-pie")


class Strip(surroundings.AbiTest):
    programs = [program for program in builds.programs() if program.name in PROGRAMS]

    @staticmethod
    def stripped(program, how, command):
        """A copy of the program. The copy's file with the sites is stripped."""
        directory = surroundings.BUILD / "stripped" / f"{how}-{program.name}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        sites = shutil.copy(program.sites, directory)
        path = sites if program.sites == program.path else shutil.copy(program.path, directory)
        subprocess.run([*command, sites], check=True)
        return program._replace(name=f"{how}-{program.name}", path=path, sites=sites)

    def test_what_stays(self):
        for program in self.programs:
            for how, command in KEEPS.items():
                with self.subTest(program.name, command=command):
                    elf = ElfFile(self.stripped(program, how, command).sites)
                    self.assertEqual([], self.abi.defects(elf, stripped=True))
            for how, command in DELETES.items():
                with self.subTest(program.name, command=command):
                    elf = ElfFile(self.stripped(program, how, command).sites)
                    self.assertEqual([], elf.notes, "llvm-strip has become kind: say so in the documentation")
                    self.assertIn(".probes", elf.sections)


class Live(unittest.TestCase):
    def test_what_is_kept_is_traceable(self):
        stripped = [Strip.stripped(program, how, KEEPS[how]) for program in builds.programs()
                    if program.name in PROGRAMS for how in ("gnu", "llvm-keep")]
        with Tracer([program.sites for program in stripped]) as tracer:
            for program in stripped:
                with self.subTest(program.name):
                    self.assertTrue(tracer.wait(lambda: self.traced(tracer, program)), tracer.complaints)

    @staticmethod
    def traced(tracer, program):
        # The program finds the shared library beside it, not by its RUNPATH.
        run = Run(program, LD_LIBRARY_PATH=str(program.sites).rpartition("/")[0])
        run.release()
        return tracer.wait(lambda: tracer.lines(run.request) == EVENTS, timeout=0.5)


if __name__ == "__main__":
    if sys.argv[1:] == ["Live"]:
        surroundings.need_bpftrace()
    surroundings.main()
