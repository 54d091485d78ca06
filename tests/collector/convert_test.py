#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what `nopspan convert` writes for Perfetto without any code of nopspan, and compares it with `trace --json`.

By hand: NOPSPAN_PROGRAM=build/dev/nopspan NOPSPAN_EXAMPLES=build/dev/tests/collector/convert_examples \
    NOPSPAN_TWO_HOSTS=build/dev/tests/collector/two_hosts python3 tests/collector/convert_test.py -v
"""
import collections
import json
import os
import pty
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "support"
sys.path.insert(0, str(SUPPORT))
import ability  # noqa: E402  pylint: disable=wrong-import-position
import perfetto_file  # noqa: E402  pylint: disable=wrong-import-position

PROGRAM = os.path.abspath(os.environ["NOPSPAN_PROGRAM"])
EXAMPLES = os.path.abspath(os.environ["NOPSPAN_EXAMPLES"])
HOSTS = os.path.abspath(os.environ["NOPSPAN_TWO_HOSTS"])


def run(*words, **options):
    return subprocess.run([PROGRAM, *map(str, words)], check=False, timeout=60, **{
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options})


class Convert(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nopspan-convert-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.path = cls.folder / "examples.rec"
        subprocess.run([EXAMPLES, cls.path], check=True)
        cls.out = cls.folder / "out.pftrace"
        cls.report, cls.trace = cls.converted(cls.path)

    @classmethod
    def converted(cls, path, *options):
        """What the command says as JSON, and the trace that it wrote, in which the importer would find no error."""
        done = run("convert", path, "--to", "perfetto", "-o", cls.out, "--force", "--json", *options)
        assert done.returncode == 0, done.stderr
        trace = perfetto_file.read(cls.out)
        assert not trace.errors, trace.errors
        cls.said = done.stderr
        return json.loads(done.stdout), trace

    @staticmethod
    def requests(trace):
        """The slices of each request, by the name of its track."""
        found = collections.defaultdict(list)
        for each in trace.slices:
            path = trace.path(each.track)
            if path[0] == "Requests" and len(path) > 1:
                found[path[1]].append(each)
        return found

    def test_each_span_of_a_request_is_a_slice_with_its_times_and_attributes(self):
        done = run("trace", "--from", self.path, "--json", "--incomplete")
        wanted = [json.loads(line) for line in done.stdout.splitlines() if json.loads(line)["type"] == "trace"]
        self.assertGreater(len(wanted), 3)
        _, trace = self.converted(self.path, "--incomplete")
        found = self.requests(trace)
        self.assertEqual(len(found), len(wanted))
        compared = set()
        offset, = {times[perfetto_file.REALTIME] - times[perfetto_file.MONOTONIC] for times in trace.snapshots}
        for request in wanted:
            slices, = (of for name, of in found.items() if request["request_id"] in name)
            spans = collections.Counter((each.name, each.start, each.end) for each in slices if not each.is_instant)
            self.assertEqual(spans, collections.Counter(
                (span["name"], span["start_unix_ns"] - offset, span["start_unix_ns"] - offset + span["duration_ns"])
                for span in request["spans"]))
            by_name = {each.name: each for each in slices}
            for span in request["spans"]:
                args, attributes = by_name[span["name"]].args, span.get("attributes", {})
                self.assertEqual({key: args.get(key, args.get("nopspan." + key)) for key in attributes}, attributes)
                compared.update(attributes)
        self.assertLess({"db.rows", "ok", "ratio", "list", "table"}, compared)

    def test_a_span_is_inside_its_parent_unless_another_is_there(self):
        slices = {each.name: each for of in self.requests(self.trace).values() for each in of}
        self.assertEqual(slices["db.query"].parent, slices["http.server"])
        self.assertEqual(slices["tool.one"].parent, slices["agent.turn"])
        self.assertIsNone(slices["tool.two"].parent, "it overlaps tool.one, which does not contain it")
        self.assertEqual(self.trace.path(slices["tool.two"].track)[-1], "at the same time")
        self.assertEqual(slices["cache.miss"].parent, slices["db.query"], "an event")

    def test_an_engine_is_a_track_of_its_process_with_its_steps_and_gauges(self):
        steps = [each for each in self.trace.slices if self.trace.path(each.track)[1:] == ("engine vllm 7",)]
        self.assertEqual([each.args["nopspan.step"] for each in steps], [1, 2, 3, 4, 5, 6])
        counter, = (track for track in self.trace.tracks.values() if track.name == "running{gen_ai.request.model=m,nopspan.engine=vllm}")
        self.assertEqual([value for _, value in self.trace.counters[counter.uuid]], [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.trace.tracks[counter.parent].name, "convert_example")
        self.assertGreater(self.trace.tracks[counter.parent].pid, 0)

    def test_a_flow_leads_from_a_request_to_the_first_and_last_step_and_the_longest_gap(self):
        flow, = self.trace.flows.values()
        self.assertEqual(flow[0].name, "llm.generate")
        self.assertEqual([each.args["nopspan.step"] for each in flow[1:]], [1, 4, 6])
        _, with_all = self.converted(self.path, "--flows", "all")
        flow, = with_all.flows.values()
        self.assertEqual([each.args["nopspan.step"] for each in flow[1:]], [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.converted(self.path, "--flows", "none")[1].flows, {})

    def test_losses_and_what_is_missing_are_said_in_the_file(self):
        self.assertEqual([each for each in self.trace.slices if self.trace.path(each.track) == ("Requests",)], [])
        self.assertEqual(self.trace.attributes, {"nopspan.remark": "the recording is complete", "nopspan.entries.delivered": 20,
                                                 "nopspan.entries.emitted": 20})
        cut = self.folder / "cut.rec"
        cut.write_bytes(self.path.read_bytes()[:-70])
        _, trace = self.converted(cut)
        self.assertIn("cut.rec", trace.attributes["nopspan.remark"])
        self.assertIn("cut.rec", self.said)
        mark, = (each for each in trace.slices if trace.path(each.track) == ("Requests",))
        self.assertEqual((mark.name, mark.args), ("entries may be missing", {"remark": trace.attributes["nopspan.remark"]}))
        _, trace = self.converted(self.path, "--incomplete")
        self.assertIn("unfinished: spans are missing", {each.name for each in trace.slices})

    def test_filters_and_the_slowest(self):
        for options, names in ((("--slowest", 1), {"http.server"}), (("--name", "tool.two"), {"agent.turn"}),
                               (("--tenant", "acme"), {"http.server"}), (("--slower-than", "1h"), set())):
            with self.subTest(options=options):
                if not names:
                    done = run("convert", self.path, "--to", "perfetto", "-o", self.folder / "none", *options)
                    self.assertEqual(done.returncode, 1)
                    self.assertIn("nothing in", done.stderr)
                    continue
                report, trace = self.converted(self.path, *options)
                found = self.requests(trace)
                self.assertEqual({of[0].name for of in found.values()}, names)
                self.assertEqual(report["requests"], 1)

    def test_it_says_what_it_wrote(self):
        done = run("convert", self.path, "--to", "perfetto", "-o", self.out, "--force")
        self.assertRegex(done.stderr, r"out\.pftrace: [\d.]+ KiB, 3 requests, 12 spans \(6 steps of engines\), 1 event, 6 values of gauges; "
                                      r"1 incomplete request left out \(--incomplete shows them\)\n")
        self.assertEqual((self.report["requests"], self.report["incomplete_left_out"], self.report["spans"], self.report["steps"]), (3, 1, 12, 6))
        self.assertEqual(self.report["bytes"], self.out.stat().st_size)
        self.assertEqual([one["total"]["delivered"] for one in self.report["ledgers"]], [20])

    def test_protoc_decodes_it_with_the_published_definitions(self):
        decoded = subprocess.run(["protoc", "--decode=perfetto.protos.Trace", f"--proto_path={SUPPORT}/perfetto", "perfetto_trace.proto"],
                                 input=self.trace.plain, stdout=subprocess.PIPE, check=True).stdout.decode()
        unknown = re.findall(r"(?m)^\s*\d+[:{ ].*", decoded)
        self.assertEqual(unknown, [], "fields that the definitions lack")
        self.assertEqual(decoded.count("type: TYPE_SLICE_BEGIN"), sum(not each.is_instant for each in self.trace.slices))
        self.assertIn("primary_trace_clock: BUILTIN_CLOCK_MONOTONIC", decoded)
        self.assertIn("sequence_flags: 1", decoded)

    def test_a_request_of_a_thousand_spans_inside_one_another_loses_none(self):
        path = self.folder / "deep.rec"
        subprocess.run([EXAMPLES, path, "1000"], check=True)
        report, trace = self.converted(path)
        self.assertEqual((report["spans"], len(trace.slices)), (1000, 1000))

    def two_hosts(self, requests):
        folder = tempfile.mkdtemp(dir=self.folder)
        subprocess.run([HOSTS, folder, requests], check=True)
        return [Path(folder) / f"{host}.rec" for host in "ab"]

    def test_the_recordings_of_two_hosts_are_whole(self):
        for host in self.two_hosts("300"):
            report, trace = self.converted(host)
            self.assertEqual(report["requests"], 300)
            self.assertEqual(len(trace.slices), report["spans"] + report["events"])

    def test_the_recordings_of_two_hosts_are_one_archive(self):
        files = self.two_hosts("30")
        out = self.folder / "both.tar"
        done = run("convert", *files, "--to", "perfetto", "-o", out, "--json", "--slowest", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        report, host = json.loads(done.stdout), os.uname().nodename
        self.assertEqual((report["requests"], report["spans"], len(report["ledgers"])), (4, 8, 2), "two of each host")
        with tarfile.open(out) as archive:
            names = [f"{number}-{host}.pftrace" for number in (1, 2)]
            self.assertEqual(archive.getnames(), ["perfetto_manifest.json", *names])
            manifest = json.load(archive.extractfile("perfetto_manifest.json"))["perfetto_manifest"]
            traces = [perfetto_file.Importer().read(archive.extractfile(name).read()) for name in names]
        self.assertEqual(manifest, {
            "version": 1, "trace_time": {"file": names[0], "clock": "MONOTONIC"},
            "files": [{"path": names[0], "machine": {"name": host}},
                      {"path": names[1], "machine": {"name": host},
                       "clocks": {"clock": "MONOTONIC", "is": {"file": names[0], "clock": "MONOTONIC"}}}]})
        requests = [{each.args["trace_id"] for each in trace.slices if "trace_id" in each.args} for trace in traces]
        self.assertEqual(len(requests[0]), 2)
        self.assertEqual(requests[0], requests[1], "the parts of the same requests")
        for trace in traces:
            self.assertEqual((trace.errors, len(trace.slices)), ({}, 4))

    def test_wrong_use(self):
        for words, text in ((("-", "--to", "perfetto", "-o", "x"), "stdin cannot be converted"),
                            ((self.path, "-o", "x"), "--to is required"),
                            ((self.path, "--to", "svg", "-o", "x"), "--to"),
                            ((self.path, "--to", "perfetto"), "--out is required"),
                            ((self.folder / "none", "--to", "perfetto", "-o", "x"), "No such file"),
                            ((EXAMPLES, "--to", "perfetto", "-o", self.folder / "x"), "not a recording of nopspan record"),
                            ((self.path, "--to", "perfetto", "-o", self.folder / "x", "--slowest", "0"), "--slowest"),
                            ((self.path, self.path, "--to", "perfetto", "-o", "-"), "must be a new file"),
                            ((self.path, "--to", "perfetto", "-o", self.path), "File exists: use another name, or --force")):
            with self.subTest(words=words):
                done = run("convert", *words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(text, done.stderr)
        self.assertFalse((self.folder / "x").exists())

    def test_an_existing_file_stays_if_the_new_one_cannot_be_written(self):
        kept = self.folder / "kept"
        kept.write_text("kept")
        (self.folder / "link").symlink_to(kept)
        for out, status in ((self.folder / "link", 2), ("/dev/full", 1)):
            done = run("convert", self.path, "--to", "perfetto", "-o", out)
            self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(kept.read_text(), "kept")

    def test_on_a_terminal_stdout_is_refused(self):
        reader, terminal = pty.openpty()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, terminal)
        done = run("convert", self.path, "--to", "perfetto", "-o", "-", stdout=terminal)
        self.assertEqual((done.returncode, done.stderr), (2, "nopspan: stdout is a terminal: redirect it to a file or a pipe\n"))


def message(field, data):
    return bytes([field << 3 & 127 | 2 | 128, field >> 4]) + perfetto_file.varint_bytes(len(data)) + data if field > 15 else \
        bytes([field << 3 | 2]) + perfetto_file.varint_bytes(len(data)) + data


def number(field, value):
    return perfetto_file.varint_bytes(field << 3) + perfetto_file.varint_bytes(value)


class Checker(unittest.TestCase):
    """The checker finds what the importer would drop or mend."""

    def statistics(self, *packets, flags=2, first_flags=1, clock=3):
        first = number(10, 1) + number(13, first_flags) + message(59, number(58, clock))
        snapshot = number(10, 1) + message(6, message(1, number(1, 3) + number(2, 5)) + number(2, 3))
        track = number(10, 1) + message(60, number(1, 1) + message(2, b"a"))
        name = message(12, message(2, number(1, 1) + message(2, b"n")))
        rest = [number(10, 1) + number(13, flags) + each for each in packets]
        rest[:1] = [rest[0] + name]
        data = b"".join(message(1, each) for each in (first, snapshot, track, *rest))
        return dict(perfetto_file.Importer().read(data).errors)

    @staticmethod
    def event(time, kind, more=b"", track=1):
        return number(8, time) + message(11, number(9, kind) + number(11, track) + (number(10, 1) if kind != 2 else b"") + more)

    def test_it_names_the_statistics_of_the_importer(self):
        begin, end = self.event(10, 1), self.event(20, 2)
        flow = bytes([47 << 3 & 127 | 1 | 128, 47 >> 4]) + (7).to_bytes(8, "little")
        last = bytes([48 << 3 & 127 | 1 | 128, 48 >> 4]) + (7).to_bytes(8, "little")
        self.assertEqual(self.statistics(begin, end), {})
        self.assertEqual(self.statistics(begin), {"slice_without_end": 1})
        self.assertEqual(self.statistics(begin, end, self.event(30, 2)), {"misplaced_end_event": 1})
        self.assertEqual(self.statistics(begin, end, first_flags=0), {"tokenizer_skipped_packets": 2})
        self.assertEqual(self.statistics(begin, end, clock=6), {"clock_sync_failure_unknown_source_clock": 2})
        self.assertEqual(self.statistics(begin, end, self.event(30, 3, track=2)), {"track_event_tokenizer_errors": 1})
        self.assertEqual(self.statistics(self.event(10, 1, flow), end), {"flow_without_end": 1})
        self.assertEqual(self.statistics(self.event(10, 1, last), end), {"flow_end_without_start": 1})
        deep = [self.event(10 + i, 1) for i in range(513)] + [self.event(2000 + i, 2) for i in range(512)]
        self.assertEqual(self.statistics(*deep), {"slice_max_depth_exceeded": 1})


ability.need("protoc")
if __name__ == "__main__":
    unittest.main()
