# SPDX-License-Identifier: Apache-2.0
"""scripts/trace.bt as users run it: the tree of a known request, one request only, and more lines than it can print."""

import collections
import os
import re

import harness
from harness import Program, Test, canary_in, wait_until
from project_script import Script, TraceScript

# The length of a burst, which must be too long for small buffers.
BURST = 20_000

# The spans and events of `points` in programs/traced.cpp, as (depth, mark, text). Times are removed.
TREE = [
    (0, "+", "llm.chat tiny-1"),
    (1, "+", "llm.step tiny-2"),
    (2, ".", "retry, attempt 2, after 500000 us rate_limit"),
    (2, ".", "first token after"),
    (1, "-", "llm.step ok"),
    (1, "+", "llm.tool tiny-1"),
    (2, ".", "calculator"),
    (1, "-", "llm.tool error division_by_zero"),
    (1, ".", "app.cache_hit"),
    (1, "+", "engine.request tiny-1"),
    (2, ".", "first token after"),
    (1, "-", "engine.request ok"),
    (0, "-", "llm.chat ok"),
]


def without_times(text):
    if text.startswith("retry"):
        return text  # its delay was given
    return re.sub(r" \d+ us", "", text)


def on_one_cpu(program):
    """bpftrace prints the events of each CPU in order, but switches between CPUs at any time."""
    os.sched_setaffinity(program.pid, {min(os.sched_getaffinity(0))})


def tree_of(script, pid):
    rows = [row for row in script.rows() if row[0] == pid]
    return [(depth, mark, without_times(text)) for _, _, depth, mark, text in rows], {row[1] for row in rows}


class OverrunTraceScript(Script):
    """trace.bt of one process, with the smallest buffers."""

    may_lose = True

    def __init__(self, pid):
        super().__init__("trace.bt", "", str(pid), env={"BPFTRACE_PERF_RB_PAGES": "1"})
        self.line = re.compile(r" *\d+ +%d \S+ [+-] (?:burst|after) " % pid)

    def shown(self):
        return sum(bool(self.line.match(line)) for line in list(self.lines))


class TraceBt(Test):
    def test_the_tree_of_a_request(self):
        with TraceScript() as script:
            with Program("traced") as program:
                on_one_cpu(program)
                program.ask("points")
            script.stop()
        tree, ids = tree_of(script, program.pid)
        self.assertEqual(tree, TREE)
        self.assertEqual(len(ids), 1)

    def test_one_request_alone(self):
        with Program("traced") as program:
            on_one_cpu(program)
            program.ask("attach order-4711")
            with TraceScript("order-4711", canary=canary_in(program)) as script:
                program.ask("points")
                program.ask("attach order-4712")
                program.ask("points")
                program.ask("detach")
                script.stop()
            program.ask("detach")
        tree, ids = tree_of(script, program.pid)
        self.assertEqual(ids, {"order-4711"})
        self.assertEqual(tree, TREE)

    def test_one_process_and_one_tenant(self):
        with Program("traced") as program, Program("traced") as other:
            with Script("trace.bt", "", program.pid, "acme") as script:
                other.ask("points")
                program.ask("attach wanted")
                program.ask("span without_tenant")
                program.ask("points")  # everything inside has this tenant
                program.ask("detach")
                # bpftrace continues to read if there is more.
                program.ask("attach more")
                script.wait_for(lambda: program.ask("points"), [r" wanted +- llm\.chat "])
                program.ask("detach")
                lines = script.stop()
        matches = (re.match(r" *\d+ +(\d+) (\S+) +(?:\|  )*([+.-]) (\S+)", line) for line in lines)
        rows = [row for row in matches if row]
        self.assertEqual({(int(row[1]), row[2]) for row in rows} - {(program.pid, "more")}, {(program.pid, "wanted")})
        self.assertEqual(collections.Counter((row[3], row[4].rstrip(",")) for row in rows if row[2] == "wanted"),
                         collections.Counter((mark, text.split()[0].rstrip(",")) for _, mark, text in TREE))

    def test_spans_that_never_end(self):
        """The script forgets them, and shows later spans."""
        stuck = Program("traced")
        self.addCleanup(stuck.kill)
        with TraceScript() as script:
            for number in range(5000):
                stuck.ask("attach stuck-%d" % number)
                stuck.ask("begin never_ends")
            script.wait_for(lambda: None, ["too many open spans"])
            stuck.kill()
            with Program("traced") as program:
                on_one_cpu(program)
                program.ask("points")
            script.stop()
        self.assertEqual(tree_of(script, program.pid)[0], TREE)

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
    harness.main("readelf", own_processes=False)
