#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many services of a host: a node of Kubernetes that is full, and services of equal names, in OTLP and in a real
Prometheus.

By hand: NOPSPAN_PROGRAM=build/dev/nopspan NOPSPAN_LINES=build/dev/tests/collector/record_lines \
    python3 tests/collector/services_test.py -v
"""
import collections
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "support"
sys.path.insert(0, str(SUPPORT))
import ability  # noqa: E402  pylint: disable=wrong-import-position
from lines import PROGRAM, recording, run, span  # noqa: E402  pylint: disable=wrong-import-position
from prometheus import Prometheus  # noqa: E402  pylint: disable=wrong-import-position
from waiting import wait_until  # noqa: E402  pylint: disable=wrong-import-position

RULES = SUPPORT.parent.parent / "packaging/prometheus/nopspan-rules.yml"
CALLS = "traces.span.metrics.calls"
ERROR = 1  # the status of a span


def values_of(attributes):
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}


def counters_of(folder, name):
    """{(resource, labels): value} of the last data points, each of the two as sorted pairs."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        for resource in json.loads(line)["resourceMetrics"]:
            about = tuple(sorted(values_of(resource["resource"]["attributes"]).items()))
            for metric in (one for scope in resource["scopeMetrics"] for one in scope["metrics"] if one["name"] == name):
                for point in metric["sum"]["dataPoints"]:
                    labels = tuple(sorted(values_of(point["attributes"]).items()))
                    found[about, labels] = int(point.get("asInt", point.get("asDouble", 0)))
    return found


def calls_of(folder):
    """The calls of each service, and those of it that have a pod."""
    services, in_pods = collections.Counter(), collections.Counter()
    for (resource, labels), value in counters_of(folder, CALLS).items():
        service = dict(resource)["service.name"]
        assert dict(labels)["service.name"] in (service, "other"), (resource, labels)
        services[service] += value
        if "k8s.pod.name" in dict(resource):
            in_pods[service] += value
    return services, in_pods


def pods(count, services, names):
    """A span of each name and of both statuses, in each of `count` pods."""
    for pod in range(count):
        service = f"svc{pod % services}"
        resource = f"service.name={service},service.namespace=shop,k8s.pod.name={service}-{pod},k8s.pod.uid=0000-{pod}"
        for name in range(names):
            for status in (0, ERROR):
                yield span(f"op{name}", 0, 100, pid=1000 + pod, resource=resource, status=status)


