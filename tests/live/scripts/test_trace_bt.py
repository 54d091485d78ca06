# SPDX-License-Identifier: Apache-2.0
"""scripts/trace.bt as users run it: the tree of a known request, and one request only."""

import collections
import os
import re

import installed
from harness import Program, Test, canary_in

# The spans and events of `points` in programs/traced.cpp, as (depth, mark, text). Times are removed.
TREE = [
    (0, "+", "llm.chat tiny-1"),
    (1, "+", "llm.step tiny-2"),
    (2, ".", "retry, attempt 2, after 500.000 ms rate_limit"),
    (2, ".", "first token after"),
    (1, "-", "llm.step ok"),
    (1, "+", "llm.tool tiny-1"),
    (2, ".", "tool call calculator error"),
    (1, "-", "llm.tool error division_by_zero"),
    (1, ".", "event app.cache_hit"),
    (1, "+", "engine.request tiny-1"),
    (2, ".", "first token after"),
    (1, "-", "engine.request ok"),
    (0, "-", "llm.chat ok"),
]


def without_times(text):
    if text.startswith("retry"):
        return text  # its delay was given
    return re.sub(r" \d+\.\d+ ms", "", text)


def on_one_cpu(program):
    """bpftrace prints the events of each CPU in order, but switches between CPUs at any time."""
    os.sched_setaffinity(program.pid, {min(os.sched_getaffinity(0))})


def tree_of(script, pid):
    rows = [row for row in script.rows() if row[0] == pid]
    # The probes are attached one by one, so only the ends of the first canaries are there if they ran in this program.
    while rows and rows[0][4] != "llm.chat tiny-1":
        del rows[0]
    return [(depth, mark, without_times(text)) for _, _, depth, mark, text in rows], {row[1] for row in rows}


class TraceBt(Test):
    def test_the_tree_of_a_request(self):
        with installed.TraceScript() as script:
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
            with installed.TraceScript("order-4711", canary=canary_in(program)) as script:
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
            with installed.Script("trace.bt", "", program.pid, "acme") as script:
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
        matches = (re.match(r" *[\d.]+ +(\d+) (\S+) +(?:\|  )*([+.-]) (\S+)", line) for line in lines)
        rows = [row for row in matches if row]
        self.assertEqual({(int(row[1]), row[2]) for row in rows} - {(program.pid, "more")}, {(program.pid, "wanted")})
        self.assertEqual(collections.Counter((row[3], row[4].rstrip(",")) for row in rows if row[2] == "wanted"),
                         collections.Counter((mark, text.split()[0].rstrip(",")) for _, mark, text in TREE))

    def test_spans_that_never_end(self):
        """The script forgets their depths, and the depths of later spans are right again."""
        stuck = Program("traced")
        self.addCleanup(installed.kill, stuck)
        with installed.TraceScript() as script:
            for number in range(5000):
                stuck.ask("attach stuck-%d" % number)
                stuck.ask("begin never_ends")
            script.wait_for(lambda: None, ["too many open spans"])
            installed.kill(stuck)
            with Program("traced") as program:
                on_one_cpu(program)
                program.ask("points")
            script.stop()
        self.assertEqual(tree_of(script, program.pid)[0], TREE)


if __name__ == "__main__":
    installed.main()
