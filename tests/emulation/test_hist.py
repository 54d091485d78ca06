# SPDX-License-Identifier: Apache-2.0
"""nopspan hist on other kernels than this machine's: that its program is loaded by each, and counts exactly.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_hist.py -v
"""

import json

import guest

RUNS = ("all", "sampled", "engine", "cgroup", "elsewhere")

SCRIPT = """
mkdir /cgroup && mount -t cgroup2 none /cgroup && mkdir /cgroup/inner
hist() {
  local result=$1
  shift
  begin
  echo "$pid" >/cgroup/inner/cgroup.procs
  collect hist --binary /opt/traced "$@" >/results/$result
  until_it grep -q Counting said
  tell "complete kernel.complete 1000 5000"
  tell "span kernel.span 500"
  tell points
  end
}
hist all
hist sampled --by name --name kernel.complete --sample 2
hist engine --of queue --by engine,tenant
hist cgroup --cgroup inner --slower-than 4us --by name
hist elsewhere --cgroup / --model nobody
"""


class Kernels(guest.GuestTest):
    def test_load_it_and_count_exactly(self):
        for suite in guest.SUITES:
            with self.subTest(suite):
                run = self.run_in(suite, SCRIPT)
                documents = {name: json.loads(run.result(name)) for name in RUNS}
                for document in documents.values():
                    total = document["ledger"]["total"]
                    self.assertTrue(total["closes"])
                    self.assertEqual(total["lost"], 0)
                    (process,) = document["ledger"]["processes"]
                    self.assertEqual({name: process[name] for name in total}, total)
                    self.assertGreater(process["start_ticks"], 0)
                rows = {row["name"]: row["histogram"] for row in documents["all"]["rows"]}
                self.assertEqual(rows["kernel.complete"], {"unit": "ns", "sub_bits": 5, "buckets": [[4992, 1000]],
                                                           "count": 1000, "sum": 5000000, "min": 5000, "max": 5000})
                self.assertEqual(rows["kernel.span"]["count"], 500)

                (sampled,) = documents["sampled"]["rows"]
                taken = sampled["histogram"]["count"]
                self.assertIn(taken, range(350, 650))
                self.assertEqual(taken + documents["sampled"]["ledger"]["total"]["filtered"],
                                 documents["all"]["ledger"]["total"]["emitted"])

                (engine,) = documents["engine"]["rows"]
                self.assertEqual((engine["engine"], engine["tenant"], engine["histogram"]["buckets"]),
                                 ("llama.cpp", "acme", [[992, 1]]))
                inner = {row["name"]: row["histogram"]["count"] for row in documents["cgroup"]["rows"]}
                self.assertEqual(inner["kernel.complete"], 1000)
                self.assertEqual(documents["elsewhere"]["rows"], [])


if __name__ == "__main__":
    guest.main()
