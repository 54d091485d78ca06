# SPDX-License-Identifier: Apache-2.0
"""Two processes that CRIU has restored from one checkpoint: they make ids of their own, and a collector that both record
to counts two. On Debian's kernel, because CRIU must know the kernel.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_copies.py -v
"""

import collections
import json
import os

import guest
import harness

PROGRAMS = {"/opt/copied": os.path.join(harness.PROGRAMS, "copied")}
# A checkpoint of a process that has made ten ids.
CHECKPOINT = """
has_lines() {
  [ "$(wc -l </tmp/ids)" -ge "$1" ]
}
touch /tmp/ids
setsid $loaded /opt/copied unix:/tmp/socket /tmp/ids </dev/null >/dev/null 2>&1 &
copied=$!
until has_lines 10; do sleep 0.1; done
mkdir /tmp/image
criu dump -t $copied -D /tmp/image -o dump.log || { tail -n 20 /tmp/image/dump.log; exit 1; }
"""

TWO_RESTORES = CHECKPOINT + """
mv /tmp/ids /tmp/ids.before
touch /tmp/ids
collect record --from unix:/tmp/socket /tmp/copies.rec >/results/recorded
until [ -S /tmp/socket ]; do sleep 0.1; done
for copy in 1 2; do
  unshare -p -f --mount-proc sh -c "criu restore -D /tmp/image -d -o restore$copy.log && sleep 20" &
done
until_it has_lines 200
# Both have written their last ledger.
sleep 3
kill -INT $collector
wait $collector || { cat said; exit 1; }
cp /tmp/ids /results
cat /tmp/image/restore*.log | grep -i error
$loaded /opt/nopspan replay --json /tmp/copies.rec >/results/replay
$loaded /opt/nopspan export --from /tmp/copies.rec --otlp-file /results
"""

# The same checkpoint, restored while a collector is attached to the file in all processes.
MEANWHILE = CHECKPOINT + """
has_said() {
  grep -q "$1" said
}
collect record --binary /opt/copied /tmp/copied.rec >/results/recorded
until_it has_said Recording
criu restore -D /tmp/image -d -o restore.log || { tail -n 20 /tmp/image/restore.log; exit 1; }
until_it has_said "its gate is down"
rm /tmp/ids
until_it [ -s /tmp/ids ]
kill -INT $collector
wait $collector || { cat said; exit 1; }
rm /tmp/ids
until [ -s /tmp/ids ]; do sleep 0.1; done
$loaded /opt/nopspan replay --json /tmp/copied.rec >/results/replay
"""


class Copies(guest.GuestTest):
    # The kernel has put the breakpoint into its text, and CRIU writes the gate afterwards.
    def test_a_process_that_is_restored_while_it_is_attached_to_runs_on_and_is_named(self):
        run = self.run_in("bookworm", MEANWHILE, packages=("criu",), programs=PROGRAMS)
        one, = json.loads(run.result("replay"))["ledger"]["unattached"]
        self.assertEqual(one["path"], "/opt/copied")
        self.assertIn("its gate is down", one["why"])

    def test_two_restores_of_a_checkpoint_are_two_processes(self):
        run = self.run_in("bookworm", TWO_RESTORES, packages=("criu",), programs=PROGRAMS)
        ids = run.result("ids").splitlines()
        self.assertGreaterEqual(len(ids), 200)
        self.assertEqual([line for line, count in collections.Counter(ids).items() if count > 1], [])
        spans, instances = collections.Counter(), set()
        for line in run.result("traces.jsonl").splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                attributes = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
                instances.add(attributes["service.instance.id"]["stringValue"])
                spans.update((span["traceId"], span["spanId"]) for scope in resource["scopeSpans"] for span in scope["spans"])
        self.assertGreater(len(spans), 100)
        self.assertEqual([span for span, count in spans.items() if count > 1], [])
        self.assertEqual(len(instances), 2)
        self.assertEqual(len(json.loads(run.result("replay"))["processes"]), 2)


if __name__ == "__main__":
    guest.main()
