#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which part of the tree may include which. The arrows of docs/architecture.md go one way."""
import re
import subprocess
import unittest
from pathlib import Path

import surroundings

# The headers of spans, events and catalogues. They must not include the registry, directly or indirectly.
LIGHT = ("agent.h", "c.h", "context.h", "coroutine.h", "engine.h", "execute.h", "fiber.h", "fields.h", "genai_spans.h", "llm.h",
         "mcp.h", "probes.h", "propagation.h", "semconv.h", "span.h", "stream.h", "types.h")
# The headers of libc, the C++ ABI and the processor that the library uses. It depends on nothing else.
SYSTEM = re.compile(r"(cpuid|cxxabi|dirent|dlfcn|elf|errno|fcntl|poll|pthread|sched|semaphore|signal|strings|time|unistd|unwind|wmmintrin|sys/\w+)\.h")
# Headers of other projects that the library uses. Nothing of them is left at run time.
BUILD_TIME = {("nlohmann/json.hpp", Path("src/library/genai/prices.cpp"))}
# Folders whose files may include internal headers, and one program that is the collector's source without a command.
INSIDE = {("bench", "collector"), ("tests", "collector"), ("tests", "unit"), ("tests", "fuzz"),
          Path("tests/live/programs/collect.cpp")}


def rooms_of(folder):
    """{room: the other rooms that its files may include}, from the table in docs/architecture.md, lowest first."""
    rows = re.search(rf"\| room of `{folder}` .*\n\|[ -|]*\n((?:\|.*\n)+)", surroundings.read(Path("docs/architecture.md")))[1]
    rooms = {}
    for row in rows.splitlines():
        names, _, included = row.strip("|").split("|")
        named = set(re.findall(r"`(\w+)`", included))
        allowed = set(rooms) - named if "all" in included else named
        rooms.update({name: allowed for name in re.findall(r"`(\w+)`", names)})
    return rooms


LIBRARY_ROOMS, COLLECTOR_ROOMS = rooms_of("src/library/"), rooms_of("src/collector/")
# The library nopspan::recording is built from its own room, with headers of these rooms of the collector.
RECORDER_ROOMS = {"recorder", "base", "recording", "stream"}
HANDLERS = {"recording.h", "registry.h", "event.h", "log.h", "testing.h", "testing_gmock.h", "genai.h", "opentelemetry.h"}

# Public headers for C.
IN_C = ("c.h", "nopspan_mini.h")

def includes(path):
    """[(opening, name)] of a file's #include lines: ("<", "nopspan/span.h")."""
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', surroundings.read(path), re.M)


