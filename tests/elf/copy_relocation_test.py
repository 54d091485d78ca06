# SPDX-License-Identifier: Apache-2.0
"""A program that reads the gate through the header reads the library's word, not a copy of it.

A word that is read directly by an executable gets a copy relocation: the kernel raises the library's, the program
reads its own, and attaching silently yields nothing. The pointer may be copied; what it points at is not. That the
programs see the raised gate is in matrix_live_test.py, for these very files.
"""

import unittest

import builds
import surroundings
from elf_file import ElfFile


class CopyRelocation(unittest.TestCase):
    def test_nothing_of_nopspan_is_copied_but_the_pointer(self):
        copied = {}
        for program in builds.programs():
            elf = ElfFile(program.path)
            copies = {relocation.symbol for relocation in elf.relocations() if relocation.type.endswith("_COPY")}
            ours = {symbol for symbol in copies if "nopspan" in symbol}
            with self.subTest(program.name):
                self.assertLessEqual(ours, {"nopspan_gate_ptr"})
                if program.linkage == "static":
                    self.assertEqual(set(), ours)
            copied[program.name] = bool(ours)
        # Without a program whose pointer is copied this would prove nothing.
        self.assertTrue(copied["gcc-plain-shared-bfd-pie"])
        self.assertTrue(copied["gcc-plain-shared-bfd-nopie"])
        print(f"{sum(copied.values())} of {len(copied)} programs have a copy of the pointer, none of the gate")

    def test_the_gate_cannot_be_named_from_outside(self):
        """Hidden in every file: no program can be linked that reads it directly."""
        for sites in sorted({program.sites for program in builds.programs()}):
            with self.subTest(str(sites)):
                visible = ElfFile(sites).dynamic_symbols()
                self.assertNotIn("nopspan_gate", visible)
                self.assertEqual(sites.name.startswith("libnopspan"), "nopspan_gate_ptr" in visible)


if __name__ == "__main__":
    surroundings.main()
