#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nopspan export to an OpenTelemetry Collector: what it got is what the account calls accepted, and what --otlp-file
wrote.

Runs only with NOPSPAN_LONG=1, because the first run downloads a Debian sid, which has the Collector's Go packages."""

import collections
import glob
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import ability  # noqa: E402
import debian  # noqa: E402
import otlp_receiver  # noqa: E402
from export_faults_test import ExportTest  # noqa: E402
from waiting import hold_lock, wait_until  # noqa: E402

EXAMPLES = os.environ["NOPSPAN_EXAMPLES"]
PACKAGES = ["golang-go", "golang-opentelemetry-collector-dev"]
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "opentelemetry_collector", "main.go")
BUILD = ["GOROOT=/usr/lib/go", "GOPATH=/usr/share/gocode", "GO111MODULE=off", "GOTELEMETRY=off", "CGO_ENABLED=0",
         "GOCACHE=/nopspan/cache", "go", "build", "-o", "/nopspan/collector", "/nopspan/main.go"]
PROTOCOLS = ("http/protobuf", "http/json", "grpc")
# Of each signal: the names of the messages in its JSON, from the outermost to the innermost.
MESSAGES = {"traces": ("resourceSpans", "scopeSpans", "spans"), "logs": ("resourceLogs", "scopeLogs", "logRecords"),
            "metrics": ("resourceMetrics", "scopeMetrics", "metrics")}
SIGNALS = tuple(MESSAGES)
POINTS = ("gauge", "sum", "histogram")


def inside(tree, *command):
    return ["chroot", tree, "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/nopspan", *command]


