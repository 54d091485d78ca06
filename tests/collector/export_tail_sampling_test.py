#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The two tiers of OpenTelemetry Collectors of packaging/collector, behind nopspan export on two hosts: a request that
failed on one host arrives with the spans of both.

Needs the Collectors' distribution "contrib", which Debian does not have: without otelcol-contrib in PATH, CMake leaves the
test out. Runs only with NOPSPAN_LONG=1."""

import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import ability  # noqa: E402
import otlp_receiver  # noqa: E402
from waiting import wait_until  # noqa: E402

PROGRAM = os.environ["NOPSPAN_PROGRAM"]
HOSTS = os.environ["NOPSPAN_TWO_HOSTS"]
CONTRIB = os.environ["NOPSPAN_OTELCOL_CONTRIB"]
CONFIGURATIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging", "collector")
REQUESTS = 12_000
SECOND_TIER = ("127.0.0.2", "127.0.0.3")


class Collector:
    """A running Collector with a configuration of packaging/collector and these changes of it."""

    def __init__(self, folder, configuration, hosts, changes):
        self.path = tempfile.mktemp(dir=folder)
        with open(self.path, "wb") as said:
            self.process = subprocess.Popen(
                [*ability.own_mounts(), "sh", "-c", 'mount --bind "$1" /etc/hosts && shift && exec "$@"', "sh", hosts, CONTRIB,
                 "--config=file:" + os.path.join(CONFIGURATIONS, configuration), "--config=yaml:" + json.dumps(changes)],
                stdout=said, stderr=said)
        try:
            wait_until(self.is_up, "the Collector to start")
        except BaseException:
            self.__exit__()
            raise

    def said(self):
        with open(self.path, encoding="utf-8") as said:
            return said.read()

    def is_up(self):
        assert self.process.poll() is None, "the Collector ended: " + self.said()
        return "Everything is ready" in self.said()

    def end(self):
        """It sends what it has before it ends."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class TwoTiers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        subprocess.run([HOSTS, self.folder, str(REQUESTS)], check=True)
        self.hosts = os.path.join(self.folder, "hosts")
        with open(self.hosts, "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost\n")
            file.writelines(address + " tail-sampling.example\n" for address in SECOND_TIER)
        # The spans of each request, and the requests that failed on host b.
        self.requests, self.failed = collections.defaultdict(set), set()
        for host in "ab":
            with tempfile.TemporaryDirectory() as files:
                self.finish(self.start_export(host, "--otlp-file", files))
                for span in self.spans(files):
                    self.requests[span["traceId"]].add(int(span["spanId"], 16))
                    if span.get("status", {}).get("code") == 2:
                        self.assertEqual(host, "b")
                        self.failed.add(span["traceId"])
        self.assertEqual((len(self.requests), len(self.failed)), (REQUESTS, REQUESTS // 2))
        self.assertEqual({len(spans) for spans in self.requests.values()}, {4})
        self.request_of = {span: request for request, spans in self.requests.items() for span in spans}
        self.backends = [otlp_receiver.GrpcReceiver(otlp_receiver.Received()) for _ in SECOND_TIER]
        for backend in self.backends:
            self.addCleanup(backend.__exit__)
        self.second_tier = []

    @staticmethod
    def spans(files):
        with open(files + "/traces.jsonl", encoding="utf-8") as lines:
            return [span for line in lines for resource in json.loads(line)["resourceSpans"]
                    for scope in resource["scopeSpans"] for span in scope["spans"]]

    def start_export(self, host, *options):
        exporter = subprocess.Popen([PROGRAM, "export", "--signals", "traces", "--from", os.path.join(self.folder, host + ".rec"),
                                     *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(exporter.kill)
        return exporter

    def finish(self, exporter):
        _, said = exporter.communicate(timeout=120)
        self.assertEqual(exporter.returncode, 0, said)
        return said

    def start_collector(self, configuration, changes):
        collector = Collector(self.folder, configuration, self.hosts,
                              {**changes, "service": {"telemetry": {"metrics": {"level": "none"}}}})
        self.addCleanup(collector.__exit__)
        return collector

    def start_next_of_second_tier(self):
        number = len(self.second_tier)
        self.second_tier.append(self.start_collector("tail-sampling.yaml", {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": SECOND_TIER[number] + ":4317"}}}},
            "exporters": {"otlp": {"endpoint": "127.0.0.1:%d" % self.backends[number].port, "tls": {"insecure": True}}}}))

    def start_exports(self):
        """Of both hosts, each to a Collector of its own."""
        exporters = []
        for host in "ab":
            ports = {name: otlp_receiver.free_port() for name in ("http", "grpc")}
            self.start_collector("gateway.yaml", {
                "receivers": {"otlp": {"protocols": {name: {"endpoint": "127.0.0.1:%d" % port} for name, port in ports.items()}}},
                "exporters": {"otlp/metrics": {"tls": {"insecure": True}}}})
            exporters.append(self.start_export(host, "--otlp", "http://127.0.0.1:%d" % ports["http"], "--end-time", "1m"))
        return exporters

    def arrived(self):
        """Of each backend: the spans of each request."""
        all_found = []
        for backend in self.backends:
            found = collections.defaultdict(list)
            for span in list(backend.received.stored):
                found[self.request_of[span]].append(span)
            all_found.append(found)
        return all_found

    def check_arrivals(self):
        """The requests that failed are there, whole, at one of the backends, and a few others. Returns how many spans arrived
        more than once."""
        wait_until(lambda: self.failed <= set().union(*self.arrived()), "the requests that failed", 120,
                   lambda: "\n".join(collector.said() for collector in self.second_tier))
        for collector in self.second_tier:
            collector.end()
        arrived = self.arrived()
        for found in arrived:
            self.assertTrue(found)
            for request, spans in found.items():
                self.assertEqual(set(spans), self.requests[request])
        self.assertFalse(set(arrived[0]) & set(arrived[1]))
        others = sum(map(len, arrived)) - len(self.failed)
        self.assertLess(others, REQUESTS // 2 // 20)  # about 1 %
        return sum(len(spans) - len(set(spans)) for found in arrived for spans in found.values())

    def test_a_request_that_failed_on_one_host_arrives_whole(self):
        for _ in SECOND_TIER:
            self.start_next_of_second_tier()
        for exporter in self.start_exports():
            self.finish(exporter)
        self.assertEqual(self.check_arrivals(), 0)

    def test_nothing_is_lost_while_a_collector_is_down(self):
        self.start_next_of_second_tier()
        exporters = self.start_exports()
        for exporter in exporters:
            self.assertIn("trying again", next(line for line in exporter.stderr if not line.startswith("Exporting to")))
        self.start_next_of_second_tier()
        for exporter in exporters:
            self.finish(exporter)
        self.check_arrivals()  # what was sent again may be there twice


if __name__ == "__main__":
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    if os.geteuid() != 0:
        ability.unable("not root: a mount namespace needs it")
    unittest.main()
