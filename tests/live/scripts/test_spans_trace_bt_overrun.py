# SPDX-License-Identifier: Apache-2.0
"""Half a million spans from four threads at full speed. spans.bt counts each, or reports the losses. trace.bt cannot
print that fast, and reports how many lines it lost."""

import os
import re

import harness
import installed
from harness import SOURCE, Bpftrace, Program, Test, wait_until

SPANS = 500_000
# The length of a burst for trace.bt, which must be too long for small buffers.
BURST = 20_000


def make_spans(spans):
    """Runs programs/load.cpp until it has made at least this many spans, half of them inside the others. Returns its
    pid and the number of each."""
    with Program("load") as program:
        wait_until(lambda: 2 * int(program.ask("rounds")) >= spans, "%d spans" % spans)
        # The program's own arithmetic shows that a tracer did it no harm.
        if program.ask("stop") != "right":
            raise AssertionError("the program miscounted")
        return program.pid, int(program.ask("rounds"))


class LeakySpansScript(installed.SpansScript):
    """spans.bt, changed such that some probe hits do nothing, as if the kernel had missed them."""

    # Never the last span of a thread, whose loss cannot be detected.
    LEAK = '  if (strncmp(str(arg1), "load.inner", 63) == 0 && $r->sequence / 2 %% %d == %d) {\n    return;\n  }\n'
    EVERY = 5000

    def __init__(self, folder, *arguments):
        with open(os.path.join(SOURCE, "scripts", "spans.bt"), encoding="utf-8") as file:
            text = file.read()
        begin = "  $r = (struct nopspan_span *)arg5;\n"
        if text.count(begin) != 1:
            raise AssertionError("spans.bt has another shape than this test thinks")
        path = os.path.join(folder, "leaky-spans.bt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(begin, begin + self.LEAK % (self.EVERY, self.EVERY // 2)))
        self.name, self.canary = "leaky-spans.bt", harness.canary_program("traced")
        Bpftrace.__init__(self, [harness.BPFTRACE, path, *arguments])


class OverrunTraceScript(installed.Script):
    """trace.bt of one process, with the smallest buffers."""

    may_lose = True

    def __init__(self, pid):
        super().__init__("trace.bt", "", str(pid), env={"BPFTRACE_PERF_RB_PAGES": "1"})
        self.line = re.compile(r" *[\d.]+ +%d \S+ [+-] (?:burst|after) " % pid)

    def shown(self):
        return sum(bool(self.line.match(line)) for line in list(self.lines))


class ManySpans(Test):
    def test_counts_are_exact(self):
        with installed.SpansScript("0", "", "1") as script:
            pid, rounds = make_spans(SPANS)
            script.stop()
        totals = script.totals()
        self.assertEqual({name: n for name, n in totals["total"].items() if name.startswith("load.")},
                         {"load.outer": rounds, "load.inner": rounds})
        latency = script.maps()["total_latency_us"]
        self.assertEqual([sum(latency[name].values()) for name in ("load.outer", "load.inner")], [rounds, rounds])
        self.assertNotIn(str(pid), script.maps()["lost"])
        self.assertNotIn(str(pid), script.maps()["counted_twice"])

    def test_what_was_lost_and_what_was_counted_are_what_was_made(self):
        with LeakySpansScript(self.temporary_folder(), "0", "", "1") as script:
            pid, rounds = make_spans(SPANS)
            script.stop()
        total = script.totals()["total"]
        lost = script.maps()["lost"][str(pid)]
        self.assertEqual(total["load.outer"], rounds)
        self.assertEqual(total["load.inner"] + lost, rounds)
        self.assertGreater(lost, 0)

    def test_lines_shown_and_lines_lost_are_lines_made(self):
        with Program("traced") as program:
            # 0.27 counts only the losses on CPU 0.
            os.sched_setaffinity(program.pid, {min(os.sched_getaffinity(0))})
            with OverrunTraceScript(program.pid) as script:
                program.ask("span burst %d" % BURST)
                state = {"spans": BURST, "seen": None}

                def all_told():
                    seen = script.shown(), script.lost()
                    if sum(seen) == 2 * state["spans"]:
                        return True
                    # Losses are reported with the next line that finds room.
                    if seen == state["seen"]:
                        program.ask("span after")
                        state["spans"] += 1
                    state["seen"] = seen
                    return False
                wait_until(all_told, "lines shown and lines lost to be the lines made")
                script.stop()
        self.assertGreater(script.lost(), 0, "no burst")
        self.assertGreater(script.shown(), 0)


if __name__ == "__main__":
    installed.main()
