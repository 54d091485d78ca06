# SPDX-License-Identifier: Apache-2.0
"""The collector on a kernel that preempts BPF programs, and that may give them one stack per CPU for all threads. The
threads of the traced program use names of their own. Every span must be delivered once, under its name, and none may be
lost without a word when such a program is killed.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_preemption.py -v
"""

import json

import guest

THREADS, SPANS, KILLED, HELD = 16, 10000, 20, 100
SECONDS = {"full": 600, "lazy": 60}  # by preemption model
SCRIPT = """
cat /sys/kernel/debug/sched/preempt >/results/model
measure() {
  begin
  collect hist --by name --rows 0 --buffer 256M --metrics metrics --binary /opt/traced >/results/$1
  until_it is_traced
}
# knows NUMBER: whether the collector knows of so many entries.
knows() {
  grep -qs "^nopspan_entries_emitted_total $1$" metrics
}

measure flood
stop_at=$((SECONDS + flood_s))
for ((rounds = 0; SECONDS < stop_at; )); do
  send "flood %d %d"
  rounds=$((rounds + 1))
  until_it knows $((rounds * %d))
done
echo $rounds >/results/rounds
end

for i in $(seq %d); do
  measure killed$i
  send "hold %d %d"
  kill -9 $pid
  wait $pid
  end
done
""" % (THREADS, SPANS, THREADS * SPANS, KILLED, THREADS, HELD)


class Preemption(guest.GuestTest):
    def test_damages_and_hides_nothing(self):
        for model, seconds in SECONDS.items():
            with self.subTest(model):
                run = self.run_in("sid", "flood_s=%d\n" % seconds + SCRIPT, patience_s=seconds + 900,
                                  kernel_options="preempt=" + model)
                self.assertIn("(%s)" % model, run.result("model"))
                self.check_flood(json.loads(run.result("flood")), int(run.result("rounds")))
                for i in range(1, KILLED + 1):
                    total = json.loads(run.result("killed%d" % i))["ledger"]["total"]
                    self.assertEqual(total["lost"], 0, total)
                    self.assertGreaterEqual(total["delivered"] + total["held_by_killed"], THREADS * HELD, total)

    def check_flood(self, measured, rounds):
        made = rounds * SPANS
        total = measured["ledger"]["total"]
        self.assertEqual((total["emitted"], total["delivered"]), (THREADS * made, THREADS * made), total)
        found = {row["name"]: sum(count for _, count in row["histogram"]["buckets"]) for row in measured["rows"]}
        self.assertEqual(found, {"flood.%d" % i: made for i in range(THREADS)})


if __name__ == "__main__":
    guest.main()
