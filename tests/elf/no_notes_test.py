# SPDX-License-Identifier: Apache-2.0
"""A library that is built without USDT must have no probe, because a tracer would attach to it and wait in vain."""

import unittest

import surroundings
from elf_file import ElfFile


class NoNotes(unittest.TestCase):
    def test_nothing_is_left_of_the_probes(self):
        elf = ElfFile(surroundings.LIBRARY)
        self.assertEqual([], elf.notes)
        self.assertNotIn(".probes", elf.sections)
        self.assertIn("nopspan_gate_ptr", elf.dynamic_symbols())


if __name__ == "__main__":
    surroundings.main()
