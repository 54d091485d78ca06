# SPDX-License-Identifier: Apache-2.0
"""scripts/offcpu.bt: its waits agree with what the program itself measured."""

import collections
import os
import re
import subprocess

import harness
from example_service import lines_of
from harness import Program, Test, ability
from project_script import Script

# How long each thread of a run computes and sleeps (programs/waiting.cpp), in ms.
THREADS = 3
SLEEPS = {"wait.sleeps": 100, "wait.polls": 80, "wait.often": 20, "wait.outer": 30}
# The maps in which the script keeps data of threads and spans.
KEPT = ("_span", "_outer", "_name", "_off")


def need_tracefs():
    tried = subprocess.run(harness.with_tracefs(["test", "-e", "/sys/kernel/tracing/events/sched/sched_switch"]),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if tried.returncode != 0:
        ability.unable("no tracepoint sched_switch: " + tried.stdout.strip())


class OffCpuBt(Test):
    """One run under several instances of the script. Each test checks one thing."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = cls.folder_of_the_class()
        book = os.path.join(cls.folder, "book")
        with Program("waiting") as program, Program("waiting") as other:
            program.ask("open early")
            scripts = {"all": Script(cls.telling()), "pid": Script("offcpu.bt", program.pid),
                       "tenant": Script("offcpu.bt", 0, "acme")}
            with scripts["all"], scripts["pid"], scripts["tenant"]:
                program.ask("sleep 20")
                program.ask("run " + book)
                program.ask("close")
                program.ask("open of.tenant acme")
                program.ask("sleep 20")
                program.ask("close")
                cls.leave_open(other)
                for script in scripts.values():
                    script.stop()
        cls.maps = {name: script.maps() for name, script in scripts.items()}
        cls.lines = {name: script.lines for name, script in scripts.items()}
        cls.spans = collections.defaultdict(list)
        for line in lines_of(book):
            cls.spans[line["name"]].append(line)

    @classmethod
    def telling(cls):
        """A copy of the script that does not clear its internal maps at the end, so that they are printed."""
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
            killed.kill()

    def test_sleeping_spans(self):
        self.assertEqual({len(spans) for spans in self.spans.values()}, {THREADS})
        asleep = self.maps["pid"]["asleep_us"]
        for name, spans in self.spans.items():
            us = asleep[name].total if name in asleep else 0
            self.assertLessEqual(us * 1000, sum(span["most"]["wall_ns"] for span in spans), name)
            # Half of the time is far above what else a span does, and above the difference of the clocks.
            if name in SLEEPS:
                self.assertGreater(us, THREADS * SLEEPS[name] * 1000 / 2, name)
            else:
                self.assertLess(us, THREADS * 60 * 1000 / 2, name)

    def test_waits_are_the_switches_that_the_kernel_counted(self):
        for name, spans in self.spans.items():
            for key in ("asleep", "runnable"):
                least, most = (sum(span[side][key] for span in spans) for side in ("least", "most"))
                found = self.maps["pid"][key + "_us"].get(name)
                waits = found.count if found else 0
                # Not every kernel traces every context switch: Linux 6.18 missed one in a hundred.
                untraced = 3 + most // 20
                self.assertTrue(least - untraced <= waits <= most + untraced, (name, key, least, waits, most))

    def test_spans_of_the_process_alone(self):
        names = set(self.maps["pid"]["asleep_us"])
        self.assertLessEqual(set(SLEEPS) | {"of.tenant"}, names)
        self.assertEqual(names - set(self.spans) - {"of.tenant"}, set(),
                         "neither AsyncSpans, nor what began earlier, nor other processes'")

    def test_spans_of_the_tenant_alone(self):
        self.assertEqual(set(self.maps["tenant"]["asleep_us"]), {"of.tenant"})

    def test_stacks(self):
        stacks = re.findall(r"^@stacks_ms\[([^,]*), \n(.*?)^\]: \d+$", "\n".join(self.lines["pid"]), re.M | re.S)
        self.assertTrue(0 < len(stacks) <= 10)
        for name, kernel in (("wait.sleeps", "nanosleep"), ("wait.polls", "poll")):
            found = [stack for row, stack in stacks if row == name]
            self.assertTrue(found, (name, stacks))
            for stack in found:
                self.assertIn(kernel, stack)

    def test_no_thread_that_has_ended_is_in_a_span(self):
        maps = self.maps["all"]
        self.assertEqual({tid for tid, span in maps["_span"].items() if span}, set())
        self.assertEqual({name for name in maps["asleep_us"] if name.startswith("left.by_")} - {"left.by_kill"}, set())
        self.assertEqual(maps["no_room"].get("", 0), 0)


if __name__ == "__main__":
    harness.need("unshare", "mount")
    need_tracefs()
    harness.main("unshare", "mount", "readelf", own_processes=False)