def standard_headers():
    """The names of the C++ standard headers that the compiler finds."""
    done = subprocess.run(["g++", "-v", "-E", "-x", "c++", "/dev/null"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, check=True)
    listed = re.search(r"search starts here:\n(.*?)End of search list", done.stderr, re.S)[1].split()
    folder = next(Path(path) for path in listed if re.search(r"/c\+\+/\d+$", path))
    return {path.name for path in folder.iterdir() if path.is_file() and path.suffix == ""}


class Arrows(unittest.TestCase):
    def folder(self, *parts):
        found = [path for path in surroundings.files(".h", ".cpp", ".c", ".S") if path.parts[:len(parts)] == parts]
        self.assertTrue(found, f"there is nothing in {'/'.join(parts)}")
        return found

    def public_headers(self):
        """The paths of all public headers, as an #include has them, including those in nopspan/detail/."""
        return {str(path.relative_to("include")) for path in self.folder("include", "nopspan")}

    def test_public_headers_include_nopspan_and_the_standard_library(self):
        standard = standard_headers()
        public = self.public_headers()
        for path in self.folder("include"):
            for opening, name in includes(path):
                self.assertEqual(opening, "<", f"{path}: {name}")
                outside = path.name == "testing_gmock.h" and name in ("gmock/gmock.h", "gtest/gtest.h")
                outside = outside or (path.name == "opentelemetry.h" and name.startswith("opentelemetry/"))
                of_c = path.name in IN_C and name in ("stdbool.h", "stddef.h", "stdint.h", "stdlib.h", "string.h")
                self.assertTrue(name in public or name in standard or outside or of_c, f"{path} includes <{name}>")

    def test_spans_do_not_know_the_registry(self):
        for header in LIGHT:
            reached, left = set(), [header]
            while left:
                at = left.pop()
                for _, name in includes(Path("include/nopspan") / at):
                    if name.startswith("nopspan/") and name[8:] not in reached:
                        reached.add(name[8:])
                        left.append(name[8:])
            self.assertEqual(reached & HANDLERS, set(), f"{header} reaches {reached & HANDLERS}")

    def test_every_public_header_is_light_or_known_not_to_be(self):
        names = {path.name for path in self.folder("include", "nopspan") if path.parent.name != "detail"}
        self.assertEqual(names - set(LIGHT) - HANDLERS - {"stats.h", "version.h"}, set(), "add it to LIGHT or to HANDLERS")

    def test_the_probes_header_includes_nothing(self):
        self.assertEqual(includes(Path("include/nopspan/probes.h")), [])

    def test_src_includes_itself_and_the_public_headers(self):
        public = {str(path) for path in self.folder("include", "nopspan")}
        standard = standard_headers()
        for path in self.folder("src"):
            for opening, name in includes(path):
                if path.parts[1] == "collector":
                    # The collector knows the library by the ABI of its probes only, and the names of the conventions.
                    self.assertFalse(name.startswith("nopspan/") and name not in ("nopspan/probes.h", "nopspan/semconv.h"), f"{path}: {name}")
                elif opening == "<":
                    known = (name in standard or (path.parts[1] == "opentelemetry" and name.startswith("opentelemetry/")) or SYSTEM.fullmatch(name) or f"include/{name}" in public
                             or (name, path) in BUILD_TIME)
                    self.assertTrue(known, f"{path} includes <{name}>")
                self.assertNotEqual(name, "sys/sdt.h", f"{path}: the sites are in probes/sites.S")

    def test_the_tables_of_rooms_run_one_way(self):
        for rooms in (LIBRARY_ROOMS, COLLECTOR_ROOMS):
            below = set()
            for room, known in rooms.items():
                self.assertLessEqual(known, below, f"{room} may include a room that is not above it in the table")
                below.add(room)

    def test_rooms_include_only_what_the_tables_allow(self):
        for path in self.folder("src"):
            *_, room, _ = path.parts
            if room == "opentelemetry":
                self.assertEqual([name for opening, name in includes(path) if opening == '"' and "/" in name], [], path)
                continue
            if room == "recorder":
                allowed = RECORDER_ROOMS
                for opening, name in includes(path):
                    self.assertTrue(opening == "<" or name.split("/")[0] in allowed, f'{path} includes "{name}"')
                continue
            rooms = COLLECTOR_ROOMS if path.parts[1] == "collector" else LIBRARY_ROOMS
            self.assertIn(room, rooms, f"{path}: a room that the table of rooms does not have")
            for opening, name in includes(path):
                if opening == '"':
                    self.assertIn(name.split("/")[0], {room, *rooms[room]}, f'{path} includes "{name}"')

    def test_nopspan_recording_needs_only_the_standard_library(self):
        """Also the headers that it shares with the collector, and all that these include."""
        self.assertNotIn("collector/", surroundings.read(Path("src/recorder/CMakeLists.txt")).replace("src/collector ", ""))
        left = self.folder("src", "recorder")
        standard, seen = standard_headers(), set()
        while left:
            path = left.pop()
            if path in seen:
                continue
            seen.add(path)
            for opening, name in includes(path):
                if opening == '"':
                    left += [at for at in (Path("src") / name, Path("src/library") / name, Path("src/collector") / name) if (surroundings.SOURCE / at).exists()]
                else:
                    known = name in standard or SYSTEM.fullmatch(name) or name.startswith("nopspan/") or name == "collector_events.h"
                    self.assertTrue(known, f"{path} includes <{name}>")

    def test_bpf_programs_include_nothing_of_the_collectors(self):
        """BPF programs include only the kernel's public headers, the probes' and libbpf's headers, and the headers of
        their own events."""
        for path in surroundings.tree():
            if path.name.endswith(".bpf.c"):
                own = path.name[:-len(".bpf.c")]
                for _, name in includes(path):
                    allowed = (name in ("asm/ptrace.h", "linux/bpf.h", "stdbool.h", "nopspan/probes.h") or
                               name.startswith(("bpf/", own)))
                    self.assertTrue(allowed, f"{path} includes {name}")

    def test_what_uses_nopspan_uses_its_public_headers(self):
        """Examples, benchmarks and tests include public headers only. Tests may also read the gate. Unit tests, the
        collector's tests and fuzz targets may include internal headers."""
        public = {name for name in self.public_headers() if "/detail/" not in name}
        for path in self.folder("examples") + self.folder("bench") + self.folder("tests"):
            inside = path in INSIDE or path.parts[:2] in INSIDE
            for opening, name in includes(path):
                if name.startswith("nopspan/"):
                    allowed = name in public or (name == "nopspan/detail/gate.h" and path.parts[0] == "tests")
                    self.assertTrue(allowed, f"{path} includes <{name}>")
                elif opening == '"' and not inside:
                    home = surroundings.SOURCE / path.parent
                    self.assertTrue((home / name).is_file() or self.in_own_folder(path, name), f'{path} includes "{name}"')
                    self.assertNotIn("src/", name, str(path))
                    self.assertNotIn("include/nopspan", name, str(path))

    @staticmethod
    def in_own_folder(path, name):
        """Whether `name` is a file of the same part of the project (examples, tests/live, …), or of tests/support."""
        part = 2 if path.parts[0] == "tests" else 1
        folders = [surroundings.SOURCE.joinpath(*path.parts[:part]), surroundings.SOURCE / "tests" / "support"]
        return any((folder / name).is_file() for folder in folders)


surroundings.need("g++")
surroundings.main()
