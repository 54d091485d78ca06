# SPDX-License-Identifier: Apache-2.0
"""An ELF file as readelf prints it: sections, notes of probes, symbols and relocations."""

import re
import struct
import subprocess
from collections import namedtuple

Section = namedtuple("Section", "name type address offset size flags align")
Note = namedtuple("Note", "provider name location base semaphore arguments")
Symbol = namedtuple("Symbol", "name value size binding section")
Relocation = namedtuple("Relocation", "type symbol")

REGISTERS = {
    62: "8@%rdi 8@%rsi 8@%rdx 8@%rcx 8@%r8 8@%r9",  # EM_X86_64
    183: "8@x0 8@x1 8@x2 8@x3 8@x4 8@x5",  # EM_AARCH64
}


class ElfFile:
    def __init__(self, path):
        self.path = str(path)
        with open(path, "rb") as file:
            self._bytes = file.read()
        self.machine = struct.unpack_from("<H", self._bytes, 18)[0]
        self.sections = {}
        self._section_names = {}
        pattern = re.compile(r"\s*\[\s*(\d+)\] (\S*)\s+(\S+)\s+([0-9a-f]{16}) ([0-9a-f]+) ([0-9a-f]+) [0-9a-f]{2}"
                             r"\s+([A-Za-z]*)\s+\d+\s+\d+\s+(\d+)$")
        for line in self._readelf("-SW").splitlines():
            match = pattern.match(line)
            if match and match[3] != "NULL":
                self.sections[match[2]] = Section(match[2], match[3], int(match[4], 16), int(match[5], 16),
                                                  int(match[6], 16), match[7], int(match[8]))
                self._section_names[match[1]] = match[2]

    def _readelf(self, *options):
        return subprocess.run(["readelf", *options, self.path], check=True, capture_output=True, text=True).stdout

    @property
    def notes(self):
        """The notes of nopspan's probes, in the order of the file."""
        found = re.findall(
            r"stapsdt .*?Provider: (\S+)\s+Name: (\S+)\s+Location: 0x([0-9a-f]+), Base: 0x([0-9a-f]+), "
            r"Semaphore: 0x([0-9a-f]+)\s+Arguments: ([^\n]*)", self._readelf("-nW"), re.DOTALL)
        return [Note(n[0], n[1], int(n[2], 16), int(n[3], 16), int(n[4], 16), n[5].strip()) for n in found
                if n[0].startswith("nopspan")]

    @property
    def properties(self):
        """The line of .note.gnu.property, which lists the CET or BTI features that the file supports."""
        match = re.search(r"Properties: ([^\n]*)", self._readelf("-nW"))
        return match[1] if match else ""

    def symbols(self, table="--syms"):
        """Symbols by name without version. The value is an address. The section is its name, or UND."""
        pattern = re.compile(r"\s*\d+: ([0-9a-f]+)\s+(\d+|0x[0-9a-f]+) \S+\s+(\S+)\s+\S+\s+(\S+) ([^\s@]+)")
        symbols = {}
        for line in self._readelf(table, "-W").splitlines():
            match = pattern.match(line)
            if match:
                symbols[match[5]] = Symbol(match[5], int(match[1], 16), int(match[2], 0), match[3],
                                           self._section_names.get(match[4], match[4]))
        return symbols

    def dynamic_symbols(self):
        """The symbols that other files can see."""
        return {name: symbol for name, symbol in self.symbols("--dyn-syms").items() if symbol.section != "UND"}

    def relocations(self):
        pattern = re.compile(r"[0-9a-f]{16}\s+[0-9a-f]{16} (R_\S+)\s*(?:[0-9a-f]{16} ([^\s@]+))?")
        matches = map(pattern.match, self._readelf("-rW").splitlines())
        return [Relocation(match[1], match[2]) for match in matches if match]

    def read(self, address, size):
        """The bytes at an address, read from the file."""
        for section in self.sections.values():
            inside = section.address <= address < section.address + section.size
            if inside and "A" in section.flags and section.type != "NOBITS":
                start = section.offset + address - section.address
                return self._bytes[start:start + size]
        raise ValueError(f"{self.path}: nothing is at {address:#x}")

    def loads(self):
        """(file offset, address, size in the file, size in memory) of each loaded segment."""
        pattern = re.compile(r"\s*LOAD\s+0x([0-9a-f]+) 0x([0-9a-f]+) 0x[0-9a-f]+ 0x([0-9a-f]+) 0x([0-9a-f]+)")
        matches = map(pattern.match, self._readelf("-lW").splitlines())
        return [tuple(int(number, 16) for number in match.groups()) for match in matches if match]
