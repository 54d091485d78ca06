# SPDX-License-Identifier: Apache-2.0
"""Whatever the compiler, linker and kind of code: every note is there once, and the gate is where every tracer looks
for it."""

import subprocess
import unittest

import builds
import surroundings
from elf_file import ElfFile


class Matrix(surroundings.AbiTest):
    @classmethod
    def setUpClass(cls):
        cls.programs = list(builds.programs())
        cls.elf = {path: ElfFile(path) for program in cls.programs for path in
                   (program.path, program.sites, program.reader)}

    def test_the_matrix_is_whole(self):
        """A combination that is not built must be listed in builds.IMPOSSIBLE."""
        asked = {(compiler, linker, kind) for compiler in ("gcc", "clang") for linker in ("bfd", "gold", "lld")
                 for kind in ("pie", "nopie", "pic", "lto", "gc")}
        if not surroundings.LONG:
            asked = {(compiler, "bfd", kind) for compiler in ("gcc", "clang") for kind in ("pie", "nopie", "pic", "gc")}
            asked |= {("gcc", "bfd", "lto"), ("gcc", "gold", "pie"), ("clang", "lld", "pie")}
        asked = {(*program, linkage) for program in asked for linkage in ("shared", "static")}
        built = {(p.compiler, p.linker, p.kind, p.linkage) for p in self.programs}
        impossible = {(compiler, linker, kind, linkage) for compiler, kind, linker in builds.IMPOSSIBLE
                      for linkage in ("shared", "static")}
        self.assertEqual(asked, asked & (built | impossible))
        self.assertEqual(set(), built & impossible)
        print(f"{len(self.programs)} programs, {len({p.sites for p in self.programs})} files with sites")

    def test_every_note_is_there_once_with_its_arguments(self):
        for path in sorted({program.sites for program in self.programs}):
            with self.subTest(str(path)):
                self.assertEqual([], self.abi.defects(self.elf[path]))

    def test_other_files_have_no_site(self):
        for program in self.programs:
            for path in {program.path, program.reader} - {program.sites}:
                with self.subTest(str(path)):
                    self.assertEqual([], self.elf[path].notes)
                    self.assertNotIn(".probes", self.elf[path].sections)

    def test_no_constant_of_the_headers_pins_a_plug_in(self):
        """gcc makes a visible inline variable STB_GNU_UNIQUE, and glibc never unloads a file that has such a symbol."""
        for path, elf in self.elf.items():
            with self.subTest(str(path)):
                self.assertEqual([], [symbol.name for symbol in elf.symbols("--dyn-syms").values()
                                      if symbol.binding == "UNIQUE" and "nopspan" in symbol.name])

    @unittest.skipUnless(surroundings.LONG, "NOPSPAN_LONG=1")
    def test_what_the_toolchain_cannot_link_still_cannot_be(self):
        for (compiler, flavour, linker), (reason, message) in builds.IMPOSSIBLE.items():
            for linkage in ("shared", "static"):
                target = f"{linkage}-{linker}-lto"
                with self.subTest(f"{compiler} {target}: {reason}"):
                    top = builds.directory(compiler, flavour)
                    command = [surroundings.CMAKE, "--build", top, "--target", target]
                    tried = subprocess.run(command, capture_output=True, text=True)
                    self.assertNotEqual(0, tried.returncode, "it links now: take it out of builds.IMPOSSIBLE")
                    self.assertIn(message, tried.stdout + tried.stderr)
                    print(f"cannot be linked: {compiler} {linker} LTO {linkage}: {reason}")


if __name__ == "__main__":
    surroundings.main()
