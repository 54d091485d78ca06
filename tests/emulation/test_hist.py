# SPDX-License-Identifier: Apache-2.0
"""nopspan hist on other kernels than this machine's: that its program is loaded by each, and counts exactly.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_hist.py -v
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

# Programs are this machine's, with its libraries: a suite's own may be older.
SCRIPT = """
loaded="/opt/lib/ld-linux-x86-64.so.2 --library-path /opt/lib"
mkdir /cgroup && mount -t cgroup2 none /cgroup && mkdir /cgroup/inner
hist() {
  local result=$1
  shift
  mkfifo in out
  $loaded /opt/traced <in >out &
  exec 3>in 4<out
  read -r -u 4 _ pid
  echo "$pid" >/cgroup/inner/cgroup.procs
  $loaded /opt/nopspan --json hist --binary /opt/traced "$@" >/results/$result 2>said &
  local collector=$!
  until grep -q Counting said; do
    kill -0 $collector || { cat said; exit 1; }
    sleep 0.1
  done
  for command in "complete kernel.complete 1000 5000" "span kernel.span 500" points; do
    echo "$command" >&3
    read -r -u 4 _
  done
  kill -INT $collector
  wait $collector || { cat said; exit 1; }
  exec 3>&- 4<&-
  rm in out
  wait
}
hist all
hist sampled --by name --name kernel.complete --sample 2
hist engine --of queue --by engine,tenant
hist cgroup --cgroup inner --slower-than 4us --by name
hist elsewhere --cgroup / --model nobody
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
        return {name: json.loads(run.result(name)) for name in ("all", "sampled", "engine", "cgroup", "elsewhere")}

    def test_load_it_and_count_exactly(self):
        for suite in SUITES:
            with self.subTest(suite):
                documents = self.documents(suite)
                for document in documents.values():
                    self.assertTrue(document["ledger"]["closes"])
                    self.assertEqual(document["ledger"]["lost"], 0)
                rows = {row["name"]: row["histogram"] for row in documents["all"]["rows"]}
                self.assertEqual(rows["kernel.complete"], {"unit": "ns", "sub_bits": 5, "buckets": [[4992, 1000]],
                                                           "count": 1000, "sum": 5000000, "min": 5000, "max": 5000})
                self.assertEqual(rows["kernel.span"]["count"], 500)

                (sampled,) = documents["sampled"]["rows"]
                taken = sampled["histogram"]["count"]
                self.assertIn(taken, range(350, 650))
                self.assertEqual(taken + documents["sampled"]["ledger"]["filtered"],
                                 documents["all"]["ledger"]["emitted"])

                (engine,) = documents["engine"]["rows"]
                self.assertEqual((engine["engine"], engine["tenant"], engine["histogram"]["buckets"]),
                                 ("llama.cpp", "acme", [[992, 1]]))
                inner = {row["name"]: row["histogram"]["count"] for row in documents["cgroup"]["rows"]}
                self.assertEqual(inner["kernel.complete"], 1000)
                self.assertEqual(documents["elsewhere"]["rows"], [])


if __name__ == "__main__":
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    machine.need()
    unittest.main()
