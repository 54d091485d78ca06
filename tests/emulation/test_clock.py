# SPDX-License-Identifier: Apache-2.0
"""Wall-clock times of recorded spans while the clock is set forward, is set back, or stands still because the machine
sleeps. Each must be the clock's time at which the span was made, within the error that the recorder states.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_clock.py -v
"""

import json

import guest

SCRIPT = """
# made NAME: makes a span, and prints the clock before and after it, in us.
made() {
  local before=${EPOCHREALTIME/[.,]/}
  send "span $1 1"
  echo "$1 $before ${EPOCHREALTIME/[.,]/}" >>/results/times
}
times_asleep() {
  awk '/^voluntary_ctxt_switches/ { print $2 }' /proc/$collector/status
}
has_looked() {
  [ $(times_asleep) -ge $looked ]
}
# The collector slept too. It must also read its clocks after it woke, not only before.
let_it_look() {
  looked=$(($(times_asleep) + 2))
  until_it has_looked
}

begin
record clock
made before
date -s '+7 hours' >/dev/null
let_it_look
made forward
date -s '-11 hours' >/dev/null
let_it_look
made back
slept=$(date +%s)
echo +20 >/sys/class/rtc/rtc0/wakealarm
echo mem >/sys/power/state
let_it_look
made awake
for number in 1 2 3 4 5 6 7; do
  date -s '+1 hour' >/dev/null
  made at-once-$number
  let_it_look
done
echo $(($(date +%s) - slept)) >/results/slept
end
$loaded /opt/nopspan replay --spans /tmp/clock.rec >/results/spans
"""

HOUR_NS = 3600 * 10**9


class Clock(guest.GuestTest):
    def test_each_span_has_the_time_that_the_clock_said(self):
        run = self.run_in("bookworm", SCRIPT)
        self.assertGreaterEqual(int(run.result("slept")), 15)
        self.assertIn("PM: suspend exit", run.kernel)
        recorded = json.loads(run.result("clock"))
        self.assertEqual(recorded["clock"]["changes"], 10)
        error_ns = recorded["clock"]["error_ns"]
        self.assertLess(error_ns, 10**6)
        total = recorded["ledger"]["total"]
        self.assertTrue(total["balanced"])
        self.assertEqual(total["lost"], 0)
        spans = {span["name"]: span for span in map(json.loads, run.result("spans").splitlines())}
        times = {name: (int(begin) * 1000, int(end) * 1000 + 999) for name, begin, end in
                 (line.split() for line in run.result("times").splitlines())}
        self.assertEqual(list(times)[:4], ["before", "forward", "back", "awake"])
        self.assertGreater(times["forward"][0] - times["before"][1], 6 * HOUR_NS)
        self.assertLess(times["back"][0] - times["forward"][1], -10 * HOUR_NS)
        is_right = {name: begin - error_ns <= spans[name]["start_unix_ns"] and
                          spans[name]["start_unix_ns"] + spans[name]["duration_ns"] <= end + error_ns
                    for name, (begin, end) in times.items()}
        for name in list(times)[:4]:
            self.assertTrue(is_right.pop(name), (name, times[name], spans[name]))
        # The time is also right immediately after a change, unless the collector reads the clock late because its CPU
        # is emulated.
        self.assertEqual(len(is_right), 7)
        self.assertGreaterEqual(sum(is_right.values()), 4, is_right)


if __name__ == "__main__":
    guest.main()
