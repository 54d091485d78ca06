# SPDX-License-Identifier: Apache-2.0
"""The built library has exactly the probes of probes/README.md, and its sites are as probes/sites.S promises."""

import unittest

import surroundings
from elf_file import ElfFile


class Notes(surroundings.AbiTest):
    def test_the_abi_text_names_the_probes(self):
        self.assertEqual(2, self.abi.version)
        for probe in ("span_start", "span_stop", "span_exception", "event", "first_token", "tokens", "retry",
                      "tool_call", "engine_request", "engine_step", "gauge", "batch"):
            self.assertIn(probe, self.abi.probes)
        self.assertEqual({"spans", "points", "batch"}, set(self.abi.probes.values()))
        self.assertEqual("batch", self.abi.probes["batch"])

    def test_the_built_library_keeps_it(self):
        self.assertEqual([], self.abi.defects(ElfFile(surroundings.LIBRARY)))


class Assembled(surroundings.AbiTest):
    """sites.S alone, assembled by each compiler's driver with common flags."""

    def test_by_every_driver(self):
        for driver in ("gcc", "g++", "clang", "clang++"):
            for flags in ([], ["-std=c++17"], ["-std=c++17", "-O2", "-g", "-fPIC", "-flto"], ["-fcf-protection=none"]):
                # -std=c++17 is not valid for the C drivers, and gcc refuses it.
                if "-std=c++17" in flags and not driver.endswith("++"):
                    continue
                with self.subTest(driver=driver, flags=flags):
                    self.assertEqual([], self.abi.defects(self.assembled(driver, *flags)))

    @unittest.skipUnless(surroundings.X86_64, "CET is x86-64's")
    def test_with_cet_a_site_begins_with_endbr64(self):
        for driver in ("g++", "clang++"):
            with self.subTest(driver):
                elf = self.assembled(driver, "-fcf-protection=full")
                self.assertEqual([], self.abi.defects(elf))
                for probe in self.abi.probes:
                    self.assertEqual("f3 0f 1e fa 90 c3", self.site(elf, probe))
                self.assertIn("IBT, SHSTK", elf.properties, "linked into a program, it would switch CET off")

    def test_without_cet_a_site_is_two_bytes(self):
        if surroundings.X86_64:
            elf = self.assembled("g++", "-fcf-protection=none")
            for probe in self.abi.probes:
                self.assertEqual("90 c3", self.site(elf, probe))


if __name__ == "__main__":
    surroundings.main()
