#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What two hosts export of requests that cross both: with --sample and --sampled-only the same requests, by
OpenTelemetry's rule as another program computes it, and with filters of whole requests their parts, which are marked."""

import collections
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from consistent_sampling import adjusted_count, applied_threshold, ot_values, randomness, threshold  # noqa: E402

PROGRAM = os.environ["NOPSPAN_PROGRAM"]
HOSTS = os.environ["NOPSPAN_TWO_HOSTS"]
REQUESTS = 3000
SPANS = 2  # of a request on each host


def attribute(span, key):
    return next((one["value"] for one in span.get("attributes", []) if one["key"] == key), None)


class TwoHosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nopspan-two-hosts-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        subprocess.run([HOSTS, cls.folder, str(REQUESTS)], check=True)
        cls.all = {host: cls.export(host) for host in "ab"}

    @classmethod
    def export(cls, host, *options):
        """The spans that a host exports. What it does not export is counted as left out."""
        with tempfile.TemporaryDirectory(dir=cls.folder) as files:
            source = host if os.path.isabs(host) else os.path.join(cls.folder, host + ".rec")
            done = subprocess.run([PROGRAM, "export", "--json", "--otlp-file", files, "--signals", "traces", "--from",
                                   source, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, check=False)
            assert done.returncode == 0, done.stderr
            traces, = (receiver["signals"]["traces"] for receiver in json.loads(done.stdout)["receivers"])
            with open(files + "/traces.jsonl", encoding="utf-8") as lines:
                spans = [span for line in lines for resource in json.loads(line)["resourceSpans"]
                         for scope in resource["scopeSpans"] for span in scope["spans"]]
        for span in spans:  # the program does not capture content
            errors = [event["attributes"] for event in span.get("events", []) if event["name"] == "exception"]
            assert errors == ([[{"key": "exception.type", "value": {"stringValue": "timeout"}}]] if "status" in span else []), span
        assert traces["accepted"] == len(spans) == traces["taken"] - traces["left_out"], traces
        return spans

    @staticmethod
    def requests(spans):
        found = collections.Counter(span["traceId"] for span in spans)
        assert set(found.values()) <= {SPANS}, "a request is there with all its spans"
        return set(found)

    def test_all_spans_have_the_randomness_of_their_request(self):
        values, hashed = {}, 0
        for host in "ab":
            self.assertEqual(len(self.requests(self.all[host])), REQUESTS)
            for span in self.all[host]:
                value = randomness(span["traceId"], span.get("traceState"))
                self.assertEqual(values.setdefault(span["traceId"], value), value)
                is_hashed = "rv" in ot_values(span.get("traceState"))
                hashed += is_hashed
                if "nopspan.request_id" in str(span):
                    self.assertTrue(is_hashed)
        self.assertEqual(hashed, REQUESTS // 3 * SPANS * 2)

    def test_both_hosts_keep_the_requests_that_a_collector_keeps(self):
        before = {span["traceId"] for span in self.all["a"]}
        for one_in in (2, 3, 10, 100):
            with self.subTest(one_in):
                wanted = {span["traceId"] for span in self.all["a"]
                          if randomness(span["traceId"], span.get("traceState")) >= threshold(one_in)}
                for host in "ab":
                    spans = self.export(host, "--sample", str(one_in))
                    self.assertEqual(self.requests(spans), wanted)
                    self.assertEqual({applied_threshold(span["traceState"]) for span in spans}, {threshold(one_in)})
                    # So a backend can estimate how many there were.
                    estimate = sum(adjusted_count(span["traceState"]) for span in spans) / SPANS
                    self.assertLess(abs(estimate - REQUESTS), 6 * (REQUESTS * one_in) ** 0.5)
                self.assertLess(wanted, before)
                before = wanted
        self.assertTrue(before)

    def test_the_sampled_flag_is_followed_on_both_hosts(self):
        kept = []
        for host in "ab":
            spans = self.export(host, "--sampled-only")
            kept.append(self.requests(spans))
            self.assertEqual({span["flags"] & 1 for span in spans}, {1})
            # The gateway's threshold holds for the spans that follow it.
            self.assertEqual({applied_threshold(span.get("traceState")) for span in spans}, {None, 0xc0 << 48})
        self.assertEqual(kept[0], kept[1])
        self.assertEqual(kept[0], {span["traceId"] for span in self.all["a"] if span["flags"] & 1})
        self.assertLess(REQUESTS // 3 * 2, len(kept[0]))
        self.assertLess(len(kept[0]), REQUESTS)
        larger = self.export("b", "--sampled-only", "--sample", "2")
        self.assertEqual({applied_threshold(span["traceState"]) for span in larger}, {0x80 << 48, 0xc0 << 48})

    def test_spans_that_are_all_kept_do_not_have_the_gateways_threshold(self):
        states = collections.Counter(span.get("traceState", "") for span in self.all["b"] if "vendor" in str(span))
        self.assertEqual(set(states), {"ot=th:0,vendor=1", "vendor=1"})

    def test_a_recording_of_a_sample_keeps_its_threshold(self):
        recording = os.path.join(self.folder, "sampled.rec")
        subprocess.run([PROGRAM, "record", recording, "--force", "--from", os.path.join(self.folder, "b.rec"), "--sample", "4"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wanted = self.requests(self.export("b", "--sample", "4"))
        for options, one_in in (((), 4), (("--sample", "2"), 4), (("--sample", "8"), 8)):
            spans = self.export(recording, *options)
            self.assertEqual({applied_threshold(span["traceState"]) for span in spans}, {threshold(one_in)})
            if one_in == 4:
                self.assertEqual(self.requests(spans), wanted)

    def test_filters_of_whole_requests_choose_the_part_of_a_host(self):
        for options, present in ((("--errors",), "b"), (("--error", "timeout"), "b"), (("--name", "b.query"), "b"),
                                 (("--name", "a.call"), "a"), (("--slower-than", "1ns"), "ab")):
            with self.subTest(options):
                exported = {host: self.export(host, *options) for host in present}
                for host in set("ab") - set(present):
                    with self.assertRaisesRegex(AssertionError, "matches"):
                        self.export(host, *options)
                for spans in exported.values():
                    for span in spans:
                        # The span whose parent is on another host, or of the gateway.
                        is_local_root = bool(span["flags"] & 0x200)
                        self.assertEqual(attribute(span, "nopspan.partial"), {"boolValue": True} if is_local_root else None)

    def test_nothing_is_partial_if_each_host_decides_in_the_same_way(self):
        for options in ((), ("--sample", "2"), ("--sampled-only",)):
            self.assertNotIn("nopspan.partial", str(self.export("b", *options)))


if __name__ == "__main__":
    unittest.main()
