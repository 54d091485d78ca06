# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus server for tests, in a temporary folder."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

import waiting

CONFIGURATION = """
global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
  evaluation_interval: {interval}
scrape_configs:
  - job_name: {job}
    static_configs:
      - targets: [{targets}]
rule_files: [{rules}]
"""


class Prometheus:
    """Scrapes `targets` ("127.0.0.1:9464") as `job`."""

    def __init__(self, *targets, rules=(), interval="1s", job="nopspan"):
        self.folder = tempfile.mkdtemp(prefix="nopspan-prometheus-")
        self.targets = len(targets)
        configuration = os.path.join(self.folder, "prometheus.yml")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(interval=interval, job=job, targets=", ".join(map(json.dumps, targets)),
                                            rules=", ".join(json.dumps(os.path.abspath(path)) for path in rules)))
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", "--config.file", configuration, "--storage.tsdb.path", os.path.join(self.folder, "data"),
                 # The kernel chooses the port, which is then in the log.
                 "--web.listen-address", "127.0.0.1:0", "--enable-feature", "exemplar-storage"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            self.url = "http://" + self.wait_until(self.listening, "Prometheus to listen")
            self.wait_until(self.is_ready, "Prometheus to be ready")
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        # Nothing of its data is needed, so it gets no time to write them.
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def seen(self):
        return "\n".join(self.log().splitlines()[-20:])

    def wait_until(self, condition, what, found=lambda: ""):
        def unless_ended():
            if self.process.poll() is not None:
                raise AssertionError("Prometheus has ended:\n" + self.seen())
            return condition()
        return waiting.wait_until(unless_ended, what, seen=lambda: f"{found()}\n{self.seen()}")

    def listening(self):
        found = re.search(r'msg="?Listening on"? address=(127\.0\.0\.1:[1-9]\d*)', self.log())
        return found and found[1]

    def is_ready(self):
        try:
            with urllib.request.urlopen(self.url + "/-/ready", timeout=10):
                return True
        except OSError:
            return False

    def api(self, path, **parameters):
        """The data of an answer of the HTTP API. Fails with Prometheus' own message."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=waiting.PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error

    def query(self, expression, **parameters):
        """[(labels, value)] of an instant query."""
        data = self.api("query", query=expression, **parameters)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def value(self, expression, **parameters):
        """The value of an expression that has exactly one."""
        found = self.query(expression, **parameters)
        if len(found) != 1:
            raise AssertionError(f"{expression} has {len(found)} values: {found}")
        return found[0][1]

    def scraped(self):
        """The state of each target after its last scrape."""
        return self.api("targets", state="active")["activeTargets"]

    def wait_until_up(self):
        """Waits until each target was scraped with success."""
        def are_up():
            states = self.scraped()
            return len(states) == self.targets and all(state["health"] == "up" for state in states)
        self.wait_until(are_up, "all targets to be up")

    def wait_for(self, expression, value):
        """Waits until an expression has exactly one value, which is `value`."""
        self.wait_until(lambda: [found for _, found in self.query(expression)] == [value], f"{expression} == {value}",
                        found=lambda: f"now: {self.query(expression)}")
