# SPDX-License-Identifier: Apache-2.0
"""The built library has exactly the probes of probes/README.md, and its sites are as probes/sites.S promises."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import surroundings
from elf_file import ElfFile
from probe_abi import Abi

PROBES = surroundings.SOURCE / "probes" / "sites.S"


class Notes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.abi = Abi(surroundings.SOURCE / "probes" / "README.md")

    def test_the_abi_text_names_the_probes(self):
        self.assertEqual(2, self.abi.version)
        for probe in ("span_start", "span_stop", "span_exception", "event", "first_token", "tokens", "retry",
                      "tool_call", "engine_request", "engine_step", "gauge", "batch"):
            self.assertIn(probe, self.abi.probes)
        self.assertEqual({"spans", "points", "batch"}, set(self.abi.probes.values()))
        self.assertEqual("batch", self.abi.probes["batch"])

    def test_the_built_library_keeps_it(self):
        self.assertEqual([], self.abi.defects(ElfFile(surroundings.LIBRARY)))


class Assembled(unittest.TestCase):
    """sites.S alone, assembled by each compiler's driver with common flags."""

    @classmethod
    def setUpClass(cls):
        cls.abi = Abi(surroundings.SOURCE / "probes" / "README.md")

    def linked(self, *command):
        """Links sites.S alone into a shared library, which gives its symbols addresses."""
        if shutil.which(command[0]) is None:
            self.skipTest(f"{command[0]} is not installed")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "probes.so"
        done = subprocess.run([*command, "-shared", "-nostdlib", PROBES, "-o", path], capture_output=True, text=True)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return ElfFile(path)

    def test_by_every_driver(self):
        for driver in ("gcc", "g++", "clang", "clang++"):
            for flags in ([], ["-std=c++17"], ["-std=c++17", "-O2", "-g", "-fPIC", "-flto"], ["-fcf-protection=none"]):
                # -std=c++17 is not valid for the C drivers, and gcc refuses it.
                if "-std=c++17" in flags and not driver.endswith("++"):
                    continue
                with self.subTest(driver=driver, flags=flags):
                    self.assertEqual([], self.abi.defects(self.linked(driver, *flags)))

    @unittest.skipUnless(surroundings.X86_64, "CET is x86-64's")
    def test_with_cet_a_site_begins_with_endbr64(self):
        for driver in ("g++", "clang++"):
            with self.subTest(driver):
                elf = self.linked(driver, "-fcf-protection=full")
                self.assertEqual([], self.abi.defects(elf))
                for probe in self.abi.probes:
                    site = elf.symbols()[f"nopspan_site_{probe}"]
                    self.assertEqual("f3 0f 1e fa 90 c3", elf.read(site.value, site.size).hex(" "))
                self.assertIn("IBT, SHSTK", elf.properties, "linked into a program, it would switch CET off")

    def test_without_cet_a_site_is_two_bytes(self):
        if surroundings.X86_64:
            elf = self.linked("g++", "-fcf-protection=none")
            for probe in self.abi.probes:
                site = elf.symbols()[f"nopspan_site_{probe}"]
                self.assertEqual("90 c3", elf.read(site.value, site.size).hex(" "))


if __name__ == "__main__":
    surroundings.main()
