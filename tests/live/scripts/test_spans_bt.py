# SPDX-License-Identifier: Apache-2.0
"""scripts/spans.bt counts what the handler of a known workload counted, and many spans from four threads at full
speed."""

import collections
import os

import harness
from harness import LONG, Counting, Program, Test, wait_until
from project_script import Script

SPANS = 500_000 if LONG else 100_000


class SpansBt(Test):
    def run_workload(self, program):
        """Each span end that its handler received: the event, and the span's name."""
        path = os.path.join(self.temporary_folder(), "handler.jsonl")
        self.assertEqual(program.ask("run " + path), "done")
        return harness.workload_ends(self, path)

    def test_counts_and_slowest_requests_of_one_process(self):
        with Program("traced") as other, Script("spans.bt") as all_of_them:
            with Program("workload") as program, Script("spans.bt", program.pid) as script:
                other.ask("span other 7")
                ends = self.run_workload(program)
                script.stop()
            all_of_them.stop()
        maps = script.maps()
        # No handler can be attached under the truncated name. Only the script saw those spans: 4 threads with 20 root
        # spans each.
        self.assertEqual([n for name, n in maps["spans"].items() if name.endswith("…")], [80])
        for table, statuses in (("spans", (0, 1, 2, 3)), ("errors", (1, 3)), ("cancelled", (2,))):
            handled = collections.Counter(e["name"] for e in ends if e["status"] in statuses)
            self.assertEqual({name: n for name, n in maps[table].items() if not name.endswith("…")}, handled, table)
            found = all_of_them.maps()[table]
            self.assertEqual({name: found.get(name) for name in handled}, handled, table)
        self.assertEqual(all_of_them.maps()["spans"]["other"], 7)

        roots = collections.defaultdict(int)
        for end in filter(harness.is_root, ends):
            key = "%s, %d, %s" % (end["request_id"], program.pid, end["name"])
            roots[key] = max(roots[key], end["duration_ns"] // 1000)
        listed = {key: us for key, us in maps["slowest_us"].items() if not key.endswith("…")}
        self.assertLessEqual(listed.items(), roots.items())
        self.assertEqual(max(listed.values()), max(roots.values()))

    def test_one_tenant(self):
        with Program("workload") as program, Script("spans.bt", program.pid, "acme") as script:
            ends = self.run_workload(program)
            script.stop()
        by_id = {e["span_id"]: e for e in ends}

        def tenant(end):
            while end is not None and "tenant" not in end:
                end = by_id.get(end["parent_id"])
            return end and end["tenant"]
        handled = collections.Counter(e["name"] for e in ends if tenant(e) == "acme")
        self.assertGreater(len(handled), 1, "of a span's own tenant, and of inherited ones")
        self.assertEqual(script.maps()["spans"], handled)

    def test_counts_at_full_speed_are_exact(self):
        with Script("spans.bt") as script:
            with Counting(self.temporary_folder(), threads=4, depth=1) as program:
                program.ask("start")
                wait_until(lambda: program.entries() >= SPANS, "%d spans" % SPANS)
                # The program's own arithmetic shows that a tracer did it no harm.
                self.assertEqual(program.ask("stop"), str(program.entries()))
                rounds = sum(events for _, _, events in program.threads())
            script.wait_for_line(lambda line: line.startswith("@per_s["), "an interval")
            script.stop()
        maps = script.maps()
        for name in ("counting.root", "counting.inner"):
            self.assertEqual(maps["spans"][name], rounds)
            self.assertEqual(sum(maps["latency_us"][name].values()), rounds)


if __name__ == "__main__":
    harness.main("readelf", own_processes=False)
