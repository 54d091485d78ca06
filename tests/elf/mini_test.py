# SPDX-License-Identifier: Apache-2.0
"""nopspan_mini.h, whose gate and sites are assembly in a header: with every compiler, language, level of optimization,
linker and kind of code, each note is there once, the gate is where tracers look for it, and a real bpftrace receives
exactly the program's events. NOPSPAN_LONG=1 builds all combinations, otherwise those that differ most."""

import concurrent.futures
import contextlib
import itertools
import os
import signal
import subprocess
import tempfile
import time
import unittest
from collections import Counter, namedtuple

import surroundings
from elf_file import ElfFile

LONG = surroundings.LONG
HEADER = surroundings.SOURCE / "include"
PROGRAM = surroundings.SOURCE / "tests" / "elf" / "programs" / "mini.c"
COMPILERS = {"gcc": ["gcc", "-std=c99"], "g++": ["g++", "-std=c++11", "-x", "c++"],
             "clang": ["clang", "-std=c99"], "clang++": ["clang++", "-std=c++11", "-x", "c++"]}
LINKERS = ("bfd", "gold", "lld")
# The options for the compiler and for the linker.
KINDS = {"pie": (["-fPIE"], ["-pie"]), "nopie": (["-fno-pie"], ["-no-pie"]), "static": (["-fno-pie"], ["-static"]),
         "pic": (["-fPIC", "-DMINI_LIBRARY"], []), "gc": (["-fPIE", "-ffunction-sections", "-fdata-sections"], ["-pie", "-Wl,--gc-sections"])}
LTO = {"none": [], "lto": ["-flto"], "thin": ["-flto=thin"], "max": ["-flto", "-flto-partition=max"]}
# Two files, or two copies of the header in one program, of which the linker must keep one.
LAYOUTS = ("files", "copies")

Build = namedtuple("Build", "compiler level linker kind lto layout")


def is_possible(build):
    gnu = build.compiler in ("gcc", "g++")
    if build.lto in ("lto", "max") and gnu:
        return build.linker != "lld" and build.kind != "static"  # lld reads no GIMPLE
    if build.lto == "max" or (build.lto == "thin" and (gnu or build.linker == "bfd")):
        return False
    return True


def builds():
    every = [Build(*each) for each in itertools.product(COMPILERS, ("-O0", "-O1", "-O2", "-O3"), LINKERS, KINDS, LTO, LAYOUTS)]
    if not LONG:
        # Each value of each axis, and the pairs that once broke something.
        wanted = {("gcc", "-O2", "bfd", "pie", "none", "files"), ("g++", "-O0", "gold", "gc", "none", "files"),
                  ("clang", "-O3", "lld", "pie", "none", "files"), ("clang++", "-O1", "lld", "pic", "lto", "files"),
                  ("gcc", "-O2", "bfd", "pie", "max", "copies"), ("g++", "-O3", "bfd", "pic", "lto", "copies"),
                  ("clang", "-O2", "lld", "nopie", "thin", "copies"), ("gcc", "-O1", "bfd", "static", "none", "copies"),
                  ("clang", "-O2", "bfd", "pie", "lto", "copies")}
        every = [build for build in every if tuple(build) in wanted]
        assert len(every) == len(wanted)
    return [build for build in every if is_possible(build)]


def name_of(build):
    return "-".join(part.lstrip("-").replace("+", "p") for part in build)


def run(*command):
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def compile_and_link(build, folder):
    """Returns the program and the file with its sites, or the error."""
    compiler, to_compile, to_link = COMPILERS[build.compiler], *KINDS[build.kind]
    name = os.path.join(folder, name_of(build))
    options = [build.level, "-g", "-Wall", "-Wextra", "-Werror", *to_compile, *LTO[build.lto], "-I", HEADER]
    copies = build.layout == "copies"
    parts = [(["-DMINI_PART=1", *(["-DMINI_COPIES", "-DNPM_IMPLEMENTATION"] if copies else [])], "1")]
    parts += [(["-DMINI_PART=2", "-DNPM_IMPLEMENTATION"], "2")]
    objects = []
    for defines, part in parts:
        objects.append("%s.%s.o" % (name, part))
        status, output = run(*compiler, *options, *defines, "-c", PROGRAM, "-o", objects[-1])
        if status != 0 or output:
            return build, None, None, output
    lto = [option.replace("-flto", "-flto=auto") if option == "-flto" and "clang" not in build.compiler else option
           for option in LTO[build.lto]]
    driver = [compiler[0], build.level, *lto, "-fuse-ld=" + build.linker]
    sites = name
    if build.kind == "pic":
        sites = name + ".so"
        status, output = run(*driver, "-shared", *objects, "-o", sites)
        if status == 0:
            with open(name + ".c", "w", encoding="ascii") as file:
                file.write("int run(int, char**);\nint main(int argc, char** argv) { return run(argc, argv); }\n")
            status, output = run("gcc", name + ".c", sites, "-Wl,-rpath," + folder, "-o", name)
    else:
        status, output = run(*driver, *to_link, *objects, "-o", name)
    return build, name if status == 0 else None, sites, output


