# SPDX-License-Identifier: Apache-2.0
"""All hostile programs at once, for an hour if NOPSPAN_LONG=1, otherwise for 8 seconds. The commands that trace all
processes meanwhile need no more memory and descriptors after a while, lose nothing of a program beside them, and end in
time. NOPSPAN_SOAK_S sets the duration."""

import collections
import concurrent.futures
import contextlib
import glob
import itertools
import json
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import threading
import time

import ability
import harness
from cgroup import Cgroup
from collector import CollectorTest
from followed import Followed
from harness import LIBRARY, LONG, NOPSPAN, Counting, Program, program_path, run
from hostile import NOBODY, SOON_S, Unanswered, Unread, as_user

SECONDS = int(os.environ.get("NOPSPAN_SOAK_S", 3600 if LONG else 8))
WARM_UP_S = SECONDS / 6
SAMPLE_S = max(1, SECONDS // 360)
# How much the mean of the last quarter may exceed that of the first. In a short run, bounded queues still grow, and the
# quarters see different attacks.
MORE_MEMORY, MORE_DESCRIPTORS = (16 << 20, 16) if SECONDS >= 600 else (128 << 20, 64)
# The first one fills `trace --memory` soon. Otherwise a burst of another program might do so later, and trace would grow.
INVALID = ("unending 2000", "wild_pointers", "wrong_sizes", "garbage 300", "endless_streams 2000", "wild_sequences", "escapes",
           "strange_numbers", "amplified", "absent 20", "heavy_list 16000", "discarding_list", "list_to_itself",
           "wild_list", "list_without_end")

# In an hour, other programs of the machine may emit in bursts.
BUFFER = "128M" if LONG else "32M"

Size = collections.namedtuple("Size", "memory descriptors processes")


# The hostile programs. Each function runs until `stop` is set, and does only so much per second that a machine with two
# cores can follow. If a read of a user's process blocks, other processes of the user are left alone too, so each
# program has a user of its own.

def memory_that_blocks(stop):
    for what in itertools.cycle(("headers", "buffer")):
        with Unanswered(what):
            if stop.wait(5):
                return


def short_processes_that_map_new_files(stop):
    while not stop.wait(1):
        with as_user(NOBODY - 1, program_path("file_churn"), "FOLDER", program_path("sites_1.so"), "2", "2") as churn:
            churn.wait()


def files_with_many_sites(stop):
    while not stop.wait(1):
        with as_user(NOBODY - 2, program_path("file_churn"), "FOLDER", program_path("sites_250.so"), "4") as hog:
            hog.stdout.readline()
            stop.wait(4)


def invalid_data(stop):
    while not stop.is_set():
        with Program("hostile") as program:
            for command in INVALID:
                program.ask(command)
                if stop.wait(0.3):
                    break


def moves_between_cgroups(cgroup, stop):
    while not stop.is_set():
        with Program("hostile") as program:
            program.ask("list_to_itself")
            for _ in range(500):
                cgroup.put(program.pid)
                program.ask("good 1")
                cgroup.take_out(program.pid)
                program.ask("good 1")
                if stop.wait(0.01):
                    break


def many_forks(stop):
    while not stop.wait(0.5):
        run("forker")
        subprocess.run(["sh", "-c", "for i in $(seq 50); do (:) & done; wait"], check=True)


def ever_new_names(stop):
    for life in itertools.count():
        with Program("traced") as program:
            for number in range(5000):
                program.ask("span soak.%d.%d" % (life, number))
                if stop.wait(0.01):
                    return


def slow_reader(output, stop):
    while not stop.wait(0.5):
        if select.select([output], [], [], 0)[0]:
            os.read(output, 4096)


class Command(Followed):
    """A command of nopspan, of whose output only the end is kept."""

    def _read(self, stream, lines):
        for line in stream:
            lines[:] = [*lines[-20:], line.decode()] if lines is self.said else [line.decode()]


def descriptors_of(pid):
    """How many descriptors a process has, without those of files outside of the test. A collector keeps each file with
    probes open while it exists, with a link, and somebody may build programs on this machine meanwhile."""
    folder = "/proc/%d/fd/" % pid
    opened = []
    for number in os.listdir(folder):
        with contextlib.suppress(OSError):
            opened.append(os.readlink(folder + number))
    links = opened.count("anon_inode:bpf_link")
    foreign = [path for path in opened if path.startswith("/") and os.path.isfile(path) and "nopspan-live-" not in path]
    return len(opened) - len(foreign) - min(links, len(foreign))


def size_of(pid):
    """What a process and all its descendants use. A sample may miss one that ends meanwhile."""
    memory = descriptors = 0
    pids = [pid]
    for each in pids:
        with contextlib.suppress(OSError):
            for path in glob.glob("/proc/%d/task/*/children" % each):
                with open(path, encoding="ascii") as file:
                    pids += map(int, file.read().split())
            with open("/proc/%d/status" % each, encoding="utf-8", errors="replace") as file:
                resident = re.search(r"VmRSS:\s*(\d+)", file.read())
            memory += int(resident[1]) * 1024 if resident else 0
            descriptors += descriptors_of(each)
    return Size(memory, descriptors, len(pids))


def losses_in(path, pid):
    """{reason: count}: what a process lost, from a file of --metrics."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return {name: int(count) for name, count in
            re.findall(r'(?m)^nopspan_process_lost_total\{pid="%d".*reason="(\w+)"\} (\d+)' % pid, text)}


class Soak(CollectorTest):
    def setUp(self):
        self.folder = self.temporary_folder()
        self.ended = contextlib.ExitStack()
        self.addCleanup(self.ended.close)

    def metrics(self, name):
        return os.path.join(self.folder, name)

    def words(self, name, *words):
        # It ends also if this test is killed.
        return [name, *words, "--binary", LIBRARY, "--buffer", BUFFER, "--max-age", "100ms", "--metrics", self.metrics(name),
                "--duration", "%ds" % (SECONDS + 600)]

    def start(self, name, *words):
        command = self.ended.enter_context(Command([NOPSPAN, *self.words(name, *words)]))
        command.wait_while_it_runs(lambda: command.said or command.lines, "it to attach")
        return command

    def start_unread(self):
        trace = self.ended.enter_context(Unread(*self.words("trace", "--json")))
        trace.wait_until_it_says(b"Press Ctrl-C")
        return trace

    def start_hostile_programs(self, stop, output):
        cgroup = self.ended.enter_context(Cgroup(self, "nopspan-soak"))
        work = (memory_that_blocks, short_processes_that_map_new_files, files_with_many_sites, invalid_data,
                lambda stop: moves_between_cgroups(cgroup, stop), many_forks, ever_new_names,
                lambda stop: slow_reader(output, stop))
        pool = self.ended.enter_context(concurrent.futures.ThreadPoolExecutor(len(work)))
        self.ended.callback(stop.set)
        return [pool.submit(one, stop) for one in work]

    def watch(self, processes, running, victim):
        """Returns the sizes of the processes after the warm-up, in order, and prints them now and then."""
        sizes = {name: [] for name in processes}
        began = time.monotonic()
        while (now := time.monotonic() - began) < SECONDS:
            done, _ = concurrent.futures.wait(running, SAMPLE_S, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                future.result()
                self.fail("a hostile program ended")
            row = {name: size_of(process.pid) for name, process in processes.items()}
            for name, size in row.items():
                self.assertIsNone(processes[name].poll(), name)
                if now > WARM_UP_S:
                    sizes[name].append(size)
            print("%6d s %9d entries %s" % (now, victim.entries(), "  ".join(
                "%s: %d MiB, %d descriptors, %d processes" % (name, size.memory >> 20, *size[1:])
                for name, size in row.items())), file=sys.stderr, flush=True)
        return sizes

    def assert_flat(self, name, sizes):
        quarter = len(sizes) // 4
        for field, more in (("memory", MORE_MEMORY), ("descriptors", MORE_DESCRIPTORS)):
            values = [getattr(size, field) for size in sizes]
            first, last = statistics.mean(values[:quarter]), statistics.mean(values[-quarter:])
            print("%s: %s: %.1f at first, %.1f at the end" % (name, field, first, last), file=sys.stderr)
            self.assertLessEqual(last, first + more, (name, field, values))

    def test_nothing_grows_and_nothing_is_lost(self):
        stop = threading.Event()
        victim = self.ended.enter_context(Counting(self.folder, threads=2, pause_us=500))
        commands = {"record": self.start("record", "--force", "--json", "/dev/null"),
                    "top": self.start("top", "--json", "--interval", "5s"),
                    "hist": self.start("hist", "--json", "--interval", "5s")}
        trace = self.start_unread()
        victim.ask("start")
        running = self.start_hostile_programs(stop, trace.reader)
        processes = {**{name: command.process for name, command in commands.items()}, "trace": trace.process}
        sizes = self.watch(processes, running, victim)
        entries = int(victim.ask("stop"))

        status, said = trace.end(self)
        self.assertIn(status, (0, 1), said)
        for name, command in commands.items():
            began = time.monotonic()
            self.assertEqual(command.stop(signal.SIGINT), 0, command.said)
            self.assertLess(time.monotonic() - began, SOON_S, name)
        for name in processes:
            losses = losses_in(self.metrics(name), victim.pid)
            if name == "trace":
                losses.pop("export_dropped", None)  # because its reader is too slow
            self.assertEqual(losses, {}, name)
        for name in ("record", "hist"):
            row, = (row for row in json.loads(commands[name].lines[-1])["ledger"]["processes"] if row["pid"] == victim.pid)
            self.assertEqual((row["delivered"] + row["filtered"], row["emitted"]), (entries, entries), name)
        for name in ("top", "hist"):
            rows = json.loads(commands[name].lines[-1])["rows"]
            self.assertIn("counting.root", {row["name"] for row in rows})
        for name, found in sizes.items():
            self.assert_flat(name, found)


if __name__ == "__main__":
    # Ends what it has started also if it is ended itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not os.path.exists("/dev/fuse"):
        ability.unable("no /dev/fuse: modprobe fuse")
    harness.main()
