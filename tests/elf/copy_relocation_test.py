# SPDX-License-Identifier: Apache-2.0
"""A program that reads the gate through the header must read the library's word, not a copy of it.

If an executable read the word directly, the linker would give it a copy relocation. The kernel would then raise the
library's word while the program reads its own copy, and attaching would silently yield nothing. The header therefore
reads the word through a pointer. The pointer may be copied, because the copy still points to the library's word.
matrix_live_test.py shows for the same files that the programs see the raised gate.
"""

import unittest

import builds
import surroundings
from elf_file import ElfFile

# The type of the catch clause with which span() learns where an exception was thrown. It is constant.
WATCHER = "_ZTIN7nopspan6detail12ThrowWatcherE"


class CopyRelocation(unittest.TestCase):
    def test_nothing_of_nopspan_is_copied_but_the_pointer_and_a_type(self):
        copied = {}
        for program in builds.programs():
            elf = ElfFile(program.path)
            copies = {relocation.symbol for relocation in elf.relocations() if relocation.type.endswith("_COPY")}
            ours = {symbol for symbol in copies if "nopspan" in symbol}
            with self.subTest(program.name):
                self.assertLessEqual(ours, {"nopspan_gate_ptr", WATCHER})
                if program.linkage == "static":
                    self.assertEqual(set(), ours)
            copied[program.name] = "nopspan_gate_ptr" in ours
        # At least one pointer must be copied, or this test would prove nothing.
        self.assertTrue(copied["gcc-plain-shared-bfd-pie"])
        self.assertTrue(copied["gcc-plain-shared-bfd-nopie"])
        print(f"{sum(copied.values())} of {len(copied)} programs have a copy of the pointer, none of the gate")

    def test_the_gate_cannot_be_named_from_outside(self):
        """The word is hidden in every file, so no program that reads it directly can be linked."""
        for sites in sorted({program.sites for program in builds.programs()}):
            with self.subTest(str(sites)):
                visible = ElfFile(sites).dynamic_symbols()
                self.assertNotIn("nopspan_gate", visible)
                self.assertEqual(sites.name.startswith("libnopspan"), "nopspan_gate_ptr" in visible)


if __name__ == "__main__":
    surroundings.main()
