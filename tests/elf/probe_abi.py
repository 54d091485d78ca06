# SPDX-License-Identifier: Apache-2.0
"""The form of every file with nopspan's sites, according to probes/README.md and probes/sites.S."""

import re

from elf_file import REGISTERS

COUNTERS = {"spans": 0, "batch": 2, "points": 6}  # byte offsets in the gate
PAGE = {62: 4096, 183: 65536}
# The instructions of a site, after an optional landing pad.
SITE = {62: re.compile(rb"(\xf3\x0f\x1e\xfa)?\x90\xc3", re.DOTALL),
        183: re.compile(rb"(\x5f\x24\x03\xd5)?\x1f\x20\x03\xd5\xc0\x03\x5f\xd6", re.DOTALL)}


class Abi:
    def __init__(self, readme):
        with open(readme, encoding="utf-8") as file:
            text = file.read()
        self.version = int(re.search(r"^ABI version: (\d+)$", text, re.MULTILINE)[1])
        rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in text.splitlines()
                if line.startswith("| `")]
        self.probes = {row[0].strip("`"): row[-1] for row in rows if len(row) == 8}  # name: counter

    def defects(self, elf, stripped=False):
        """The defects of a file that has the sites. An empty list means that there are none."""
        found = []
        names = [note.name for note in elf.notes]
        if sorted(names) != sorted(self.probes):
            missing = sorted(set(self.probes) - set(names))
            extra = sorted(name for name in set(names) if names.count(name) > 1 or name not in self.probes)
            found.append(f"notes: missing {missing}, unknown or more than once {extra}")
        gate = elf.sections.get(".probes")
        if gate is None:
            return found + ["no section .probes"]
        page = PAGE[elf.machine]
        if gate.address % page or gate.size != page or gate.type != "PROGBITS" or gate.flags != "WA":
            found.append(f".probes is not one writable page of its own: {gate}")
        found += self._not_alone(elf, gate, page)
        if elf.read(gate.address, page) != bytes(8) + self.version.to_bytes(8, "little") + bytes(page - 16):
            found.append("the gate's page is not a zero word, the ABI version and zeros")
        base = elf.sections.get(".stapsdt.base")
        for note in elf.notes:
            found += self._defects_of(note, elf, gate, base)
        if not stripped:
            symbols = elf.symbols()
            if symbols["nopspan_gate"].value != gate.address:
                found.append("nopspan_gate is not the beginning of .probes")
            for note in elf.notes:
                site = symbols[f"nopspan_site_{note.name}"]
                if not site.value <= note.location < site.value + site.size:
                    found.append(f"{note.name}: the note points out of its site")
                elif not SITE[elf.machine].fullmatch(elf.read(site.value, site.size)):
                    found.append(f"{note.name}: the site is {elf.read(site.value, site.size).hex(' ')}")
        return found

    @staticmethod
    def _not_alone(elf, gate, page):
        """The kernel finds the word by its offset in the file, so exactly one mapping may contain that page of the
        file."""
        found = [f"{other.name} is in the gate's page" for other in elf.sections.values()
                 if other.name != ".probes" and "A" in other.flags and "T" not in other.flags and other.size and
                 other.address < gate.address + page and gate.address < other.address + other.size]
        shown = [load for load in elf.loads() if load[0] // page * page < gate.offset + page and
                 gate.offset < load[0] + load[2]]
        if len(shown) != 1:
            found.append(f"the gate's page of the file is mapped {len(shown)} times")
        return found

    def _defects_of(self, note, elf, gate, base):
        found = []
        if note.provider != ("nopspan_batch" if note.name == "batch" else "nopspan"):
            found.append(f"{note.name}: provider {note.provider}")
        if note.arguments != REGISTERS[elf.machine]:
            found.append(f"{note.name}: arguments {note.arguments}")
        if note.semaphore - gate.address != COUNTERS.get(self.probes.get(note.name)):
            found.append(f"{note.name}: semaphore at gate{note.semaphore - gate.address:+}")
        # gold and lld drop .stapsdt.base with --gc-sections and write zero as the base. A tracer then corrects nothing,
        # which is right.
        if note.base != (base.address if base else 0):
            found.append(f"{note.name}: base {note.base:#x}, .stapsdt.base is {base}")
        nop = {62: b"\x90", 183: b"\x1f\x20\x03\xd5"}[elf.machine]
        if elf.read(note.location, len(nop)) != nop:
            found.append(f"{note.name}: no nop at {note.location:#x}")
        return found