def build_collector():
    """The tree of a Debian in which /nopspan/collector is a Collector."""
    tree = debian.bare("sid", PACKAGES)
    lock = hold_lock(tree + ".lock")
    os.makedirs(tree + "/nopspan", exist_ok=True)
    shutil.copy(SOURCE, tree + "/nopspan/main.go")
    done = subprocess.run(inside(tree, *BUILD), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    return tree, lock


class Collector:
    """A running Collector that appends to files in `folder`, a folder in the tree."""

    def __init__(self, tree, folder, ports=None, **refusals):
        self.folder = folder
        for path in glob.glob(folder + "/*.jsonl"):  # a Collector that was killed may have left a part of a line
            with open(path, "rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        self.ports = ports or {"http": otlp_receiver.free_port(), "grpc": otlp_receiver.free_port()}
        shown = folder.removeprefix(tree)
        protocols = {name: {"endpoint": "127.0.0.1:%d" % port} for name, port in self.ports.items()}
        config = {"receivers": {"otlp": {"protocols": protocols}}, "exporters": {"lines": {"folder": shown, **refusals}},
                  "service": {"telemetry": {"metrics": {"level": "none"}},
                              "pipelines": {name: {"receivers": ["otlp"], "exporters": ["lines"]} for name in SIGNALS}}}
        with open(folder + "/said", "wb") as said:
            self.process = subprocess.Popen(inside(tree, "/nopspan/collector", "--config=yaml:" + json.dumps(config)),
                                            stdout=said, stderr=said)
        try:
            wait_until(self.is_up, "the Collector to start")
        except BaseException:
            self.__exit__()
            raise

    def is_up(self):
        with open(self.folder + "/said", encoding="utf-8") as said:
            text = said.read()
        if self.process.poll() is not None:
            raise AssertionError("the Collector ended: " + text)
        return "Everything is ready" in text

    def url(self, protocol):
        return "http://localhost:%d" % self.ports["grpc" if protocol == "grpc" else "http"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def read_lines(folder, signal):
    """The requests in a file. JSON has 64-bit integers as texts, so that each number is a double or small."""
    path = os.path.join(folder, signal + ".jsonl")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line, parse_int=float) for line in file]


def items(requests, signal):
    """(resource, scope, item) of each span, log record or metric."""
    resources, scopes, names = MESSAGES[signal]
    for request in requests:
        for resource in request.get(resources, []):
            for scope in resource[scopes]:
                for item in scope[names]:
                    yield resource["resource"], scope["scope"], item


def points(requests):
    """(resource, scope, metric with only this data point) of each data point."""
    for resource, scope, metric in items(requests, "metrics"):
        kind, = (kind for kind in POINTS if kind in metric)
        for point in metric[kind]["dataPoints"]:
            yield resource, scope, {**metric, kind: {**metric[kind], "dataPoints": [point]}}


def without_defaults(value, key=""):
    """JSON without the fields that have their default, which one encoder writes and another leaves out. A member of a oneof
    or an optional field is present even if it is 0."""
    if isinstance(value, dict):
        fields = {name: without_defaults(inner, name) for name, inner in value.items()}
        return {name: inner for name, inner in fields.items()
                if inner not in ("", 0, "0", [], {}, None, False) or inner != {} and (
                    name.endswith("Value") or name in ("asInt", "asDouble", "sum", "min", "max"))}
    if isinstance(value, (list, tuple)):
        return [without_defaults(inner, key) for inner in value]
    return value


def counted(found):
    return collections.Counter(json.dumps(without_defaults(one), sort_keys=True) for one in found)


class OpenTelemetry(ExportTest):
    @classmethod
    def setUpClass(cls):
        cls.tree, cls.lock = build_collector()

    def setUp(self):
        super().setUp()
        self.maxDiff = None
        folder = tempfile.TemporaryDirectory(dir=self.tree + "/nopspan")
        self.addCleanup(folder.cleanup)
        self.inside = folder.name

    def check_items(self, requests, files, account):
        """What the Collector got is what is in the files, and is as many items as were accepted."""
        for signal in SIGNALS:
            read = points if signal == "metrics" else lambda lines, signal=signal: items(lines, signal)
            got, wanted = counted(read(requests[signal])), counted(read(files[signal]))
            # Only the first difference, because each is long.
            self.assertEqual([*itertools.islice(got - wanted, 1)], [*itertools.islice(wanted - got, 1)], signal)
            self.assertEqual(sum(got.values()), account["signals"][signal]["accepted"], signal)
        events = sum(len(span.get("events", [])) for _, _, span in items(requests["traces"], "traces"))
        self.assertEqual(events, account["signals"]["span_events"]["accepted"])

    def test_everything_arrives(self):
        recording = self.path("examples.rec")
        subprocess.run([EXAMPLES, recording, "2000"], check=True)
        for protocol in PROTOCOLS:
            for compression in ("none", "gzip"):
                with self.subTest(protocol=protocol, compression=compression), \
                        tempfile.TemporaryDirectory(dir=self.inside) as folder, tempfile.TemporaryDirectory() as files:
                    with Collector(self.tree, folder) as collector:
                        exported = self.export(recording, "--otlp", collector.url(protocol), "--protocol", protocol,
                                               "--compression", compression, "--signals", ",".join(SIGNALS),
                                               "--otlp-file", files, "--step-links", "3", status=1)
                    requests = {signal: read_lines(folder, signal) for signal in SIGNALS}
                    self.assertEqual(exported.account["requests"], sum(map(len, requests.values())))
                    self.assertEqual((exported.account["malformed_answers"], exported.account["warnings"]), (0, 0), exported.stderr)
                    for signal in exported.account["signals"].values():  # OTLP has no place for some of the examples
                        self.assertLessEqual({reason for reason, count in signal["dropped"].items() if count}, {"not_encodable"})
                    self.check_items(requests, {signal: read_lines(files, signal) for signal in SIGNALS}, exported.account)

    def spans(self, folder):
        return [int(span["spanId"], 16) for _, _, span in items(read_lines(folder, "traces"), "traces")]

    def test_a_collector_that_refuses(self):
        for protocol, failure, refusal in (("http/protobuf", "HTTP 503", "HTTP 500"), ("http/json", "HTTP 503", "HTTP 500"),
                                           ("grpc", "gRPC UNAVAILABLE", "gRPC INTERNAL")):
            with self.subTest(protocol=protocol), tempfile.TemporaryDirectory(dir=self.inside) as folder:
                with Collector(self.tree, folder, temporary=2, permanent=1) as collector:
                    exported = self.export(self.recording(500, 20), "--otlp", collector.url(protocol), "--protocol", protocol,
                                           "--end-time", "1m", status=1)
                self.assertEqual((exported.traces()["refused"], exported.traces()["accepted"]), (25, 475))
                self.assertEqual(len(self.spans(folder)), 475)
                self.check_bounds(self.spans(folder), exported.account)
                self.assertIn(failure + ": not now; trying again", exported.stderr)
                self.assertIn("refused 25 spans: " + refusal, exported.stderr)
                self.assertIn("not this", exported.stderr)

    def test_a_collector_that_is_killed_and_restarted(self):
        spans, kills = 500_000, 3
        for protocol in PROTOCOLS:
            with self.subTest(protocol=protocol), tempfile.TemporaryDirectory(dir=self.inside) as folder:
                ports = {"http": otlp_receiver.free_port(), "grpc": otlp_receiver.free_port()}
                file = folder + "/traces.jsonl"
                with Collector(self.tree, folder, ports) as collector:
                    exporter = self.start(self.recording(spans, 200), "--otlp", collector.url(protocol), "--protocol", protocol,
                                          "--end-time", "1m")
                    for _ in range(kills):
                        before = os.path.getsize(file) if os.path.exists(file) else 0
                        wait_until(lambda: exporter.poll() is not None or  # pylint: disable=cell-var-from-loop
                                   os.path.exists(file) and os.path.getsize(file) > before + 5_000_000, "spans in the file")
                        self.assertIsNone(exporter.poll())
                        collector.__exit__()
                        collector.__init__(self.tree, folder, ports)
                    exported = self.finish(exporter, 0)
                self.check_bounds(self.spans(folder), exported.account)
                self.assertEqual(set(self.spans(folder)), set(range(1, spans + 1)))


if __name__ == "__main__":
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    if os.geteuid() != 0:
        ability.unable("not root: chroot needs it")
    ability.need("debootstrap")
    unittest.main()