class Traced:
    """bpftrace on some files. Counts the names of spans and events by probe."""

    def __init__(self, files):
        self.output = tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace")
        self.script = tempfile.NamedTemporaryFile("w", suffix=".bt")
        for probe in ("span_start", "span_stop", "event"):
            points = ",\n".join('usdt:"%s":nopspan:%s' % (file, probe) for file in files)
            self.script.write('%s { printf("%s %%s %%s %%d\\n", str(arg1), str(arg3), arg4 != 0); }\n' % (points, probe))
        self.script.flush()
        with open(self.output.name, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(["bpftrace", self.script.name], stdout=out, stderr=subprocess.DEVNULL,
                                            env=dict(os.environ, BPFTRACE_MAX_PROBES=str(3 * len(files) + 512)))

    def lines(self, name):
        with open(self.output.name, encoding="utf-8", errors="replace") as file:
            return Counter(line.strip() for line in file if " %s." % name in line)

    def stop(self):
        while self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=1)
        self.output.close()
        self.script.close()


def expected(name, copies):
    times = 2 if copies else 1
    return Counter({"span_start %s.request  1" % name: times, "span_start %s.child a-model 1" % name: times,
                    "event %s.event a-model 1" % name: times, "span_stop %s.child a-model 1" % name: times,
                    "span_stop %s.request a-model 0" % name: times})


