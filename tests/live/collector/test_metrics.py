# SPDX-License-Identifier: Apache-2.0
"""--metrics FILE: Prometheus reads the numbers of the ledger that the command prints."""

import json
import os
import shutil
import signal
import subprocess

import harness
from collector import Counting
from harness import PATIENCE_S, Program, wait_until

NOPSPAN = os.environ.get("NOPSPAN_PROGRAM") or os.path.join(harness.BUILD, "nopspan")
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
ATTACHED = {"record": "Recording.", "trace": "Waiting for", "hist": "Counting the"}


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

    def start(self, command, *words):
        """A command with --metrics, after it has attached."""
        process = subprocess.Popen([NOPSPAN, "--json", command, "--metrics", self.path, *words], text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for line in process.stderr:
            if line.startswith(ATTACHED[command]):
                return process
        raise AssertionError("nopspan %s ended" % command)

    def end(self, process):
        """Sends SIGINT. Returns the last line of its output, and its stderr."""
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 0, said)
        return out, said

    def assert_counts(self, metrics, counts, **labels):
        for name in ("emitted", "delivered", "filtered", "held_by_killed"):
            self.assertEqual(metrics.sum("entries_%s_total" % name, **labels), counts[name], name)
        for reason in REASONS:
            self.assertEqual(metrics.sum("entries_lost_total", reason=reason, **labels), counts[reason], reason)

    def test_are_the_ledger_of_a_recording_that_loses(self):
        with Counting(self.temporary_folder(), threads=3) as program:
            process = self.start("record", os.path.join(self.folder, "spans.rec"), "--buffer", "64K")
            program.ask("start")
            wait_until(lambda: program.entries() > 300_000, "many spans")
            program.ask("stop")
            ledger = json.loads(self.end(process)[0])["ledger"]
        metrics = self.metrics()
        self.assert_counts(metrics, ledger["total"])
        self.assertGreater(metrics.sum("entries_lost_total", reason="ring_full"), 0)
        (row,) = [row for row in ledger["processes"] if row["pid"] == program.pid]
        self.assert_counts(metrics, row, pid=str(program.pid), comm=row["comm"])
        self.assertEqual(metrics.sum("buffer_bytes"), 64 << 10)
        self.assertEqual(metrics.sum("processes_total"), len(ledger["processes"]))

    def test_are_the_ledger_of_traces(self):
        with Program("traced") as program:
            process = self.start("trace", "--pid", str(program.pid))
            program.ask("span metered 50")
            out, _ = self.end(process)
        ledger = json.loads(out.splitlines()[-1])["ledger"]
        metrics = self.metrics()
        self.assert_counts(metrics, ledger["total"])
        self.assertEqual(metrics.sum("entries_delivered_total", pid=str(program.pid)), 50)

    def test_are_the_ledger_of_histograms(self):
        with Program("traced") as program, Program("traced") as other:
            process = self.start("hist", "--pid", "%d,%d" % (program.pid, other.pid))
            program.ask("span metered 50")
            other.ask("span metered 7")
            ledger = json.loads(self.end(process)[0])["ledger"]
        metrics = self.metrics()
        self.assert_counts(metrics, ledger["total"])
        for one, delivered in ((program, 50), (other, 7)):
            (row,) = [row for row in ledger["processes"] if row["pid"] == one.pid]
            self.assertEqual(row["delivered"], delivered)
            self.assert_counts(metrics, row, pid=str(one.pid), comm="traced")
        self.assertEqual(metrics.sum("processes_total"), 2)

    def test_are_the_ledger_of_tables(self):
        with Program("traced") as program:
            # Until then it prints tables, and its ledger as text.
            process = subprocess.Popen(
                [NOPSPAN, "top", "--plain", "--interval", "100ms", "--metrics", self.path, "--pid", str(program.pid)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for line in process.stdout:
                program.ask("span metered")
                if "metered" in line:
                    break
            _, said = self.end(process)
        metrics = self.metrics()
        self.assertIn("%d entries from 1 process: %d delivered" % (
            metrics.sum("entries_emitted_total"), metrics.sum("entries_delivered_total")), said)
        self.assertGreater(metrics.sum("entries_delivered_total", pid=str(program.pid)), 0)

    def test_are_written_while_it_runs_and_what_fails_is_counted(self):
        self.path = os.path.join(self.folder, "textfile", "nopspan.prom")
        os.mkdir(os.path.dirname(self.path))
        with Program("traced") as program:
            process = self.start("record", os.path.join(self.folder, "spans.rec"), "--pid", str(program.pid))
            program.ask("span metered 50")
            wait_until(lambda: self.metrics().sum("entries_delivered_total") == 50, "metrics of a run that goes on")
            shutil.rmtree(os.path.dirname(self.path))
            self.assertIn(self.path, process.stderr.readline())
            os.mkdir(os.path.dirname(self.path))
            wait_until(lambda: os.path.exists(self.path), "metrics where they can be written again")
            self.assertEqual(self.metrics().sum("metrics_failed_writes_total"), 1)
            out, said = self.end(process)
        self.assertNotIn(self.path, said)
        self.assert_counts(self.metrics(), json.loads(out)["ledger"]["total"])

    def test_a_full_disk_leaves_the_metrics_before(self):
        # There is space for one text, but not for the next one beside it.
        script = 'mount -t tmpfs -o size=4k none "$1" && shift && exec "$@"'
        disk = os.path.join(self.folder, "disk")
        os.mkdir(disk)
        self.path = os.path.join(disk, "nopspan.prom")
        recording = os.path.join(self.folder, "spans.rec")
        with Program("traced") as program:
            command = [*harness.own_mounts(), "sh", "-c", script, "sh", disk, NOPSPAN, "record", recording, "--pid",
                       str(program.pid), "--metrics", self.path]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
                self.addCleanup(process.kill)
                self.assertIn("Recording.", process.stderr.readline())
                program.ask("span metered 50")
                self.assertIn("No space left on device", process.stderr.readline())
                with open("/proc/%d/root%s" % (process.pid, self.path), encoding="utf-8") as file:
                    self.assertEqual(Metrics(file.read()).sum("entries_delivered_total"), 0)
                process.send_signal(signal.SIGINT)
                self.assertIn("50 delivered", process.communicate(timeout=PATIENCE_S)[1])
        self.assertEqual(process.returncode, 0)


class Misuse(Given):
    def assert_usage_error(self, *words):
        done = subprocess.run([NOPSPAN, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        return done.stderr

    def test_a_file_that_cannot_be_written(self):
        path = os.path.join(self.folder, "none", "nopspan.prom")
        for words in (["trace"], ["top", "--plain"], ["hist"], ["record", os.path.join(self.folder, "spans.rec")]):
            with self.subTest(words):
                self.assertIn(path + ": No such file or directory", self.assert_usage_error(*words, "--metrics", path))
        self.assertEqual(os.listdir(self.folder), [])

    def test_other_files_in_the_folder_are_not_touched(self):
        beside = self.path + ".new"
        with open(beside, "w", encoding="ascii") as file:
            file.write("precious")
        self.assert_usage_error("trace", "--metrics", self.path, "--pid", "99999999")
        with open(beside, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_a_symbolic_link(self):
        target = os.path.join(self.folder, "precious")
        with open(target, "w", encoding="ascii") as file:
            file.write("precious")
        os.symlink(target, self.path)
        self.assertIn("is a symbolic link", self.assert_usage_error("trace", "--metrics", self.path))
        self.assertEqual(sorted(os.listdir(self.folder)), ["nopspan.prom", "precious"])
        with open(target, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_the_recording_itself(self):
        path = os.path.join(self.folder, "spans.rec")
        with open(path, "w", encoding="ascii") as file:
            file.write("precious")
        said = self.assert_usage_error("record", path, "--force", "--metrics", os.path.join(self.folder, ".", "spans.rec"))
        self.assertIn("--metrics", said)
        with open(path, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_a_recording_has_no_metrics(self):
        self.assertIn("--metrics", self.assert_usage_error("trace", "--from", "spans.rec", "--metrics", self.path))


if __name__ == "__main__":
    if not os.path.exists(NOPSPAN):
        harness.ability.unable("the program nopspan is not built")
    has_parser = subprocess.run([PYTHON, "-c", "import prometheus_client.parser"], stderr=subprocess.DEVNULL, check=False)
    if has_parser.returncode != 0:
        harness.ability.unable("python3-prometheus-client is not installed")
    harness.main()
