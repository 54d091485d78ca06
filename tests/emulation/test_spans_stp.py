# SPDX-License-Identifier: Apache-2.0
"""scripts/spans.stp on Debian's own kernel. It is compiled as an operator does and loaded in emulation. Its numbers
must agree with those of a handler in the traced program."""

import collections
import json
import os
import re
import sys
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, folder) for folder in ("live", "support")]
import ability
import bpftrace_output
import machine
from harness import BUILT_LIBRARY, PROGRAMS, SONAME, SOURCE, is_root

PACKAGES = ("linux-image-amd64", "linux-headers-amd64", "systemtap", "libstdc++6")
LIBRARY = {"/usr/local/lib/" + SONAME: BUILT_LIBRARY}
COLUMNS = ("spans", "rate", "errors", "cancelled", "mean_us", "max_us")

# An emulated CPU may stand still for longer than the 10 ms for which a hit waits for another one before it is dropped.
COMPILE = "stap -R $PWD/stap-runtime -DMAXTRYLOCK=1000000 -DSTP_NO_OVERLOAD -r %s -p4 -m spans /spans.stp"

# The tracer is attached when a new process finds its gate raised. With -x only the traced process has. Then the tracer
# is attached when it shows a canary span of that process.
SCRIPT = r"""
set -e
export LD_LIBRARY_PATH=/usr/local/lib
cd /results
start() {
  local name=$1
  shift
  staprun /spans.ko "$@" > "$name" 2> "$name.err" &
  tracer=$!
}
gate_is_up() { [[ $(echo gate | /traced | tail -1) != 0 ]]; }
wait_for_gate() {
  until gate_is_up; do
    kill -0 $tracer
    sleep 0.1
  done
}
stop() {
  kill -INT $tracer
  wait $tracer
  ! gate_is_up
}

grep MemAvailable /proc/meminfo
start all
wait_for_gate
grep MemAvailable /proc/meminfo
echo run /results/all.jsonl | /workload
stop

coproc program { exec /workload; }
read -r _ pid <&"${program[0]}"
start one -x "$pid"
until grep -q '  canary$' one; do
  kill -0 $tracer
  echo canary up >&"${program[1]}"
  read -r _ <&"${program[0]}"
  sleep 0.1
done
echo run /results/other.jsonl | /workload
echo run /results/one.jsonl >&"${program[1]}"
read -r _ <&"${program[0]}"
stop

start tenant only_pid="$pid" only_tenant=acme
wait_for_gate
echo run /results/tenant.jsonl >&"${program[1]}"
read -r _ <&"${program[0]}"
echo run /results/other.jsonl | /workload
stop
eval "exec ${program[1]}>&-"
wait "$pid"

start many
wait_for_gate
for ((i = 0; i < 150; i++)); do echo "span many.$i 2"; done | /traced > /dev/null
stop
start full
wait_for_gate
for ((i = 0; i < 230; i++)); do echo "span full.$i 2"; done | /traced > /dev/null
stop
"""


def corrections():
    """The commands in scripts/README.md that patch SystemTap 4.8."""
    with open(os.path.join(SOURCE, "scripts", "README.md"), encoding="utf-8") as file:
        return "".join(re.findall(r"^(?:cp|sed) .*\n", file.read(), re.M))


class Output:
    """The output of the script: the rows of its totals as {name: values}, the histograms, and the slowest requests."""

    def __init__(self, run, name):
        self.text = run.result(name)
        self.errors = run.result(name + ".err")
        totals = self.text[self.text.rindex("\nTotals of "):]
        self.rows, self.histograms, self.slowest = {}, collections.defaultdict(dict), {}
        self.others = 0
        histogram = None
        for line in totals.splitlines():
            number = r" *(\d+)"
            row = re.fullmatch(number + " " + " ".join([number] * 5) + "  (.*)", line)
            slow = re.fullmatch(number + r" (\S+) +(\d+)  (.*)", line)
            caption = re.fullmatch(r"latency in us: (.*)", line)
            bar = re.fullmatch(number + r" \|[@ ]*" + number, line)
            other = re.fullmatch(number + " spans of other names", line)
            end = re.fullmatch(r"total: (\d+) spans, (\d+) requests", line)
            if row:
                self.rows[row[7]] = dict(zip(COLUMNS, map(int, row.groups()[:6])))
            elif slow:
                self.slowest[slow[2], int(slow[3]), slow[4]] = int(slow[1])
            elif caption:
                histogram = self.histograms[caption[1]]
            elif bar and int(bar[2]):
                histogram[int(bar[1])] = int(bar[2])
            elif other:
                self.others = int(other[1])
            elif end:
                self.spans, self.requests = int(end[1]), int(end[2])

    def column(self, name):
        return {span: row[name] for span, row in self.rows.items() if row[name]}


