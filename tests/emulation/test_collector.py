# SPDX-License-Identifier: Apache-2.0
"""The collector on other kernels than this machine's: its programs are loaded by each, every span is delivered, in batches
and one by one, and what a killed program held is read from it.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_collector.py -v
"""

import json

import guest

RUNS = ("batches", "events", "killed", "executing")
SAMPLED = ("sampled-batches", "sampled-events")
MOVED = ("moved-batches", "moved-events")

SCRIPT = """
end_record() {
  end
  $loaded /opt/nopspan --json replay /tmp/$1.rec >/results/$1.names
}

for run in batches events; do
  begin
  if [ $run = batches ]; then record $run; else record $run --per-event; fi
  tell "complete kernel.complete 1000 5000"
  tell "span kernel.span 500"
  tell points
  end_record $run
done

for run in batches events; do
  begin
  if [ $run = batches ]; then mode=; else mode=--per-event; fi
  record sampled-$run --sample 2 $mode
  tell "complete kernel.complete 1000 5000"
  end_record sampled-$run
done

# Of one that is moved out of the wanted cgroup.
grep -q " cgroup2 " /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
cgroups=$(grep " cgroup2 " /proc/mounts | head -n 1 | cut -d " " -f 2)
mkdir $cgroups/wanted
for run in batches events; do
  begin
  echo $pid >$cgroups/wanted/cgroup.procs
  if [ $run = batches ]; then mode=; else mode=--per-event; fi
  record moved-$run --cgroup wanted $mode
  tell "complete kernel.complete 1000 5000"
  echo $pid >$cgroups/cgroup.procs
  tell "complete kernel.complete 500 5000"
  end_record moved-$run
done

begin
record killed
tell "span kernel.held 300"
kill -9 $pid
wait $pid
end_record killed

begin
record executing
tell "span kernel.held 300"
echo "exec /bin/true" >&3
wait $pid
end_record executing
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
                    wanted = made["complete" if name in ("batches", "events") else "held"]
                    self.assertEqual({kind: recorded[kind] for kind in wanted}, wanted, name)
                    total = recorded["ledger"]["total"]
                    self.assertTrue(total["closes"], name)
                    self.assertEqual((total["emitted"], total["lost"], total["held_by_killed"]),
                                     (sum(wanted.values()), 0, 0), name)
                    self.assertTrue(replayed["whole"], name)
                for name in SAMPLED:
                    recorded = json.loads(run.result(name))
                    total = recorded["ledger"]["total"]
                    self.assertTrue(total["closes"], name)
                    self.assertEqual((total["emitted"], total["lost"]), (1000, 0), name)
                    self.assertEqual(recorded["spans"], total["delivered"], name)
                    self.assertTrue(300 < total["filtered"] < 700, (name, total))
                for name in MOVED:
                    recorded = json.loads(run.result(name))
                    total = recorded["ledger"]["total"]
                    self.assertTrue(total["closes"], name)
                    self.assertEqual((recorded["spans"], total["lost"]), (total["delivered"], 0), name)
                # What a thread holds is told where it is when it hands it over, if that comes.
                self.assertEqual((total["delivered"], total["filtered"]), (1000, 500))


if __name__ == "__main__":
    guest.main()
