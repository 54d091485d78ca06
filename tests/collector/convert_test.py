#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what `nopspan convert` writes for Perfetto without any code of nopspan.

By hand: NOPSPAN_PROGRAM=build/dev/nopspan NOPSPAN_LINES=build/dev/tests/collector/record_lines \
    NOPSPAN_RANDOM=build/dev/tests/collector/record_examples NOPSPAN_TWO_HOSTS=build/dev/tests/collector/two_hosts \
    python3 tests/collector/convert_test.py -v
"""
import collections
import json
import os
import pty
import random
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
from lines import BEGIN, LINES, PROGRAM, event, gauge, recording, requests_of, run, span, step  # noqa: E402  pylint: disable=wrong-import-position
from waiting import wait_until  # noqa: E402  pylint: disable=wrong-import-position

RANDOM = os.path.abspath(os.environ["NOPSPAN_RANDOM"])
HOSTS = os.path.abspath(os.environ["NOPSPAN_TWO_HOSTS"])
MARKS = re.compile("unfinished|late|partial|evicted|further members|entries may|.* (beyond the limit|lost$)")


def examples():
    """Three requests that end, and one whose beginning was not recorded."""
    server = span("http.server", 0, 9, tenant="acme")
    query = span("db.query", 1, 8, server, attributes={"db.rows": 42, "ratio": 0.5, "list": [1, 2], "table": "größe"})
    yield from (event("cache.miss", 8, query, attributes={"key": "k"}), query, server)
    turn = span("agent.turn", 20, 30)
    yield from (span(name, *times, turn) for name, *times in (("tool.three", 22, 24), ("tool.one", 21, 25), ("tool.two", 23, 28)))
    yield turn
    request = span("llm.generate", 40, 9000)
    for number, at in enumerate((50, 60, 70, 200, 210, 220), 1):  # the fourth step is late
        yield gauge("running", at, number, engine="vllm", model="m")
        yield step(number, at, at + 8, request)
    yield request
    yield span("late", 100, 110, {"trace": 999_999, "id": 999_999, "root": 999_999})


class Convert(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nopspan-convert-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.path = cls.recording("examples", *examples())
        cls.out = cls.folder / "out.pftrace"
        cls.report, cls.trace = cls.converted(cls.path)

    @classmethod
    def recording(cls, name, *lines):
        return recording(cls.folder / (name + ".rec"), *lines)

    @classmethod
    def converted(cls, *words):
        """What the command says as JSON, and the trace that it wrote, in which the importer would find no error."""
        done = run("convert", *words, "--to", "perfetto", "-o", cls.out, "--force", "--json")
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
        host = self.two_hosts("30")[0]
        compared = set()
        for path, clock in ((self.path, perfetto_file.REALTIME), (host, perfetto_file.MONOTONIC)):
            wanted = requests_of(path, "--incomplete")
            _, trace = self.converted(path, "--incomplete")
            found = self.requests(trace)
            self.assertEqual((len(found), trace.clock), (len(wanted), clock))
            for request in wanted:
                slices, = (of for name, of in found.items() if request["request_id"] in name.split())
                spans = collections.Counter((each.name, each.start, each.end) for each in slices if not each.is_instant)
                self.assertEqual(spans, collections.Counter(
                    (one["name"], start := self.time_in(trace, one["start_unix_ns"]), start + one["duration_ns"]) for one in request["spans"]))
                by_name = {each.name: each for each in slices}
                for one in request["spans"]:
                    args, attributes = by_name[one["name"]].args, one.get("attributes", {})
                    self.assertEqual({key: args.get(key, args.get("nopspan." + key)) for key in attributes}, attributes)
                    compared.update(attributes)
        self.assertLessEqual({"db.rows", "ratio", "list", "table"}, compared)

    @staticmethod
    def time_in(trace, unix_ns):
        """By the clock of the file."""
        if trace.clock == perfetto_file.REALTIME:
            return unix_ns
        known = sorted((times[perfetto_file.REALTIME], times[perfetto_file.MONOTONIC]) for times in trace.snapshots)
        wall, monotonic = next((pair for pair in reversed(known) if pair[0] <= unix_ns), known[0])
        return unix_ns - wall + monotonic

    def check(self, lines, trace):
        """Each line, whose name is its own, is in the trace once, with its times, and on nothing but its parent. A step
        may be in a request too."""
        known = {line["name"]: line for line in lines if line.get("kind") != "gauge"}
        found = collections.Counter()
        for each in trace.slices:
            if MARKS.match(each.name):
                continue
            line = known[each.name]
            found[each.name] += line.get("kind") != "step" or trace.path(each.track)[1].startswith("engine ")
            self.assertEqual((each.name, each.start, each.end), (each.name, line["start"], line["start"] + line.get("duration", 0)))
            if each.parent is None:
                continue
            parent = known[each.parent.name]
            wanted = line["id"] if each.is_instant else line["parent"]
            self.assertEqual((parent["id"], parent["trace"]), (wanted, line["trace"]), (line, parent))
        self.assertEqual(found, collections.Counter(list(known)))
        self.assertEqual(sum(map(len, trace.counters.values())), sum(line.get("kind") == "gauge" for line in lines))

    def test_whatever_is_in_a_recording_is_in_the_trace_once_and_on_its_parent(self):
        """Processes use the same ids, times overlap, spans arrive before their parents, and steps are in requests and have spans."""
        for seed in range(6):
            rng, lines = random.Random(seed), []
            for number in range(400):
                pid, host, trace = rng.choice((12, 13)), rng.choice("ab"), rng.choice((0, 0, 1, 2, 3))
                mine = [line for line in lines if "id" in line and line["trace"] == trace and line.get("kind", "step") == "step"]
                parent = rng.choice(mine) if mine and rng.random() < 0.8 else None
                start, kind = rng.randrange(1000), rng.choices(("span", "event", "step", "gauge"), (6, 2, 1, 1))[0]
                start += (parent["start"] - BEGIN) // 1000 if parent else 0
                where, name = {"pid": pid, "host": host}, f"{kind} {number}"
                if kind == "gauge":
                    lines.append(gauge(name, start, number, **where))
                elif kind == "event":
                    of = parent or {"id": 0, "trace": trace, "root": 0}
                    lines.append(event(name, start, of, **where))
                else:
                    # A parent may be in another process. Its trace may have no root.
                    more = {"kind": "step", "number": number, "engine": "e"} if kind == "step" else {}
                    line = span(name, start, start + rng.choice((0, 1, 50, 5000)), parent, trace=trace, **where, **more)
                    number = sum(one.get("pid") == pid for one in lines) + 1  # its own in one process
                    lines.append({**line, "id": number, "root": parent["root"] if parent else number})
            arrived = list(lines)
            rng.shuffle(arrived)
            path = self.recording(f"seed-{seed}", *arrived)
            for memory in ("64M", "4K"):
                with self.subTest(seed=seed, memory=memory):
                    self.check(lines, self.converted(path, "--incomplete", "--memory", memory)[1])

    def test_a_span_is_inside_its_parent_unless_another_is_there(self):
        slices = {each.name: each for of in self.requests(self.trace).values() for each in of}
        self.assertIsNone(slices["tool.three"].parent, "it lies in the time of tool.one, which is not its parent")
        self.assertEqual(slices["db.query"].parent, slices["http.server"])
        self.assertEqual(slices["tool.one"].parent, slices["agent.turn"])
        self.assertIsNone(slices["tool.two"].parent, "it overlaps tool.one, which does not contain it")
        self.assertEqual(self.trace.path(slices["tool.two"].track)[-1], "at the same time")
        self.assertEqual(slices["cache.miss"].parent, slices["db.query"], "an event at its end")

    def test_an_engine_is_a_track_of_its_process_with_its_steps_and_gauges(self):
        steps = [each for each in self.trace.slices if self.trace.path(each.track)[1:] == ("engine vllm 7",)]
        self.assertEqual([each.args["nopspan.step"] for each in steps], [1, 2, 3, 4, 5, 6])
        counter, = (track for track in self.trace.tracks.values() if track.name == "running{gen_ai.request.model=m,nopspan.engine=vllm}")
        self.assertEqual([value for _, value in self.trace.counters[counter.uuid]], [1, 2, 3, 4, 5, 6])
        process = self.trace.tracks[counter.parent]
        self.assertEqual((process.name, process.pid), ("server", 12))

    def test_what_is_in_no_request_is_below_its_process(self):
        lines = [span(name, 10, 20, trace=0, host=host) for name, host in (("one", "a"), ("two", "a"), ("three", "b"))]
        lines.append(event("note", 15, lines[0], host="a"))
        _, trace = self.converted(self.recording("outside", *lines))
        self.check(lines, trace)
        slices = {each.name: each for each in trace.slices}
        self.assertEqual(slices["note"].parent, slices["one"])
        top = {name: trace.tracks[slices[name].track].parent for name in ("one", "two", "three")}
        self.assertEqual((top["one"], top["two"] == top["three"]), (top["two"], False), "pid 12 is another process on another host")

    def numbers(self, flow):
        return [each.args.get("nopspan.step", each.name) for each in flow]

    def test_a_flow_leads_from_a_request_to_the_first_and_last_step_and_the_longest_gap(self):
        flow, = self.trace.flows.values()
        self.assertEqual(self.numbers(flow), ["llm.generate", 1, 4, 6])
        flow, = self.converted(self.path, "--flows", "all")[1].flows.values()
        self.assertEqual(self.numbers(flow), ["llm.generate", 1, 2, 3, 4, 5, 6])
        self.assertEqual(self.converted(self.path, "--flows", "none")[1].flows, {})

    def test_flows_end_in_the_process_and_at_the_part_that_names_the_request(self):
        one, two = (span(name, 0, 90, id=77, pid=pid) for name, pid in (("one", 12), ("two", 13)))
        first, second = (step(number, 10, 20, one, pid=pid, announced=2) for number, pid in ((1, 12), (2, 13)))
        more = span("more", 0, 90)
        part = {**first, "kind": "part", "members": [more["id"]]}
        _, trace = self.converted(self.recording("same-id", one, two, more, first, part, second))
        self.assertEqual(sorted(self.numbers(flow) for flow in trace.flows.values()),
                         [["more", "further members"], ["one", 1], ["two", 2]])
        mark, = (each for each in trace.slices if each.name == "further members")
        self.assertEqual(trace.path(mark.track), ("server", "engine vllm 7"))

    def test_memory_limits_the_flows(self):
        requests = [span(f"r{number}", number, number + 50) for number in range(100)]
        path = self.recording("many", *(step(number, 10, 20, one) for number, one in enumerate(requests, 1)), *requests)
        self.assertEqual(len(self.converted(path)[1].flows), 100)
        self.assertEqual(len(self.converted(path, "--memory", "4K", "--incomplete")[1].flows), 32)

    def test_losses_and_what_is_missing_are_said_in_the_file(self):
        self.assertEqual([each for each in self.trace.slices if self.trace.path(each.track) == ("Requests",)], [])
        self.assertEqual(self.trace.attributes, {"nopspan.entries.delivered": 21, "nopspan.entries.emitted": 21})
        cut = self.folder / "cut.rec"
        cut.write_bytes(self.path.read_bytes()[:-70])
        _, trace = self.converted(cut)
        self.assertIn("cut.rec", trace.attributes["nopspan.remark"])
        self.assertIn("cut.rec", self.said)
        mark, = (each for each in trace.slices if trace.path(each.track) == ("Requests",))
        self.assertEqual((mark.name, mark.args), ("entries may be missing", {"remark": trace.attributes["nopspan.remark"]}))
        _, trace = self.converted(self.path, "--incomplete")
        self.assertIn("unfinished: spans are missing", {each.name for each in trace.slices})

    def test_entries_beyond_the_limit_of_a_request_are_said(self):
        request = span("r", 0, 100)
        path = self.recording("large", *(span(f"s{number}", number, 50, request) for number in range(12)), request)
        report, trace = self.converted(path, "--max-spans", 10)
        self.assertEqual((report["spans"], report["over_limit"]), (11, 2))
        self.assertIn("2 entries beyond the limit of a request (--max-spans)", {each.name for each in trace.slices})
        self.assertIn("; 2 entries beyond --max-spans left out\n",
                      run("convert", path, "--to", "perfetto", "-o", self.out, "--force", "--max-spans", "10").stderr)

    def test_a_late_part_is_a_track_and_no_request(self):
        request = span("r", 0, 100)
        path = self.recording("late", request, {"tick": BEGIN + 5_000_000_000}, span("s", 10, 20, request))
        report, trace = self.converted(path, "--incomplete")
        self.assertEqual((report["requests"], report["spans"]), (1, 2))
        mark, = (each for each in trace.slices if each.is_instant)
        self.assertEqual((mark.name, mark.parent.name), ("late: an earlier part of this request is another track", "s"))

    def test_filters_and_the_slowest(self):
        for options, names in ((("--slowest", 1), {"llm.generate"}), (("--name", "tool.two"), {"agent.turn"}),
                               (("--tenant", "acme"), {"http.server"}), (("--slower-than", "1h"), set())):
            with self.subTest(options=options):
                if not names:
                    done = run("convert", self.path, "--to", "perfetto", "-o", self.folder / "none", *options)
                    self.assertEqual(done.returncode, 1)
                    self.assertIn("nothing in", done.stderr)
                    continue
                report, trace = self.converted(self.path, *options)
                self.assertEqual({of[0].name for of in self.requests(trace).values()}, names)
                self.assertEqual(report["requests"], 1)

    def test_a_slow_request_has_its_short_spans(self):
        slow, quick = span("slow", 0, 1000), span("quick", 0, 5)
        path = self.recording("slow", span("inner", 10, 12, slow), event("note", 11, slow), slow, quick)
        for options in (("--slower-than", "1ms"), ("--slower-than", "1ms", "--name", "inner")):
            report, trace = self.converted(path, *options)
            self.assertEqual((report["requests"], report["spans"], report["events"]), (1, 2, 1), options)
            self.assertEqual(len(requests_of(path, *options)[0]["spans"]), 2)

    def test_it_says_what_it_wrote(self):
        done = run("convert", self.path, "--to", "perfetto", "-o", self.out, "--force")
        self.assertRegex(done.stderr, r"out\.pftrace: [\d.]+ KiB, 3 requests, 7 spans, 6 steps of engines, 1 event, 6 values of gauges; "
                                      r"1 incomplete request left out \(--incomplete shows them\)\n")
        self.assertEqual((self.report["requests"], self.report["incomplete_left_out"], self.report["spans"], self.report["steps"]), (3, 1, 7, 6))
        self.assertEqual(self.report["bytes"], self.out.stat().st_size)
        self.assertEqual([one["total"]["delivered"] for one in self.report["ledgers"]], [21])

    def test_protoc_decodes_it_with_the_published_definitions(self):
        decoded = subprocess.run(["protoc", "--decode=perfetto.protos.Trace", f"--proto_path={SUPPORT}/perfetto", "perfetto_trace.proto"],
                                 input=self.trace.plain, stdout=subprocess.PIPE, check=True).stdout.decode()
        unknown = re.findall(r"(?m)^\s*\d+[:{ ].*", decoded)
        self.assertEqual(unknown, [], "fields that the definitions lack")
        self.assertEqual(decoded.count("type: TYPE_SLICE_BEGIN"), sum(not each.is_instant for each in self.trace.slices))
        self.assertIn("primary_trace_clock: BUILTIN_CLOCK_REALTIME", decoded)
        self.assertIn("sequence_flags: 1", decoded)

    def test_a_request_of_a_thousand_spans_inside_one_another_loses_none(self):
        lines = [span("s0", 0, 1)]
        for number in range(1, 1000):
            lines.append(span(f"s{number}", 0, 1, lines[-1]))
        self.check(lines, self.converted(self.recording("deep", *lines))[1])

    def test_the_track_of_a_request_is_named_by_its_longest_root_span(self):
        name, = (name for name, of in self.requests(self.trace).items() if any(each.name == "http.server" for each in of))
        self.assertRegex(name, r"^http\.server 9\.00 us [\w-]+ acme$")

    def test_random_recordings(self):
        """They have steps with many members and parents, entries without a request, and all kinds of attributes."""
        path = self.folder / "random.rec"
        subprocess.run([RANDOM, path, "3000"], check=True)
        for options in ((), ("--flows", "all", "--incomplete"), ("--slowest", "3")):
            with self.subTest(options=options):
                report, trace = self.converted(path, *options)
                instants = [each for each in trace.slices if each.is_instant and not MARKS.match(each.name)]
                self.assertEqual((report["spans"] + report["steps"], report["events"], report["gauges"]),
                                 (sum(not each.is_instant for each in trace.slices), len(instants),
                                  sum(map(len, trace.counters.values()))))

    def test_of_several_recordings_only_those_with_what_is_wanted(self):
        host = self.two_hosts("3")[0]
        _, trace = self.converted(host, self.path, "--name", "tool.two")
        self.assertEqual({of[0].name for of in self.requests(trace).values()}, {"agent.turn"})

    def two_hosts(self, requests):
        folder = tempfile.mkdtemp(dir=self.folder)
        subprocess.run([HOSTS, folder, requests], check=True)
        return [Path(folder) / f"{host}.rec" for host in "ab"]

    def archived(self, *words):
        """The report, the manifest, and the trace of each file, by its name."""
        out = Path(tempfile.mkdtemp(dir=self.folder)) / "both.tar"
        done = run("convert", *words, "--to", "perfetto", "-o", out, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        with tarfile.open(out) as archive:
            first, *names = archive.getnames()
            manifest = json.load(archive.extractfile(first))["perfetto_manifest"]
            traces = {name: perfetto_file.Importer().read(archive.extractfile(name).read()) for name in names}
        self.assertEqual((first, [file["path"] for file in manifest["files"]]), ("perfetto_manifest.json", names))
        self.assertEqual([dict(trace.errors) for trace in traces.values()], [{}] * len(names))
        return json.loads(done.stdout), manifest, traces

    def test_the_recordings_of_two_hosts_are_one_archive(self):
        report, manifest, traces = self.archived(*self.two_hosts("30"), "--slowest", 2)
        host = os.uname().nodename
        self.assertEqual((report["requests"], report["spans"], len(report["ledgers"])), (4, 8, 2), "two of each host")
        names = [f"{number}-{host}.pftrace" for number in (1, 2)]
        self.assertEqual(manifest, {
            "version": 1, "trace_time": {"file": names[0], "clock": "MONOTONIC"},
            "files": [{"path": name, "machine": {"name": host}} for name in names]})
        one, other = ({each.args["trace_id"] for each in trace.slices if "trace_id" in each.args} for trace in traces.values())
        self.assertEqual((len(one), one), (2, other), "the parts of the same requests")

    def test_the_slowest_requests_of_two_hosts_keep_their_arrows(self):
        slow, fast = span("slow", 0, 100, host="a"), span("fast", 0, 50, host="a")
        parts = [span(f"llm of {root['name']}", 10, 20, root, host="b") for root in (slow, fast)]
        front = self.recording("front", slow, fast)
        engine = self.recording("engine", step(1, 12, 14, *parts, host="b"), *parts)
        for files in ((front, engine), (engine, front)):
            _, _, traces = self.archived(*files, "--slowest", 1, "--incomplete")
            flows = [self.numbers(flow) for trace in traces.values() for flow in trace.flows.values()]
            self.assertEqual(flows, [["llm of slow", 1]])

    @unittest.skipUnless(os.geteuid() == 0, "must mount a boot id")
    def test_two_boots_share_no_monotonic_clock(self):
        here, boot, folder = self.two_hosts("3")[0], self.folder / "boot", self.folder / "later"
        boot.write_text("11111111-2222-3333-4444-555555555555\n", encoding="utf-8")
        folder.mkdir()
        # In a chroot, unshare cannot change the propagation of the root. That of /proc is enough.
        subprocess.run(["unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
                        'mount --make-private /proc && mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"',
                        boot, HOSTS, folder, "3"], check=True)
        later, both = folder / "a.rec", self.folder / "boots.rec"
        both.write_bytes(here.read_bytes() + later.read_bytes())
        self.assertEqual([self.converted(path)[1].clock for path in (here, both)], [perfetto_file.MONOTONIC, perfetto_file.REALTIME])
        _, manifest, _ = self.archived(here, later, here)
        host = os.uname().nodename
        self.assertEqual(manifest["trace_time"]["clock"], "REALTIME")
        self.assertEqual([file["machine"]["name"] for file in manifest["files"]], [host, f"{host} (2)", host])

    def test_wrong_use(self):
        for words, text in ((("-", "--to", "perfetto", "-o", "x"), "stdin is not a regular file, and a recording is read twice"),
                            ((self.path, "-o", "x"), "--to is required"),
                            ((self.path, "--to", "svg", "-o", "x"), "--to"),
                            ((self.path, "--to", "perfetto"), "--out is required"),
                            ((self.folder / "none", "--to", "perfetto", "-o", "x"), "No such file"),
                            ((LINES, "--to", "perfetto", "-o", self.folder / "x"), "not a recording of nopspan record"),
                            ((self.path, "--to", "perfetto", "-o", self.folder / "x", "--slowest", "0"), "--slowest"),
                            ((self.path, self.path, "--to", "perfetto", "-o", "-"), "must be a new file"),
                            (("/dev/null", "--to", "perfetto", "-o", "x"), "/dev/null is not a regular file"),
                            ((self.path, "--to", "perfetto", "-o", self.path, "--force"), "is the recording to read"),
                            ((self.path, "--to", "perfetto", "-o", self.out), "exists: use another name, or --force"),
                            ((self.path, "--to", "perfetto", "-o", "/dev/null"), "exists: use another name, or --force")):
            with self.subTest(words=words):
                done = run("convert", *words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(text, done.stderr)
        self.assertFalse((self.folder / "x").exists())

    def test_an_existing_file_stays_if_the_new_one_cannot_be_written(self):
        kept = self.folder / "kept"
        kept.write_text("kept")
        (self.folder / "link").symlink_to(kept)
        descriptor = os.open(kept, os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        for path, out, status in ((self.path, self.folder / "link", 2), (self.path, "/dev/full", 1),
                                  (self.folder / "none", f"/dev/fd/{descriptor}", 2)):
            done = run("convert", path, "--to", "perfetto", "-o", out, "--force", pass_fds=[descriptor])
            self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(kept.read_text(), "kept")

    def test_a_recording_that_is_replaced_between_its_readings_is_not_converted(self):
        path, pipe = self.recording("replaced", *examples()), self.folder / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen([PROGRAM, "convert", path, "--to", "perfetto", "-o", pipe, "--force"], stderr=subprocess.PIPE, text=True) as convert:
            self.addCleanup(convert.kill)
            # Between the readings, it waits for a reader of the pipe.
            wait_until(lambda: "poll" in Path(f"/proc/{convert.pid}/wchan").read_text(encoding="utf-8"), "convert waits")
            self.recording("other", *examples()).replace(path)
            with open(pipe, "rb"):
                _, said = convert.communicate(timeout=60)
        self.assertEqual(convert.returncode, 1)
        self.assertIn("replaced.rec was replaced while it was read: convert it again", said)

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
        self.assertEqual(self.statistics(begin, end), {})
        self.assertEqual(self.statistics(begin), {"slice_without_end": 1})
        self.assertEqual(self.statistics(begin, end, self.event(30, 2)), {"misplaced_end_event": 1})
        self.assertEqual(self.statistics(begin, end, first_flags=0), {"tokenizer_skipped_packets": 2})
        self.assertEqual(self.statistics(begin, end, clock=6), {"clock_sync_failure_unknown_source_clock": 2})
        self.assertEqual(self.statistics(begin, end, self.event(30, 3, track=2)), {"track_event_tokenizer_errors": 1})
        self.assertEqual(self.statistics(self.event(10, 1, flow), end), {"flow_without_end": 1})
        deep = [self.event(10 + i, 1) for i in range(513)] + [self.event(2000 + i, 2) for i in range(512)]
        self.assertEqual(self.statistics(*deep), {"slice_max_depth_exceeded": 1})


ability.need("protoc")
if __name__ == "__main__":
    unittest.main()