class Mini(surroundings.AbiTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nopspan-elf-")
        cls.addClassCleanup(folder.cleanup)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            cls.built = list(pool.map(lambda build: compile_and_link(build, folder.name), builds()))
        print("%d programs" % len(cls.built))

    def test_everything_compiles_and_links_without_a_warning(self):
        for build, program, _, output in self.built:
            with self.subTest(name_of(build)):
                self.assertEqual("", output)
                self.assertIsNotNone(program)

    def test_every_note_is_there_once_with_its_arguments(self):
        for build, program, sites, _ in self.built:
            with self.subTest(name_of(build)):
                if program is not None:
                    elf = ElfFile(sites)
                    if (build.lto, build.layout) == ("thin", "copies"):
                        continue  # lld keeps all copies of what ThinLTO compiles. All but one are not used.
                    self.assertEqual([], self.abi.defects(elf, stripped=True))
                    for note in elf.notes:
                        site = elf.symbols()["npm1_site_" + note.name]
                        self.assertTrue(site.value <= note.location < site.value + site.size, note.name)

    def test_other_platforms(self):
        """aarch64 has the same notes. On Windows and 32-bit machines the functions do nothing, and need no implementation."""
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "mini")
            for compiler in ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++"):
                language = ["-x", "c++", "-std=c++11"] if compiler.endswith("++") else ["-std=c99"]
                with self.subTest(compiler):
                    self.assertEqual((0, ""), run(compiler, *language, "-O2", "-Wall", "-Wextra", "-Werror", "-I", HEADER, "-DMINI_PART=1",
                                                  "-DNPM_IMPLEMENTATION", "-fPIE", "-pie", PROGRAM, "-o", program))
                    self.assertEqual([], self.abi.defects(ElfFile(program), stripped=True))
            for compiler in ("x86_64-w64-mingw32-gcc-posix", "x86_64-w64-mingw32-g++-posix", "i686-linux-gnu-gcc", "i686-linux-gnu-g++"):
                language = ["-x", "c++", "-std=c++11"] if "++" in compiler else ["-std=c99"]
                for level in ("-O0", "-O2"):
                    with self.subTest(compiler + " " + level):
                        self.assertEqual((0, ""), run(compiler, *language, level, "-Wall", "-Wextra", "-Werror", "-I", HEADER, "-DMINI_PART=1",
                                                      PROGRAM, "-o", program))
                        if compiler.startswith("i686"):
                            self.assertEqual((0, "enabled 0\n"), self.run_once(program, "shell"))
            for compiler, command in COMPILERS.items():  # clang keeps more code that is never reached than gcc
                with self.subTest(compiler):
                    self.assertEqual((0, ""), run(*command, "-O0", "-DNPM_DISABLE", "-Wall", "-Wextra", "-Werror", "-I", HEADER, "-DMINI_PART=1", PROGRAM, "-o", program))
                    self.assertEqual((0, "enabled 0\n"), self.run_once(program, "disabled"))

    def test_the_static_library_in_the_same_file_is_refused(self):
        """A tracer sees one of two gates in a file. The shared library, and two copies of the header, are possible."""
        with tempfile.TemporaryDirectory() as folder:
            sites = os.path.join(folder, "sites.o")
            self.assertEqual((0, ""), run("gcc", "-c", surroundings.SOURCE / "probes" / "sites.S", "-o", sites))
            shared = os.path.join(folder, "shared.so")
            self.assertEqual((0, ""), run("gcc", "-shared", sites, "-o", shared))
            for compiler, linker, lto in itertools.product(("gcc", "clang"), LINKERS, ([], ["-flto"])):
                if lto and linker == "lld":
                    continue  # it reads no GIMPLE, and refuses nothing
                with self.subTest("%s %s %s" % (compiler, linker, lto)):
                    objects = [os.path.join(folder, name) for name in ("1.o", "2.o")]
                    for part, output in enumerate(objects, 1):
                        self.assertEqual((0, ""), run(compiler, *lto, "-O2", "-fPIE", "-I", HEADER, "-DMINI_PART=%d" % part, "-DMINI_COPIES",
                                                      "-DNPM_IMPLEMENTATION", "-c", PROGRAM, "-o", output))
                    program = os.path.join(folder, "program")
                    link = [compiler, *(["-flto=auto"] if lto and compiler == "gcc" else lto), "-fuse-ld=" + linker, *objects, "-o", program]
                    status, output = run(*link, sites)
                    self.assertNotEqual(0, status)
                    self.assertIn("nopspan_mini_and_the_static_library_cannot_be_in_one_file", output)
                    self.assertEqual((0, ""), run(*link, shared))

    def run_once(self, program, name):
        process = subprocess.Popen([program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual("ready\n", process.stdout.readline())
        said, _ = process.communicate("\n")
        return process.returncode, said

    def test_a_tracer_receives_what_the_program_does(self):
        surroundings.need_bpftrace()
        programs = [(build, program, sites) for build, program, sites, _ in self.built if program is not None]
        for first in range(0, len(programs), 24):
            some = programs[first:first + 24]
            traced = Traced([sites for _, _, sites in some])
            self.addCleanup(traced.stop)
            number = 0
            waiting = some
            deadline = time.monotonic() + 120
            while waiting and time.monotonic() < deadline:
                # Until the probes are up, a run of a program is reported in part.
                number += 1
                for place, (build, program, _) in enumerate(waiting):
                    self.assertEqual(0, self.run_once(program, "m%d.%d.%d" % (first, number, place))[0], name_of(build))
                time.sleep(0.3)
                waiting = [each for place, each in enumerate(waiting)
                           if traced.lines("m%d.%d.%d" % (first, number, place)) != expected("m%d.%d.%d" % (first, number, place), each[0].layout == "copies")]
            self.assertEqual([], [name_of(build) for build, _, _ in waiting])
            for place, (build, program, _) in enumerate(some):
                self.assertEqual((0, "enabled 1\n"), self.run_once(program, "last%d.%d" % (first, place)), name_of(build))
            time.sleep(0.5)
            for place, (build, _, _) in enumerate(some):
                with self.subTest(name_of(build)):
                    self.assertEqual(expected("last%d.%d" % (first, place), build.layout == "copies"), traced.lines("last%d.%d" % (first, place)))
            traced.stop()
        for build, program, _ in programs[:8]:
            with self.subTest(name_of(build)):
                self.assertEqual((0, "enabled 0\n"), self.run_once(program, "after"))


if __name__ == "__main__":
    surroundings.main()