class Services(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="nopspan-services-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def export(self, path):
        done = run("export", "--from", path, "--otlp-file", self.folder, "--signals", "metrics")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr

    def start(self, *words):
        """A process, what it has said on stderr, and the address of its server."""
        said = self.folder / "stderr"
        with open(said, "wb") as file:
            process = subprocess.Popen([PROGRAM, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        found = wait_until(lambda: re.search(r"http://(\S+)/metrics", said.read_text(encoding="utf-8")), "nopspan to serve")
        return process, said, found[1]


class FullNode(Services):
    def test_110_pods(self):
        said = self.export(recording(self.folder / "rec", *pods(110, 20, 15)))
        found, in_pods = calls_of(self.folder)
        self.assertEqual(found, {f"svc{number}": (6 if number < 10 else 5) * 30 for number in range(20)})
        self.assertEqual(sum(in_pods.values()), 2000, "as many series as there may be")
        for resource, _ in counters_of(self.folder, CALLS):
            about = dict(resource)
            if "k8s.pod.name" not in about:  # what the service on this host is, and nothing of one pod
                self.assertEqual(about["service.namespace"], "shop")
                self.assertFalse({"k8s.pod.uid", "container.id", "process.pid"} & set(about), about)
        self.assertEqual(re.findall("no room for further series.*", said),
                         ["no room for further series for otlp (--max-series 2000). They are counted for their service, without the "
                          "attributes of its pods and processes. The metric nopspan.metrics.overflow counts this for all metrics"])

    def test_3000_jobs(self):
        self.export(recording(self.folder / "rec", *pods(3000, 1, 1)))
        self.assertEqual(calls_of(self.folder)[0], {"svc0": 6000})

    def test_one_count_of_what_has_no_room(self):
        """In both outputs, also if only one is full."""
        path = recording(self.folder / "rec", *pods(110, 20, 15))
        process, _, address = self.start("export", "--from", f"unix:{self.folder}/s", "--otlp-file", self.folder, "--signals",
                                         "metrics", "--serve", "127.0.0.1:0")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(self.folder / "s"))
            client.sendall(path.read_bytes())

        def scraped():
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
                text = answer.read().decode()
            calls = re.findall(r"^traces_span_metrics_calls_total\{.* (\d+)$", text, re.MULTILINE)
            return text if sum(map(int, calls)) == 3300 and "nopspan_metrics_overflow_total" in text else None
        text = wait_until(scraped, "all calls to be counted")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(), 0)
        self.assertEqual(re.findall(r'^nopspan_metrics_overflow_total\{(metric="traces.span.metrics.calls".*)$', text, re.MULTILINE),
                         ['metric="traces.span.metrics.calls",output="otlp",counted_as="service"} 1300'])
        exported = {tuple(dict(labels)[key] for key in ("metric", "output", "counted_as")): value
                    for (_, labels), value in counters_of(self.folder, "nopspan.metrics.overflow").items()}
        self.assertEqual(exported[CALLS, "otlp", "service"], 1300)


class EqualNames(Services):
    """Two services with one name: of the namespaces eu and us, and of two environments."""

    def setUp(self):
        super().setUp()
        eu = "service.name=checkout,service.namespace=eu,deployment.environment.name=prod,team=red"
        us = "service.name=checkout,service.namespace=us,deployment.environment.name=staging,team=blue"
        resources = [eu, us, us + ",k8s.pod.name=two", "service.name=plain"]
        self.path = recording(self.folder / "rec", *(span("op", 0, 100 * each, pid=each, resource=resource, status=ERROR if each == 2 else 0)
                                                     for each, resource in enumerate(resources, 1)))

    def test_prometheus_has_them_apart(self):
        _, _, address = self.start("serve", "127.0.0.1:0", "--from", self.path)
        with Prometheus(address, rules=[RULES]) as prometheus:
            prometheus.wait_for("sum(traces_span_metrics_calls_total)", 4)
            by = "(service_namespace, service_name, deployment_environment_name)"
            calls = prometheus.query(f"sum by {by} (traces_span_metrics_calls_total)")
            apart = [({"service_name": "checkout", "service_namespace": "eu", "deployment_environment_name": "prod"}, 1),
                     ({"service_name": "checkout", "service_namespace": "us", "deployment_environment_name": "staging"}, 2),
                     ({"service_name": "plain"}, 1)]
            self.assertCountEqual(calls, apart)
            self.assertCountEqual(prometheus.query(f"count by {by} (count by (le, service_namespace, service_name, "
                                                   "deployment_environment_name) (traces_span_metrics_duration_seconds_bucket)) * 0"),
                                  [(labels, 0) for labels, _ in apart])
            # The join that docs/metrics.md has.
            text = (SUPPORT.parent.parent / "docs/metrics.md").read_text(encoding="utf-8")
            join = re.search(r"METRIC (\* on [^`]+)", text)[1]
            joined = prometheus.query("traces_span_metrics_calls_total " + re.sub(r"\s+", " ", join))
            self.assertEqual(sorted((labels["service_name"], labels.get("team"), value) for labels, value in joined),
                             [("checkout", "blue", 1), ("checkout", "blue", 1), ("checkout", "red", 1), ("plain", None, 1)])
            prometheus.wait_until(lambda: len(prometheus.query("service_span:traces_span_metrics_calls:rate5m")) == 3,
                                  "the rules to have a rate for each service")


ability.need("prometheus")
unittest.main()
