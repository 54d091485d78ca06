# SPDX-License-Identifier: Apache-2.0
"""--metrics FILE: Prometheus reads the numbers of the ledger that the command prints."""

import json
import os
import shutil
import subprocess

import harness
from followed import Followed
from harness import NOPSPAN, Counting, nopspan, wait_until

# Debian's Python, which has Debian's packages. CMake may have found another one.
PYTHON = "/usr/bin/python3"
PARSER = """
import json, sys
from prometheus_client.parser import text_string_to_metric_families
print(json.dumps([[s.name, s.labels, s.value, family.type, family.documentation]
                  for family in text_string_to_metric_families(sys.stdin.read()) for s in family.samples]))
"""
REASONS = ("ring_full", "unreadable", "too_large", "malformed", "missed", "discarded", "no_memory", "over_limit",
           "reentrant", "export_dropped", "not_in_file")


class Metrics:
    """{(name, labels): value}, read by the parser of Prometheus' client library."""

    def __init__(self, text):
        done = subprocess.run([PYTHON, "-c", PARSER], input=text, stdout=subprocess.PIPE, text=True, check=True)
        samples = json.loads(done.stdout)
        self.values = {(name, tuple(sorted(labels.items()))): value for name, labels, value, _, _ in samples}
        assert len(self.values) == len(samples), "two samples have the same labels: " + text
        self.undocumented = [name for name, _, _, kind, text in samples if kind == "unknown" or not text]

    def sum(self, name, **labels):
        return sum(value for (found, has), value in self.values.items()
                   if found == "nopspan_" + name and set(labels.items()) <= set(has))


class Given(harness.Test):
    def setUp(self):
        self.folder = self.temporary_folder()
        self.path = os.path.join(self.folder, "nopspan.prom")


class MetricsTest(Given):
    def metrics(self):
        with open(self.path, encoding="utf-8") as file:
            text = file.read()
        if shutil.which("promtool"):
            checked = subprocess.run(["promtool", "check", "metrics"], input=text, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, check=False)
            self.assertEqual((checked.returncode, checked.stdout), (0, ""))
        metrics = Metrics(text)
        self.assertEqual(metrics.undocumented, [])
        return metrics

    def assert_losses(self, metrics, name, counts, **labels):
        for reason in REASONS:
            self.assertEqual(metrics.sum(name, reason=reason, **labels), counts[reason], reason)

    def test_are_the_ledger_of_a_recording_that_loses(self):
        command = [NOPSPAN, "--json", "record", "--metrics", self.path, os.path.join(self.folder, "spans.rec"), "--buffer", "64K"]
        with Counting(self.temporary_folder(), threads=3) as program, Followed(command) as recorder:
            recorder.wait_until_it_says("Recording\\.")
            program.ask("start")
            wait_until(lambda: program.entries() > 300_000, "many spans")
            wait_until(lambda: self.metrics().sum("entries_delivered_total") > 0, "metrics of a run that goes on")
            program.ask("stop")
            self.assertEqual(recorder.stop(), 0, recorder.said)
            ledger = json.loads(recorder.lines[-1])["ledger"]
        metrics = self.metrics()
        for name in ("emitted", "delivered", "filtered", "held_by_killed"):
            self.assertEqual(metrics.sum("entries_%s_total" % name), ledger["total"][name], name)
        self.assert_losses(metrics, "entries_lost_total", ledger["total"])
        self.assertGreater(metrics.sum("entries_lost_total", reason="ring_full"), 0)
        (row,) = [row for row in ledger["processes"] if row["pid"] == program.pid]
        self.assert_losses(metrics, "process_lost_total", row, pid=str(program.pid), comm=row["comm"])
        self.assertEqual(metrics.sum("buffer_bytes"), 64 << 10)
        self.assertEqual(metrics.sum("processes_total"), len(ledger["processes"]))


class Misuse(Given):
    def assert_usage_error(self, *words):
        done = nopspan(*words)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        return done.stderr

    def test_a_file_that_cannot_be_written(self):
        path = os.path.join(self.folder, "none", "nopspan.prom")
        said = self.assert_usage_error("record", os.path.join(self.folder, "spans.rec"), "--metrics", path)
        self.assertIn(path + ": No such file or directory", said)
        self.assertEqual(os.listdir(self.folder), [])

    def test_the_recording_itself(self):
        path = os.path.join(self.folder, "spans.rec")
        with open(path, "w", encoding="ascii") as file:
            file.write("precious")
        said = self.assert_usage_error("record", path, "--force", "--metrics", os.path.join(self.folder, ".", "spans.rec"))
        self.assertIn("--metrics", said)
        with open(path, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")


if __name__ == "__main__":
    has_parser = subprocess.run([PYTHON, "-c", "import prometheus_client.parser"], stderr=subprocess.DEVNULL, check=False)
    if has_parser.returncode != 0:
        harness.ability.unable("python3-prometheus-client is not installed")
    harness.main()
