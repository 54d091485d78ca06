# SPDX-License-Identifier: Apache-2.0
"""scripts/offcpu.bt: its times and waits agree with what the program itself measured."""

import collections
import os
import re
import shutil
import subprocess
import tempfile

import harness
import installed
from example_service import lines_of
from harness import PATIENCE_S, Program, Test, ability

MS = 1_000_000

# How long each thread of a run computes and sleeps (programs/waiting.cpp), in ms.
THREADS = 3
COMPUTES = {"wait.computes": 60, "wait.outer": 20}
SLEEPS = {"wait.sleeps": 100, "wait.polls": 80, "wait.often": 20, "wait.outer": 30}
MOST_DEPTH = 16
MOST_ROWS = 100
# The maps in which the script keeps data of threads. It must delete the data when the spans are over.
KEPT = ("_depth", "_id", "_name", "_changed", "_switched", "_out", "_kernel", "_user")


def need_tracefs():
    tried = subprocess.run(harness.with_tracefs(["test", "-e", "/sys/kernel/tracing/events/sched/sched_switch"]),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if tried.returncode != 0:
        ability.unable("no tracepoint sched_switch: " + tried.stdout.strip())


class OffCpuScript(installed.Script):
    def __init__(self, *arguments, path="offcpu.bt"):
        super().__init__(path, *arguments)

    def wait_until_up(self):
        self.wait_for_line(lambda line: line.startswith("Counting"), "offcpu.bt to count")

    def stacks(self):
        """(name, the stacks of kernel and program as one text) of the stacks printed last."""
        text = "\n".join(self.lines)
        text = text[text.rindex("\nTotals of "):]
        return re.findall(r"^@stacks_ms\[([^,]*), \n(.*?)^\]: \d+$", text, re.M | re.S)


class OffCpuBt(Test):
    """One run under several instances of the script. Each test checks one thing."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        cls.folder = folder
        book = os.path.join(folder, "book")
        with Program("waiting") as program, Program("waiting") as other:
            program.ask("open early")
            scripts = {"all": OffCpuScript(path=cls.telling()), "pid": OffCpuScript(program.pid),
                       "tenant": OffCpuScript(0, "acme")}
            with scripts["all"], scripts["pid"], scripts["tenant"]:
                program.ask("sleep 20")
                program.ask("run " + book)
                program.ask("close")
                program.ask("sleep 20")
                program.ask("open of.tenant acme")
                program.ask("sleep 20")
                program.ask("close")
                cls.leave_open(other)
                other.ask("deep %d" % (MOST_DEPTH + 4))
                other.ask("names %d" % MOST_ROWS)
                for script in scripts.values():
                    script.stop()
        cls.maps = {name: script.maps() for name, script in scripts.items()}
        cls.stacks = scripts["pid"].stacks()
        cls.spans = collections.defaultdict(list)
        for line in lines_of(book):
            cls.spans[line["name"]].append(line)

    @classmethod
    def telling(cls):
        """A copy of the script that does not clear its per-thread maps at the end, so that they are printed."""
        with open(os.path.join(harness.SOURCE, "scripts", "offcpu.bt"), encoding="utf-8") as file:
            text = file.read()
        path = os.path.join(cls.folder, "telling.bt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(re.sub(r"^  clear\(@(%s)\);\n" % "|".join(KEPT), "", text, flags=re.M))
        return path

    @staticmethod
    def leave_open(program):
        """Makes spans whose thread, program or process ends before they do."""
        program.ask("thread")
        assert program.ask("exec").startswith("ready")
        program.ask("sleep 20")
        with Program("waiting") as killed:
            killed.ask("open left.by_kill")
            killed.process.kill()
            killed.process.wait(PATIENCE_S)
            # __exit__ would take any other status for a failure.
            killed.process.returncode = 0

    def bounds(self, name, key):
        """The range in which the sum over the spans of this name must be, measured just inside and just outside of
        them."""
        return tuple(sum(span[side][key] for span in self.spans[name]) for side in ("least", "most"))

    def unsure(self, name):
        """How many measurements of a name the script reports as unsure."""
        return self.maps["pid"]["unsure"].get(name, 0)

    def times(self, name, script="pid"):
        return {key: self.maps[script][key][name] for key in ("on_cpu_ms", "asleep_ms", "runnable_ms")
                if name in self.maps[script][key]}

    def test_time_is_all_of_the_spans(self):
        self.assertEqual({len(spans) for spans in self.spans.values()}, {THREADS})
        for name in self.spans:
            times = self.times(name)
            least, most = self.bounds(name, "wall_ns")
            self.assertLessEqual(sum(times.values()) * MS, most, (name, times))
            # The script prints whole milliseconds, rounded down.
            if self.unsure(name) == 0:
                self.assertGreater((sum(times.values()) + len(times)) * MS, least, (name, times))

    def test_waits_are_the_switches_that_the_kernel_counted(self):
        for name in self.spans:
            unsure = self.unsure(name)
            for key in ("asleep", "runnable"):
                least, most = self.bounds(name, key)
                waits = sum(self.maps["pid"][key + "_us"].get(name, {}).values())
                # Not every kernel traces every context switch: Linux 6.18 missed one in a hundred.
                untraced = 3 + most // 20
                self.assertTrue(least - unsure - untraced <= waits <= most + untraced,
                                (name, key, least, waits, most, unsure))

    def test_computing_is_on_and_sleeping_off_the_cpu(self):
        # Half of the time is far above what else a span does, and above the difference of the clocks.
        for name, ms in COMPUTES.items():
            self.assertGreater(self.times(name)["on_cpu_ms"], THREADS * ms / 2, name)
        for name, ms in SLEEPS.items():
            self.assertGreater(self.times(name)["asleep_ms"], THREADS * ms / 2, name)
        self.assertLess(self.times("wait.computes").get("asleep_ms", 0), THREADS * 60 / 2)

    def test_spans_of_the_process_alone(self):
        self.assertEqual(set(self.maps["pid"]["on_cpu_ms"]), {*self.spans, "of.tenant"},
                         "neither AsyncSpans, nor what began earlier, nor other processes'")

    def test_spans_of_the_tenant_alone(self):
        self.assertEqual(set(self.maps["tenant"]["on_cpu_ms"]), {"of.tenant"})
        self.assertEqual(set(self.maps["tenant"]["asleep_us"]) - {"of.tenant"}, set())

    def test_stacks(self):
        self.assertLessEqual(len(self.stacks), 10)
        for name, kernel, function in (("wait.sleeps", "nanosleep", "waiting_sleeps"),
                                       ("wait.polls", "poll", "waiting_polls")):
            stacks = [stack for row, stack in self.stacks if row == name]
            self.assertTrue(stacks, (name, self.stacks))
            for stack in stacks:
                self.assertIn(kernel, stack)
            if harness.in_chroot():
                continue  # libbcc resolves no names there
            # At least one thread must have names, because libbcc 0.26 may close the files from which it reads them
            # (iovisor/bcc#5193).
            self.assertTrue(any(re.search(r"\n +%s\+" % function, stack) for stack in stacks), stacks)

    def test_deep_spans_are_the_last_known_ones(self):
        maps = self.maps["all"]
        deep = {int(name.split(".")[1]) for name in maps["on_cpu_ms"] if name.startswith("deep.")}
        self.assertEqual(deep, set(range(5, MOST_DEPTH + 5)))
        self.assertEqual(list(maps["deeper"].values()), [4])
        self.assertGreater(sum(maps["asleep_us"]["deep.5"].values()), 10)

    def test_names_beyond_the_limit_share_a_row(self):
        maps = self.maps["all"]
        rows = {name for name in maps["on_cpu_ms"] if name}
        left = {"left.by_thread", "left.by_exec", "left.by_kill"}
        # If two CPUs see a new name at the same time, both count it, and there is a row less.
        self.assertIn(len(rows | left), range(MOST_ROWS - 3, MOST_ROWS + 1))
        named = sum(name.startswith("name.") for name in rows)
        self.assertEqual(list(maps["other_names"].values()), [MOST_ROWS - named])
        self.assertIn("", maps["on_cpu_ms"])

    def test_nothing_is_kept_of_spans_that_never_ended(self):
        kept = {name: self.maps["all"][name] for name in KEPT if self.maps["all"].get(name)}
        self.assertEqual(kept, {})


if __name__ == "__main__":
    harness.need("unshare", "mount")
    need_tracefs()
    installed.main("unshare", "mount")
