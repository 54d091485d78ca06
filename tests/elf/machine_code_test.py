# SPDX-License-Identifier: Apache-2.0
"""The instructions that a disabled span executes at -O2: about a dozen, with no call, no thread-local access and no
clock.

The test does not guess from the disassembly. programs/count_instructions.cpp single-steps the functions and lists the
instructions that they executed.
"""

import re
import subprocess
import unittest
from collections import namedtuple

import builds
import surroundings

MODES = ("pie", "nopie", "pic")
PAIRS = ("hot_scope", "hot_scope_metadata", "hot_text", "hot_catalogue", "hot_closure", "hot_closure_metadata",
         "hot_async", "hot_retry", "hot_event", "hot_c", "hot_c_fields", "hot_c_event", "hot_scope_100")

# How many instructions a disabled span may add to a function. The project promises these numbers.
PROMISED = {("gcc", "pie"): 12, ("gcc", "nopie"): 12, ("gcc", "pic"): 14}
PROMISED.update({("clang", mode): 16 for mode in MODES})
# Higher limits for functions that save more registers for their cold part, and for a loop of a hundred spans. Measured
# with gcc 12 and clang 14, plus one.
MEASURED = {
    "gcc": {"hot_catalogue": 18, "hot_closure_metadata": 15, "hot_c_fields": 17, "hot_scope_100": 312},
    "clang": {"hot_scope_metadata": 21, "hot_catalogue": 22, "hot_closure_metadata": 21, "hot_c_fields": 21,
              "hot_scope_100": 711},
}
# The bytes of hot .text that a span adds: the measured value plus about three.
HOT_BYTES = {
    "gcc": {"hot_scope": 41, "hot_scope_metadata": 45, "hot_text": 41, "hot_catalogue": 53, "hot_closure": 41,
            "hot_closure_metadata": 47, "hot_async": 41, "hot_retry": 43, "hot_event": 49, "hot_c": 45, "hot_c_fields": 51, "hot_c_event": 39,
            "hot_scope_100": 57},
    "clang": {"hot_scope": 43, "hot_scope_metadata": 56, "hot_text": 43, "hot_catalogue": 65, "hot_closure": 43,
              "hot_closure_metadata": 56, "hot_async": 43, "hot_retry": 42, "hot_event": 47, "hot_c": 47, "hot_c_fields": 61, "hot_c_event": 43,
              "hot_scope_100": 114},
}

BODY = "_Z8hot_bodyi"
PADDING = re.compile(r"data16 |cs |xchg +%ax,%ax|nop")
Instruction = namedtuple("Instruction", "address size text")


def disassemble(path):
    """The instructions of each function. NAME.cold is a function of its own."""
    text = subprocess.run(["objdump", "-d", "-w", path], check=True, capture_output=True, text=True).stdout
    functions = {}
    for line in text.splitlines():
        if match := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            body = functions.setdefault(match[1], [])
        elif match := re.match(r"\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*\t(.*)", line):
            body.append(Instruction(int(match[1], 16), len(match[2].split()), match[3].strip()))
    return functions


def sections_of_functions(path):
    """The section of each function in an object file or archive."""
    text = subprocess.run(["objdump", "-t", path], check=True, capture_output=True, text=True).stdout
    pattern = re.compile(r"^[0-9a-f]{16} .{7} (\.text\S*)\s+[0-9a-f]{16} (?:\.hidden )?(\S+)$", re.MULTILINE)
    return {symbol: section for section, symbol in pattern.findall(text)}


class Hot:
    """One function of hot.cpp in one file."""

    def __init__(self, name, functions, passed):
        self.body = functions[name]
        self.cold = functions.get(f"{name}.cold", [])
        self.executed = [i for i in self.body if i.address in passed]
        self.skipped_calls = [i for i in self.body if i.address not in passed and i.text.startswith("call")]
        self.hot_bytes = self.executed[-1].address + self.executed[-1].size - self.body[0].address
        self.all_bytes = sum(i.size for i in self.body + self.cold if not PADDING.match(i.text))


class Code:
    """The functions of hot.cpp in one file, and the instructions that each executed."""

    def __init__(self, compiler, linkage, mode):
        self.compiler, self.linkage, self.mode = compiler, linkage, mode
        program = builds.directory(compiler, "plain") / f"{linkage}-hot-{mode}"
        self.functions = disassemble(program if mode != "pic" else program.with_name(f"lib{program.name}-plugin.so"))
        self.more, self.passed = {}, {}
        for line in subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines():
            name, plain, spanned, *addresses = line.split()
            self.more[name] = int(spanned) - int(plain)
            self.passed[name] = {int(address, 16) for address in addresses}
        self.hot = {name: Hot(name, self.functions, self.passed[name]) for name in PAIRS}
        for plain in ("hot_plain", "hot_plain_100"):
            every = {i.address for i in self.functions[plain] if not PADDING.match(i.text)}
            self.hot[plain] = Hot(plain, self.functions, every)

    def __str__(self):
        return f"{self.compiler:5} {self.linkage:6} {self.mode:5}"

    def added_bytes(self, name):
        """The bytes of .text that the span adds: up to the last executed instruction, and in total."""
        hot, plain = self.hot[name], self.hot["hot_plain_100" if name.endswith("_100") else "hot_plain"]
        return hot.hot_bytes - plain.hot_bytes, hot.all_bytes - plain.all_bytes


class MachineCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.codes = [Code(compiler, linkage, mode) for compiler in builds.COMPILERS for linkage in ("shared", "static")
                     for mode in MODES]

    def for_each(self, check):
        """Calls check(code, name) for each file's Code and each function's name."""
        for code in self.codes:
            for name in PAIRS:
                with self.subTest(compiler=code.compiler, linkage=code.linkage, mode=code.mode, function=name):
                    check(code, name)

    def test_a_disabled_span_executes_few_instructions(self):
        def check(code, name):
            limit = MEASURED[code.compiler].get(name, PROMISED[code.compiler, code.mode])
            self.assertLessEqual(code.more[name], limit)

        self.for_each(check)
        for code in self.codes:
            print(f"instructions more {code}", " ".join(f"{name[4:]} {code.more[name]}" for name in PAIRS))

    def test_it_calls_nothing_and_touches_no_thread_and_no_clock(self):
        def check(code, name):
            executed = code.hot[name].executed
            self.assertTrue(executed)
            for instruction in executed:
                if instruction.text.startswith("call"):
                    self.assertIn(f"<{BODY}>", instruction.text, "calls only what the function without it calls")
                self.assertNotRegex(instruction.text, r"%[fg]s:|rdtsc|syscall|lock ")
            # All other executed instructions belong to the called function, so no jump led elsewhere either.
            elsewhere = code.passed[name] - {i.address for i in executed} - {i.address for i in code.functions[BODY]}
            self.assertEqual(set(), elsewhere)

        self.for_each(check)

    def test_what_runs_for_a_listener_is_out_of_the_way(self):
        """gcc moves the code of the raised gate to NAME.cold in .text.unlikely. clang 14 does not split functions: it puts
        that code after the executed code."""
        def check(code, name):
            hot = code.hot[name]
            if code.compiler == "gcc":
                self.assertEqual([], [i.text for i in hot.skipped_calls])
                self.assertTrue(hot.cold)
                return
            self.assertTrue(hot.skipped_calls)
            # In a loop, clang puts that code after the loop and before the function's last instructions.
            last = max(i.address for i in hot.executed if not name.endswith("_100") or i.text.startswith("call"))
            self.assertEqual([], [i.text for i in hot.skipped_calls if i.address < last])

        self.for_each(check)

    def test_the_cold_parts_lie_in_a_section_of_their_own(self):
        """Checks the object file, because the linker merges all .text.unlikely sections."""
        for mode in MODES:
            objects = builds.directory("gcc", "plain") / "CMakeFiles" / f"shared-hot-{mode}-objects.dir"
            sections = sections_of_functions(objects / "hot.cpp.o") | sections_of_functions(objects / "hot_c.c.o")
            cold = {symbol: section for symbol, section in sections.items() if symbol.endswith(".cold")}
            self.assertLessEqual({f"{name}.cold" for name in PAIRS}, set(cold))
            for symbol, section in cold.items():
                self.assertTrue(section.startswith(".text.unlikely"), f"{symbol} is in {section}")

    def test_a_field_does_not_keep_a_variable_in_memory(self):
        """set() takes a reference. If it were a function of its own, a loop would store its variables in each round."""
        for compiler in builds.COMPILERS:
            path = builds.directory(compiler, "plain") / "CMakeFiles" / "static-hot-pie-objects.dir" / "hot.cpp.o"
            names = subprocess.run(["nm", "-C", path], check=True, capture_output=True, text=True).stdout
            self.assertNotRegex(names, r"FieldSetters<.*>::(set|content)<")

    def test_functions_that_the_headers_call_are_cold(self):
        """gcc puts functions that are declared cold into .text.unlikely. A ContextScope works while nobody listens, so its
        two functions are not cold."""
        archive = builds.directory("gcc", "plain") / "nopspan" / "libnopspan.a"
        where = sections_of_functions(archive)
        called = set()
        for program in ("static-pie-work.dir/work.cpp.o", "static-hot-pie-objects.dir/hot.cpp.o"):
            path = builds.directory("gcc", "plain") / "CMakeFiles" / program
            names = subprocess.run(["nm", "-u", path], check=True, capture_output=True, text=True).stdout.split()
            called |= {name for name in names if "_ZN7nopspan6detail" in name}
        self.assertGreater(len(called), 10)
        for symbol in sorted(name for name in called if not re.search("enter_context|leave_context", name)):
            with self.subTest(symbol):
                self.assertTrue(where[symbol].startswith(".text.unlikely"), f"in {where[symbol]}")

    def test_the_headers_declare_them_cold(self):
        """Every function of nopspan::detail in the headers is declared cold, except those that also run while nobody
        listens: find_span(), which the program itself asks for, and the two functions of a ContextScope."""
        declared = 0
        for header in sorted((surroundings.SOURCE / "include" / "nopspan").rglob("*.h")):
            # The blocks nopspan::detail { … } and llm::detail { … }, up to the closing brace on a line of its own.
            for block in re.findall(r"^namespace (?:\w+::)*detail \{$(.*?)^\}", header.read_text(encoding="utf-8"),
                                    re.M | re.S):
                for line in re.findall(r"^(?:\[\[.*?\]\] )?NOPSPAN_API[^;{]*\(", block, re.M):
                    declared += 1
                    with self.subTest(f"{header.name}: {line}"):
                        self.assertRegex(line, r"NOPSPAN_COLD|find_span\(|(enter|leave)_context\(")
        self.assertGreater(declared, 20)

    def test_bytes_of_hot_code_per_span_site(self):
        def check(code, name):
            self.assertLessEqual(code.added_bytes(name)[0], HOT_BYTES[code.compiler][name])

        self.for_each(check)
        for code in self.codes:
            print(f"bytes of .text a span adds, hot (all) {code}",
                  " ".join("{} {} ({})".format(name[4:], *code.added_bytes(name)) for name in PAIRS))


if __name__ == "__main__":
    if not surroundings.X86_64:
        surroundings.unable("the instructions are counted on x86-64 only")
    surroundings.main()
