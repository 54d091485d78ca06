# SPDX-License-Identifier: Apache-2.0
"""scripts/spans.bt as users run it counts what the handler of a known workload counted."""

import collections
import os

import harness
import installed
from harness import FLAG_ORPHAN, FLAG_REMOTE_PARENT, FLAG_STEP, Program, Test, canary_in

# How many names spans.bt counts, and how many of them have histograms.
NAMES, HISTOGRAMS = 4000, 100


def is_root(end):
    return (end["parent_id"] == "0" or bool(end["flags"] & FLAG_REMOTE_PARENT)) and not end["flags"] & (
        FLAG_ORPHAN | FLAG_STEP)


class SpansBt(Test):
    """The workload runs once in each test. Other programs on this host may use the library, under names that the test
    does not know."""

    def run_workload(self, program):
        """Each span end that its handler received: the event, and the span's name."""
        path = os.path.join(self.temporary_folder(), "handler.jsonl")
        self.assertEqual(program.ask("run " + path), "done")
        return harness.workload_ends(self, path)

    def check_counts(self, script, ends):
        names = {e["name"] for e in ends}
        for table, statuses in (("total", (0, 1, 2, 3)), ("total_errors", (1, 3)), ("total_cancelled", (2,))):
            handled = collections.Counter(e["name"] for e in ends if e["status"] in statuses)
            counted = {name: n for name, n in script.totals()[table].items() if name in names}
            self.assertEqual(counted, handled, table)

    def test_counts_and_slowest_requests_of_the_whole_host(self):
        with installed.SpansScript() as script:
            with Program("workload") as program:
                ends = self.run_workload(program)
            script.stop()
        self.check_counts(script, ends)
        roots = collections.defaultdict(int)
        for end in filter(is_root, ends):
            key = end["request_id"], program.pid, end["name"]
            roots[key] = max(roots[key], end["duration_ns"] // 1000)
        listed = {}
        for key, us in script.totals()["total_slowest_us"].items():
            request_id, pid, name = key.split(", ")
            if int(pid) == program.pid and not name.endswith("…"):
                listed[request_id, int(pid), name] = us
        self.assertTrue(listed)
        self.assertEqual(listed, {key: roots[key] for key in listed})
        self.assertEqual(max(listed.values()), max(roots.values()))

    def test_counts_of_one_process_add_up(self):
        with Program("workload") as program, Program("traced") as other:
            with installed.SpansScript(program.pid, "", 1, canary=canary_in(program)) as script:
                other.ask("span other 7")
                ends = self.run_workload(program)
                lines = script.stop()
        self.check_counts(script, ends)
        totals = script.totals()
        # No handler can be attached under the truncated name. Only the script saw those spans: 4 threads with 20 root
        # spans each.
        cut = [name for name in totals["total"] if name.endswith("…")]
        self.assertEqual([totals["total"][name] for name in cut], [80])
        self.assertEqual(totals["seen"], len(ends) + 80 + totals["total"]["canary"])
        self.assertEqual(totals["seen"], sum(totals["total"].values()))
        roots = sum(is_root(e) for e in ends)
        # Spans of the first second count as orphans, not as root spans, because their process ran when the script
        # attached. The handlers saw which of theirs do, but nobody saw the canaries and those of the truncated name.
        self.assertGreaterEqual(totals["requests"], roots)
        self.assertLessEqual(totals["requests"], roots + 80 + totals["total"]["canary"])
        # The third argument checks the sequence numbers for losses. None was lost, and none was counted twice.
        self.assertFalse([line for line in lines if line.startswith(("@lost", "@counted_twice"))])

    def test_one_tenant(self):
        """The check for losses covers all tenants, because the numbers of other tenants would otherwise look like
        losses."""
        with Program("workload") as program:
            with installed.Script("spans.bt", program.pid, "acme", 1) as script:
                ends = self.run_workload(program)
                script.stop()
        by_id = {e["span_id"]: e for e in ends}

        def tenant(end):
            while end is not None and "tenant" not in end:
                end = by_id.get(end["parent_id"])
            return end and end["tenant"]
        handled = collections.Counter(e["name"] for e in ends if tenant(e) == "acme")
        self.assertGreater(len(handled), 1, "of a span's own tenant, and of inherited ones")
        maps = script.maps()
        self.assertEqual(maps["total"], handled)
        self.assertEqual(maps["seen"][""], sum(handled.values()))
        self.assertFalse(set(maps) & {"lost", "counted_twice", "not_checked"})

    def test_more_names_than_it_has_room_for(self):
        names = ["name-%d" % number for number in range(NAMES + 9)]
        times = {name: 1 + number % 2 for number, name in enumerate(names)}
        with Program("traced") as program:
            with installed.Script("spans.bt", program.pid) as script:
                for name in names:
                    program.ask("span %s %d" % (name, times[name]))
                script.stop()
        maps = script.maps()
        self.assertEqual(maps["total"], {name: times[name] for name in names[:NAMES]})
        histograms = {name: sum(buckets.values()) for name, buckets in maps["total_latency_us"].items()}
        self.assertEqual(histograms, {name: times[name] for name in names[:HISTOGRAMS]})
        self.assertEqual(maps["without_histogram"], {"spans": sum(times[n] for n in names[HISTOGRAMS:NAMES])})
        self.assertEqual(maps["without_name"], {"spans": sum(times[name] for name in names[NAMES:])})
        self.assertEqual(maps["seen"][""], sum(times.values()))


if __name__ == "__main__":
    installed.main()
