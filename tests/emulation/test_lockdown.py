# SPDX-License-Identifier: Apache-2.0
"""A kernel in lockdown. With lockdown=confidentiality it refuses the collector's BPF programs: `record` and `doctor` name
the reason and the remedy. With lockdown=integrity, tracing works.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_lockdown.py -v
"""

import json

import guest

MOUNT = "mount -t securityfs none /sys/kernel/security\n"
REFUSED = MOUNT + """
$loaded /opt/nopspan record /tmp/refused.rec 2>/results/said && exit 1
$loaded /opt/nopspan doctor --json >/results/doctor && exit 1
true
"""
TRACED = MOUNT + """
begin
record traced
send "span locked.down 5"
end
"""
REMEDY = "boot with lockdown=integrity"


class Lockdown(guest.GuestTest):
    def test_confidentiality_is_named_with_the_remedy(self):
        run = self.run_in("bookworm", REFUSED, kernel_options="lockdown=confidentiality")
        said = run.result("said")
        self.assertEqual(said.count("\n"), 1, said)
        self.assertIn("in lockdown=confidentiality: " + REMEDY, said)
        checks = {check["name"]: check for check in json.loads(run.result("doctor"))["checks"]}
        self.assertEqual(checks["lockdown"]["result"], "failed")
        self.assertIn(REMEDY, checks["lockdown"]["advice"])
        self.assertEqual(checks["nopspan's programs"]["advice"], "see the check `lockdown`")

    def test_integrity_permits_tracing(self):
        run = self.run_in("bookworm", TRACED, kernel_options="lockdown=integrity")
        total = json.loads(run.result("traced"))["ledger"]["total"]
        self.assertEqual((total["delivered"], total["lost"]), (5, 0), total)


if __name__ == "__main__":
    guest.main()