class SpansStp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = machine.Machine("bookworm", PACKAGES)
        cls.addClassCleanup(place.close)
        script = {"/spans.stp": os.path.join(SOURCE, "scripts", "spans.stp")}
        status, printed, made = place.inside(["sh", "-e", "-c", corrections() + COMPILE % place.release],
                                             {**LIBRARY, **script}, ["spans.ko"])
        assert status == 0, printed
        files = {**LIBRARY, "/spans.ko": made["spans.ko"],
                 **{"/" + name: os.path.join(PROGRAMS, name) for name in ("workload", "traced")}}
        cls.boot = place.boot(SCRIPT, files)
        assert cls.boot.status == 0, "%s\n%s" % (cls.boot.output, {
            name: cls.boot.result(name) for name in cls.boot.files if name.endswith(".err")})

    def ends(self, name):
        """Each span end that the workload's handler received."""
        events = map(json.loads, self.boot.result(name).splitlines())
        return [dict(e, name=e["event"].rpartition(".")[0]) for e in events if not e["event"].endswith(".start")]

    def check_rows(self, output, ends):
        of_name = collections.defaultdict(list)
        for end in ends:
            of_name[end["name"]].append(end)
        # The script truncates long names, so these rows do not match the handler's names.
        rows = {name: row for name, row in output.rows.items() if not name.endswith("…")}
        for name, same in of_name.items():
            with self.subTest(name):
                us = [end["duration_ns"] // 1000 for end in same]
                self.assertEqual({k: v for k, v in rows[name].items() if k != "rate"}, {
                    "spans": len(same), "errors": sum(end["status"] in (1, 3) for end in same),
                    "cancelled": sum(end["status"] == 2 for end in same),
                    "mean_us": sum(us) // len(us), "max_us": max(us)})
                self.assertEqual(output.histograms[name], bpftrace_output.histogram(us))
        self.assertEqual(set(rows), set(of_name))

    def check_nothing_lost(self, output):
        self.assertNotRegex(output.errors, "skipped|ERROR|transport")
        self.assertNotIn("could not be read", output.text)

    def test_everything_of_the_whole_host(self):
        output, ends = Output(self.boot, "all"), self.ends("all.jsonl")
        self.check_nothing_lost(output)
        self.assertGreater(len(ends), 2000)
        self.check_rows(output, ends)
        cut = [row["spans"] for name, row in output.rows.items() if name.endswith("…")]
        self.assertEqual(cut, [80])
        self.assertEqual(output.spans, len(ends) + 80)
        # These 80 are root spans, too.
        self.assertEqual(output.requests, sum(map(is_root, ends)) + 80 - self.steps(ends))

    @staticmethod
    def steps(ends):
        return sum(is_root(end) and end["link_count"] > 0 for end in ends)

    def test_slowest_requests_by_their_ids(self):
        output, ends = Output(self.boot, "all"), self.ends("all.jsonl")
        roots = collections.defaultdict(int)
        for end in filter(is_root, ends):
            key = end["request_id"], end["name"]
            roots[key] = max(roots[key], end["duration_ns"] // 1000)
        self.assertEqual(len(output.slowest), 10)
        slowest = {(request_id, name): us for (request_id, _, name), us in output.slowest.items()
                   if not name.endswith("…")}
        self.assertEqual(slowest, {key: roots[key] for key in slowest})
        expected = sorted(roots.values(), reverse=True)[:10]
        self.assertEqual(sorted(slowest.values(), reverse=True), expected[:len(slowest)])

    def test_one_process(self):
        output, ends = Output(self.boot, "one"), self.ends("one.jsonl")
        self.check_nothing_lost(output)
        canaries = [name for name in output.rows if name.startswith("canary")]
        spans = sum(output.rows.pop(name)["spans"] for name in canaries)
        self.check_rows(output, ends)
        self.assertEqual(output.spans, len(ends) + 80 + spans)

    def test_one_tenant_of_one_process(self):
        output = Output(self.boot, "tenant")
        self.check_nothing_lost(output)
        of_id = {end["span_id"]: end for end in self.ends("tenant.jsonl")}

        # A span without a tenant inherits its parent's.
        def tenant(end):
            return end.get("tenant") or (tenant(of_id[end["parent_id"]]) if end["parent_id"] in of_id else None)

        ends = [end for end in of_id.values() if tenant(end) == "acme"]
        self.assertGreater(len(ends), 80)
        self.check_rows(output, ends)
        self.assertEqual(output.spans, len(ends))
        self.assertEqual(output.requests, sum(map(is_root, ends)))

    def test_rows_are_limited_and_the_rest_is_counted(self):
        many = Output(self.boot, "many")
        self.check_nothing_lost(many)
        self.assertEqual((len(many.rows), many.others, many.spans), (100, 100, 300))
        full = Output(self.boot, "full")
        self.check_nothing_lost(full)
        # If one CPU saw too few names to fill its table, the sum is still complete.
        self.assertEqual(sum(full.column("spans").values()) + full.others, 460)
        self.assertEqual(full.spans, 460)
        self.assertEqual(len(full.slowest), 10)


if __name__ == "__main__":
    machine.need_long()
    for name in ("workload", "traced"):
        if not os.path.exists(os.path.join(PROGRAMS, name)):
            ability.unable("the programs of tests/live are not built")
    unittest.main()
