# SPDX-License-Identifier: Apache-2.0
"""A minimal tracer. It finds the probes of a file by its ELF notes, and attaches with perf_event_open(2) as perf
does."""

import ctypes
import os
import re
import struct
import subprocess


def probes_of(path):
    """{probe: (offset in the file, offset of its semaphore)} of the provider nopspan."""
    segments = []
    for line in subprocess.run(["readelf", "-lW", path], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        words = line.split()
        if words[:1] == ["LOAD"]:
            segments.append(tuple(int(word, 16) for word in words[1:3]) + (int(words[4], 16),))

    def in_file(address):
        return next(address - start + offset for offset, start, size in segments if start <= address < start + size)

    notes = subprocess.run(["readelf", "-nW", path], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.findall(r"Provider: nopspan\s+Name: (\w+)\s+Location: (\w+), Base: \w+, Semaphore: (\w+)", notes)
    return {name: (in_file(int(place, 16)), in_file(int(semaphore, 16))) for name, place, semaphore in found}


_SYSCALL_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
_libc = ctypes.CDLL(None, use_errno=True)


class Attached:
    """A counting uprobe on one probe in all processes. `ref_ctr_offset` makes the kernel raise the semaphore."""

    def __init__(self, path, place):
        offset, semaphore = place
        with open("/sys/bus/event_source/devices/uprobe/type", encoding="ascii") as file:
            event_type = int(file.read())
        name = ctypes.create_string_buffer(os.fsencode(path))
        # struct perf_event_attr: type, size, config, sample_period, sample_type, read_format, flags, wakeup, bp_type,
        # config1 (uprobe_path), config2 (probe_offset), zeroes.
        attributes = struct.pack("=IIQQQQQIIQQ", event_type, 128, semaphore << 32, 0, 0, 0, 0, 0, 0,
                                 ctypes.addressof(name), offset).ljust(128, b"\0")
        self.files = []
        for cpu in sorted(os.sched_getaffinity(0)):
            file = _libc.syscall(_SYSCALL_PERF_EVENT_OPEN, attributes, -1, cpu, -1, 8)  # 8: close on exec
            if file < 0:
                error = ctypes.get_errno()
                self.close()
                raise OSError(error, "perf_event_open: " + os.strerror(error))
            self.files.append(file)

    def hits(self):
        return sum(struct.unpack("=Q", os.read(file, 8))[0] for file in self.files)

    def close(self):
        for file in self.files:
            os.close(file)
        self.files = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
