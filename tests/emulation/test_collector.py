# SPDX-License-Identifier: Apache-2.0
"""The collector on other kernels than this machine's: its programs are loaded by each, every span is delivered, in batches
and one by one, and what a killed program held is read from it.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_collector.py -v
"""

import json
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("NOPSPAN_BUILD_DIR", os.path.join(SOURCE, "build", "dev")))
sys.path.insert(0, os.path.join(SOURCE, "tests", "support"))
import machine

# A suite's own kernel: 5.10, 6.1, 6.12, and the newest.
SUITES = ("bullseye", "bookworm", "trixie", "sid")
RUNS = ("batches", "events", "killed", "executing")

# Programs are this machine's, with its libraries: a suite's own may be older.
SCRIPT = """
loaded="/opt/lib/ld-linux-x86-64.so.2 --library-path /opt/lib"
begin() {
  mkfifo in out
  $loaded /opt/traced <in >out &
  exec 3>in 4<out
  read -r -u 4 _ pid
}
tell() {
  echo "$1" >&3
  read -r -u 4 _
}
# record RESULT OPTIONS: up when the program's own span was written to the recording.
record() {
  local result=$1
  shift
  $loaded /opt/nopspan --json record --force --binary /opt/traced "$@" /tmp/$result.rec >/results/$result 2>said &
  collector=$!
  until $loaded /opt/nopspan ps --json $pid | grep -qE '"(batch|spans)": [1-9]'; do
    kill -0 $collector || { cat said; exit 1; }
    sleep 0.1
  done
}
end() {
  kill -INT $collector
  wait $collector || { cat said; exit 1; }
  $loaded /opt/nopspan --json replay /tmp/$1.rec >/results/$1.names
  exec 3>&- 4<&-
  rm in out
}

for run in batches events; do
  begin
  if [ $run = batches ]; then record $run; else record $run --per-event; fi
  tell "complete kernel.complete 1000 5000"
  tell "span kernel.span 500"
  tell points
  end $run
  wait
done

begin
record killed
tell "span kernel.held 300"
kill -9 $pid
wait $pid
end killed

begin
record executing
tell "span kernel.held 300"
echo "exec /bin/true" >&3
wait $pid
end executing
"""


class Kernels(unittest.TestCase):
    def documents(self, suite):
        files = {"/opt/nopspan": os.path.join(BUILD, "nopspan"),
                 "/opt/traced": os.path.join(BUILD, "tests", "live", "traced_static")}
        for program in list(files.values()):
            for line in subprocess.check_output(["ldd", program], text=True).splitlines():
                library = re.search(r"(/\S+\.so\S*)", line)
                if library:
                    files["/opt/lib/" + os.path.basename(library[1])] = library[1]
        computer = machine.Machine(suite, ["linux-image-amd64"])
        self.addCleanup(computer.close)
        print(suite, computer.release, file=sys.stderr, flush=True)
        run = computer.boot(SCRIPT, files)
        self.assertEqual(run.status, 0, run.output + run.kernel[-2000:])
        self.assertNotRegex(run.kernel, "BUG:|WARNING:|Oops")
        return {name: (json.loads(run.result(name)), json.loads(run.result(name + ".names"))) for name in RUNS}

    def test_deliver_every_span(self):
        made = {"complete": {"spans": 1504, "events": 1, "retries": 1, "gauges": 2},
                "held": {"spans": 300, "events": 0, "retries": 0, "gauges": 0}}
        for suite in SUITES:
            with self.subTest(suite):
                for name, (recorded, replayed) in self.documents(suite).items():
                    wanted = made["complete" if name in ("batches", "events") else "held"]
                    self.assertEqual({kind: recorded[kind] for kind in wanted}, wanted, name)
                    total = recorded["ledger"]["total"]
                    self.assertTrue(total["closes"], name)
                    self.assertEqual((total["emitted"], total["lost"], total["held_by_killed"]),
                                     (sum(wanted.values()), 0, 0), name)
                    self.assertTrue(replayed["whole"], name)


if __name__ == "__main__":
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    machine.need()
    unittest.main()
