# SPDX-License-Identifier: Apache-2.0
"""The collector on other kernels than this machine's. Each kernel must load its BPF programs, every span must be
delivered, and the spans that a killed program held must be fetched from its memory.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_collector.py -v
"""

import json

import guest

RUNS = ("all", "killed", "executing", "below")

SCRIPT = """
end_record() {
  end
  $loaded /opt/nopspan --json replay /tmp/$1.rec >/results/$1.names
}

begin
record all
send "complete kernel.complete 1000 5000"
send "span kernel.span 500"
send points
end_record all

begin
record sampled --sample 2
send "complete kernel.complete 1000 5000"
end_record sampled

# A program that is moved out of the wanted cgroup, and is killed there.
grep -q " cgroup2 " /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
cgroups=$(grep " cgroup2 " /proc/mounts | head -n 1 | cut -d " " -f 2)
mkdir $cgroups/wanted
begin
echo $pid >$cgroups/wanted/cgroup.procs
record moved --cgroup wanted --max-age 1h
for i in $(seq 100); do send "thread_span kernel.inside"; done
echo $pid >$cgroups/cgroup.procs
for i in $(seq 50); do send "thread_span kernel.outside"; done
send "span kernel.held 30"
kill -9 $pid
wait $pid
end_record moved

begin
record killed
send "span kernel.held 300"
kill -9 $pid
wait $pid
end_record killed

begin
record executing
send "span kernel.held 300"
echo "exec /bin/true" >&3
wait $pid
end_record executing

# A collector in a pid namespace, and a program in one below it.
own_pids="unshare --pid --fork --mount-proc --kill-child"
below() {
  begin $own_pids
  pid=$(cat /proc/$program/task/$program/children)
  record below
  send "span kernel.held 300"
  kill -9 $pid
  wait $program
  end_record below
}
export loaded own_pids
$own_pids bash -c "$(declare -f); below"
"""


class Kernels(guest.GuestTest):
    def test_deliver_every_span(self):
        made = {"complete": {"spans": 1504, "events": 1, "retries": 1, "gauges": 2},
                "held": {"spans": 300, "events": 0, "retries": 0, "gauges": 0}}
        for suite in guest.SUITES:
            with self.subTest(suite):
                run = self.run_in(suite, SCRIPT)
                for name in RUNS:
                    recorded, replayed = (json.loads(run.result(name + end)) for end in ("", ".names"))
                    wanted = made["complete" if name == "all" else "held"]
                    self.assertEqual({kind: recorded[kind] for kind in wanted}, wanted, name)
                    total = recorded["ledger"]["total"]
                    self.assertTrue(total["balanced"], name)
                    self.assertEqual((total["emitted"], total["lost"], total["held_by_killed"]),
                                     (sum(wanted.values()), 0, 0), name)
                    self.assertTrue(replayed["whole"], name)
                recorded = json.loads(run.result("sampled"))
                total = recorded["ledger"]["total"]
                self.assertTrue(total["balanced"])
                self.assertEqual((total["emitted"], total["lost"]), (1000, 0))
                self.assertEqual(recorded["spans"], total["delivered"])
                self.assertTrue(300 < total["filtered"] < 700, total)
                recorded = json.loads(run.result("moved"))
                total = recorded["ledger"]["total"]
                self.assertTrue(total["balanced"])
                self.assertEqual((recorded["spans"], total["lost"]), (total["delivered"], 0))
                self.assertEqual((total["delivered"], total["filtered"]), (100, 80))


if __name__ == "__main__":
    guest.main()
