#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks recordings against their documented format, and checks how `nopspan replay` reports them.

By hand: NOPSPAN_PROGRAM=build/dev/nopspan NOPSPAN_EXAMPLES=build/dev/tests/collector/record_examples \
    python3 tests/collector/recording_format_test.py -v
"""
import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import ability  # pylint: disable=wrong-import-position
import otlp_attributes  # pylint: disable=wrong-import-position
import recording  # pylint: disable=wrong-import-position
from waiting import wait_until  # pylint: disable=wrong-import-position

PROGRAM = os.path.abspath(os.environ["NOPSPAN_PROGRAM"])
EXAMPLES = os.path.abspath(os.environ["NOPSPAN_EXAMPLES"])
BEGIN = 1_790_000_000_000_000_000
TRACE = bytes(range(1, 17))


def run(*words, **options):
    return subprocess.run([PROGRAM, *words], check=False, timeout=60, **{
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options})


def start(*words, **options):
    return subprocess.Popen([PROGRAM, *words], **{
        "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})


def bytes_in(pipe):
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def waits_in(pid):
    """The names of the kernel functions in which the threads of the process sleep; "0" for one that does not sleep."""
    return " ".join(path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/wchan"))


def has_taken_its_signals(pid):
    return re.search(r"(?m)^ShdPnd:\s*0+$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))


class RecordingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = os.path.join(cls.folder.name, "examples.rec")
        subprocess.run([EXAMPLES, cls.path], check=True, timeout=60)
        with open(cls.path, "rb") as file:
            cls.data = file.read()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def file_of(self, data):
        file = tempfile.NamedTemporaryFile(dir=self.folder.name, delete=False)
        with file:
            file.write(data)
        return file.name


class Format(RecordingTest):
    def setUp(self):
        self.entries = recording.all_entries(self.path)
        self.by_name = {}
        for entry in self.entries:
            self.by_name.setdefault(entry.fields["name"].decode("utf-8", "surrogateescape"), []).append(entry)

    def one(self, name):
        entry, = self.by_name[name]
        return entry

    def attributes(self, entry):
        found, = otlp_attributes.decode([entry.fields["attributes"]], entry.kind != "span")
        return found

    def test_chunks_come_in_their_order(self):
        kinds = [chunk.kind for chunk in recording.chunks(self.data)]
        self.assertEqual(kinds, ["about", "ledger", "batches_gzip", "ledger", "ledger", "end"])

    def test_the_first_chunk_describes_the_recording(self):
        about = json.loads(next(iter(recording.chunks(self.data))).payload)
        self.assertEqual(about["part"], 1)
        self.assertRegex(about["recording"], "^[0-9a-f]{16}$")
        self.assertEqual(about["host"], os.uname().nodename)

    def test_the_ledger_is_in_it(self):
        ledger = recording.ledger(self.path)
        self.assertEqual((ledger["total"]["emitted"], ledger["total"]["delivered"]), (9, 8))
        self.assertTrue(ledger["total"]["balanced"])

    def test_all_entries_are_in_it(self):
        self.assertEqual(len(self.entries), 8)
        self.assertEqual([len(self.by_name[name]) for name in ("db.query", "llm.chat", "kv_cache.used")], [2, 1, 1])
        self.assertEqual([entry.sequence for entry in self.entries if entry.kind == "span"], [42, 43, 50, 51, 52])

    def test_an_entry_has_its_process_and_thread(self):
        for entry in self.entries:
            self.assertEqual(entry.process, {
                "pid": 12, "namespace_pid": 12, "start_ticks": 1012, "clock_offset_ns": 0, "attached_ns": 0,
                "comm": "server", "executable": "/usr/bin/server", "cgroup": "/system.slice/server.service",
                "container": "4f5e6d", "library": "/usr/lib/libnopspan.so.0.3", "library_version": "1.2.3",
                "host": "host-1", "boot_id": "6d5f1a3c-8f2e-4b6a-9c1d-0123456789ab", "service_name": "checkout",
                "resource_attributes": "deployment.environment.name=test,team=a%2Cb", "instance": ""})
            self.assertEqual((entry.thread_id, entry.sequence_id), (77, 2**64 - 16))

    def test_a_chat(self):
        entry = self.one("llm.chat")
        fields = entry.fields
        self.assertEqual((fields["trace_id"], fields["span_id"]), (bytes(range(0xf0, 0x100)).hex(), 0x0123456789abcdef))
        self.assertEqual((fields["parent_id"], fields["root_id"]), (0xff, 0x8877665544332211))
        self.assertEqual((fields["tracestate"], fields["status"], fields["flags"] & 0x7040), (b"vendor=1", 0, 0x3040))
        self.assertEqual((fields["start_ns"], fields["duration_ns"]), (1_790_000_000_123_456_789, 345_678_901))
        self.assertEqual((fields["engine"], fields["model"], fields["tenant"]), (b"llama.cpp", b"small-1", b"acme"))
        self.assertEqual((fields["usage"], fields["first_token_ns"]), ((12, 30, 0, 0), (45_000_000,)))
        self.assertEqual(self.attributes(entry), {
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "small-1", "nopspan.engine": "llama.cpp",
            "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 30})
        self.assertEqual([(trace.hex(), span) for trace, span in struct.iter_unpack("<16sQ", fields["links"])],
                         [("5a" * 16, 99), ("00" * 16, 0xfedcba9876543210)])

    def test_a_span_that_has_nothing_adds_nothing(self):
        fields = self.by_name["db.query"][0].fields
        self.assertEqual((fields["attributes"], fields["trace_id"], fields["duration_ns"]), (b"", TRACE.hex(), 1000))
        self.assertNotIn("links", fields)

    def test_an_exception(self):
        fields = self.by_name["db.query"][1].fields
        self.assertEqual((fields["status"], fields["exception_kind"], fields["error_type"]), (3, b"error", b"std::runtime_error"))

    def test_a_cancelled_span(self):
        fields = self.one("tool").fields
        self.assertEqual((fields["status"], fields["parent_id"], fields["error_type"]), (2, 0x3333333333333333, b"deadline"))
        self.assertEqual((fields["foreign_id"], fields["text"], fields["flags"]), (b"req-17", b"search", 4 | 2))
        self.assertTrue(fields["counts_tool"])

    def test_texts_are_as_the_process_wrote_them(self):
        entry, = [entry for name, (entry, *_) in self.by_name.items() if name.startswith("\x1b[2J")]
        self.assertIn(b"good", entry.fields["attributes"])

    def test_an_event(self):
        entry = self.one("gen_ai.prompt.sent")
        self.assertEqual((entry.kind, entry.fields["trace_id"], entry.fields["span_id"]), ("event", TRACE.hex(), 0x1111111111111111))
        self.assertEqual((entry.fields["start_ns"], entry.fields["text"]), (BEGIN + 40, b"llm.chat"))
        self.assertEqual(self.attributes(entry), {"prompt": "größe", "turn": -3})

    def test_a_retry(self):
        entry = self.one("llm.adapter.retry")
        self.assertEqual((entry.kind, entry.fields["values"], entry.fields["error_type"]), ("retry", (500_000_000, 2), b"rate_limit"))

    def test_a_gauge(self):
        entry = self.one("kv_cache.used")
        self.assertEqual((entry.kind, entry.fields["values"], entry.fields["engine"]), ("gauge", (-17, 4096), b"llama.cpp"))

    def test_the_example_reads_it(self):
        example = Path(__file__).resolve().parent.parent.parent / "examples" / "read_recording.py"
        lines = example.read_text(encoding="utf-8").splitlines()
        self.assertLessEqual(len([line for line in lines if line.strip() and not line.startswith("#")]), 60)
        done = subprocess.run([sys.executable, example, self.path], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        lines = [line.split(maxsplit=7) for line in done.stdout.splitlines()]
        self.assertEqual([line[0] for line in lines], [entry.kind for entry in self.entries])
        for line, entry in zip(lines, self.entries):
            self.assertEqual(line[1:4], [str(entry.fields["start_ns"]), str(entry.fields["duration_ns"]), entry.fields["trace_id"]])


class Replay(RecordingTest):
    def test_it_summarises_a_recording(self):
        done = run("replay", self.path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for words in ("5 spans, 1 event, 1 retry, 1 gauge", "9 entries from 1 process: 8 delivered, 1 lost", "12 server",
                      "\\x1b[2J\\xff"):
            self.assertIn(words, done.stdout)
        self.assertNotIn("\x1b", done.stdout)

    def test_the_summary_has_the_date(self):
        done = run("replay", self.path, env={**os.environ, "TZ": "UTC"})
        self.assertIn("\n2026-09-21 14:13:20.000 to 2026-09-21 14:13:20.469 (", done.stdout)

    def test_it_summarises_for_programs(self):
        summary = json.loads(run("replay", "--json", self.path).stdout)
        self.assertEqual((summary["spans"], summary["events"], summary["retries"], summary["gauges"]), (5, 1, 1, 1))
        self.assertTrue(summary["whole"])
        self.assertEqual(summary["bytes"], len(self.data))
        self.assertEqual(summary["ledger"], recording.ledger(self.path))
        self.assertEqual(summary["processes"], [
            {"pid": 12, "comm": "server", "container": "4f5e6d", "host": "host-1", "entries": 8}])
        self.assertIn({"name": "db.query", "spans": 2, "errors": 1, "others": 0}, summary["names"])

    def test_it_prints_each_span_as_a_line(self):
        lines = [json.loads(line) for line in run("replay", self.path, "--spans").stdout.splitlines()]
        self.assertEqual(len(lines), 8)
        chat, = [line for line in lines if line["name"] == "llm.chat"]
        self.assertEqual(chat, {
            "type": "span", "request_id": "8PHy8_T19vf4-fr7_P3-_w", "trace_id": bytes(range(0xf0, 0x100)).hex(),
            "span_id": "0123456789abcdef", "parent_id": "00000000000000ff", "root_id": "8877665544332211",
            "name": "llm.chat", "kind": "client", "start_unix_ns": 1_790_000_000_123_456_789,
            "duration_ns": 345_678_901, "status": "ok", "engine": "llama.cpp", "model": "small-1", "tenant": "acme",
            "usage": {"input": 12, "output": 30, "cached": 0, "reasoning": 0}, "first_token_ns": 45_000_000, "pid": 12,
            "comm": "server", "container": "4f5e6d", "host": "host-1", "thread_id": 77, "sequence_id": "fffffffffffffff0",
            "sequence": 42, "flags": ["sampled"], "tracestate": "vendor=1",
            "attributes": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "small-1",
                           "nopspan.engine": "llama.cpp", "gen_ai.usage.input_tokens": 12,
                           "gen_ai.usage.output_tokens": 30},
            "links": [{"trace_id": "5a" * 16, "span_id": "%016x" % 99},
                      {"trace_id": "00" * 16, "span_id": "fedcba9876543210"}]})
        self.assertEqual([line["sequence"] for line in lines if line["type"] == "span"], [42, 43, 50, 51, 52])

    def test_it_filters(self):
        done = run("replay", self.path, "--spans", "--request", "8PHy8_T19vf4-fr7_P3-_w")
        self.assertEqual([json.loads(line)["name"] for line in done.stdout.splitlines()], ["llm.chat"])
        self.assertIn("1 delivered, 7 filtered out, 1 lost", done.stderr)

    def test_it_reads_a_cut_file_and_says_so(self):
        cut = self.file_of(self.data[:-40])
        done = run("replay", cut)
        self.assertEqual(done.returncode, 0)
        self.assertIn("5 spans", done.stdout)
        self.assertIn("damaged bytes were skipped", done.stdout)
        summary = json.loads(run("replay", cut, "--json").stdout)
        self.assertFalse(summary["whole"] or summary["ended"])
        self.assertGreater(summary["skipped_bytes"], 0)
        self.assertEqual(summary["broken_chunks"], 1)
        for words in (("replay", cut, "--spans"), ("trace", "--from", cut), ("top", "--plain", "--from", cut),
                      ("record", "/dev/null", "--force", "--from", cut)):
            self.assertIn("did not close the file", run(*words).stderr, words)

    def test_a_trace_at_the_end_of_a_cut_file_is_unfinished(self):
        def traces(path, *words):
            *traces, end = [json.loads(line) for line in run("trace", "--json", "--from", path, *words).stdout.splitlines()]
            return {trace["end"] for trace in traces}, end["traces"]
        self.assertEqual(traces(self.path)[0], {"finished"})
        cut = self.file_of(self.data[:-40])
        ends, counts = traces(cut)
        self.assertEqual((ends, counts["finished"]), (set(), 0))
        self.assertGreater(counts["incomplete_not_shown"], 0)
        self.assertEqual(traces(cut, "--incomplete")[0], {"unfinished"})

    def test_every_command_counts_what_is_damaged(self):
        at = self.data.index(b"NSPF" + struct.pack("<I", 10)) + 40  # in the chunk of all entries
        damaged = self.file_of(self.data[:at] + bytes(8) + self.data[at + 8:])
        copy = os.path.join(self.folder.name, "copy of damaged.rec")
        for path in (damaged, copy):
            for words in (("replay", path), ("hist", "--from", path), ("trace", "--from", path), ("top", "--from", path),
                          ("record", copy, "--force", "--from", path)):
                if words[:1] == ("record",) and path == copy:
                    continue
                done = run(*words)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn("none lost", done.stdout + done.stderr)
                self.assertIn("9 lost, more may be missing", done.stdout + done.stderr)
                self.assertIn("8 recorded entries are not in it", done.stdout + done.stderr)
                reported = json.loads(run("--json", *words).stdout.splitlines()[-1] if words[0] == "trace"
                                      else run("--json", *words).stdout)["ledger"]
                self.assertEqual(reported.get("total", reported)["not_in_file"], 8)
                self.assertEqual(reported["damage"]["broken_chunks"], 1)
                self.assertGreater(reported["damage"]["skipped_bytes"], 100)

    def test_control_c_ends_it_where_a_pipe_has_nothing_more(self):
        for data, status, reported in ((b"", 1, "stopped before anything was read"),
                                   (self.data[:-40], 0, "stopped before its end")):
            path = os.path.join(self.folder.name, f"{len(data)}.pipe")
            os.mkfifo(path)
            # open() waits until the reader has opened the pipe.
            with start("replay", path, stderr=subprocess.STDOUT, text=True) as reader, open(path, "wb") as pipe:
                pipe.write(data)
                pipe.flush()
                wait_until(lambda pipe=pipe: bytes_in(pipe) == 0, "all to be read")
                reader.send_signal(signal.SIGINT)
                said = reader.communicate(timeout=60)[0]
            self.assertEqual(reader.returncode, status, said)
            self.assertIn(reported, said)
            self.assertNotIn("left out", said)

    def test_a_duration_ends_it_where_a_pipe_has_nothing_more(self):
        with start("top", "--plain", "--from", "-", "--duration", "100ms") as reader:
            reader.stdin.write(self.data[:-40])
            reader.stdin.flush()
            self.assertEqual(reader.wait(60), 0)
            self.assertIn(b"stopped before its end", reader.stderr.read())

    def test_a_copy_that_was_stopped_is_known_to_be_a_part(self):
        for data in (self.data[:-40], self.data):  # behind which another recording might follow
            copy = os.path.join(self.folder.name, f"part of {len(data)}.rec")
            with start("--json", "record", copy, "--from", "-") as copier:
                copier.stdin.write(data)
                copier.stdin.flush()
                wait_until(lambda pipe=copier.stdin: bytes_in(pipe) == 0, "all to be read")
                copier.send_signal(signal.SIGINT)
                self.assertEqual(copier.wait(60), 1)
                self.assertEqual(json.load(copier.stdout)["ledger"]["damage"]["missing_ends"], 1)
            replayed = run("replay", copy)
            self.assertIn("INCOMPLETE", replayed.stdout)
            self.assertNotIn("none lost", replayed.stdout)

    def test_control_c_ends_it_where_nobody_reads(self):
        many = self.file_of(self.data * 50)
        for command in (["replay", "--spans", many], ["trace", "--json", "--from", many], ["record", "-", "--from", many]):
            with self.subTest(command=command[0]):
                reader, writer = os.pipe()
                os.write(writer, b"\n" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
                with start(*command, stdout=writer, text=True) as program:
                    os.close(writer)
                    wait_until(lambda pid=program.pid: "poll" in waits_in(pid), "it to wait for its reader")
                    program.send_signal(signal.SIGINT)
                    self.assertEqual(program.wait(3), 1)
                    self.assertRegex(program.stderr.read(), "could be written in time|stopped before anything")
                os.close(reader)

    def test_control_c_cuts_no_line(self):
        many = self.file_of(self.data * 2000)
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        # Fills the pipe, so that the program waits before its first byte.
        os.write(writer, b"\n" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        with start("replay", "--spans", many, stdout=writer) as program:
            os.close(writer)
            wait_until(lambda: "poll" in waits_in(program.pid), "it to wait for its reader")
            program.send_signal(signal.SIGINT)
            wait_until(lambda: has_taken_its_signals(program.pid), "the signal to be taken")
            with open(reader, "rb") as pipe:
                lines = pipe.read().split(b"\n")
            reported = program.stderr.read()
        self.assertEqual(program.returncode, 0, reported)
        self.assertEqual(lines.pop(), b"")
        self.assertTrue(all(json.loads(line) for line in lines if line))
        self.assertIn(b"stopped before its end", reported)

    def test_one_trace_that_cannot_be_written_is_counted(self):
        with open("/dev/full", "wb") as full:
            done = run("trace", "--from", self.path, stdout=full)
        self.assertEqual(done.returncode, 1)
        self.assertIn("0 traces shown, 1 could not be written, ", done.stderr)


class Filters(RecordingTest):
    """Each filter has the same effect in all commands that read a recording."""

    # The entries that each filter selects.
    SELECTED = {
        ("--name", "db.query", "--errors"): ["db.query"],
        ("--model", "small-1"): ["llm.chat"],
        ("--tenant", "acme"): ["llm.chat"],
        ("--where", "turn=-3"): ["gen_ai.prompt.sent"],
        ("--error", "rate_limit"): [],  # of a retry
        ("--slower-than", "300ms"): ["llm.chat"],
    }

    def names_in(self, path, *words):
        done = run("replay", "--spans", path, *words)
        return done, [json.loads(line)["name"] for line in done.stdout.splitlines()]

    def assert_ledger(self, ledger, selected):
        self.assertTrue(ledger["balanced"])
        self.assertEqual((ledger["delivered"], ledger["filtered"], ledger["ring_full"]), (selected, 8 - selected, 1))

    def assert_ended(self, done, has_matched):
        self.assertEqual(done.returncode, 0 if has_matched else 1, done.stderr)
        self.assertEqual(f"nopspan: nothing in {self.path} matches --" in done.stderr, not has_matched, done.stderr)

    def test_replay_prints_what_they_select(self):
        for words, selected in self.SELECTED.items():
            with self.subTest(words=words):
                done, names = self.names_in(self.path, *words)
                self.assertEqual(names, selected)
                self.assert_ended(done, selected)
                done = run("replay", "--json", self.path, *words)
                summary = json.loads(done.stdout)
                self.assertEqual(summary["entries"], len(selected))
                self.assert_ledger(summary["ledger"]["total"], len(selected))
                process, = summary["ledger"]["processes"]
                self.assertEqual((process["delivered"], process["filtered"]), (len(selected), 8 - len(selected)))
                self.assert_ended(done, selected)

    def test_top_and_hist_count_what_they_select(self):
        for words, selected in self.SELECTED.items():
            with self.subTest(words=words):
                spans = sorted(name for name in selected if name in ("db.query", "llm.chat"))
                done = run("top", "--json", "--by", "name", "--from", self.path, *words)
                top = json.loads(done.stdout)
                self.assertEqual(sorted(row["name"] for row in top["rows"] for _ in range(row["total"]["spans"])), spans)
                self.assertEqual(len(top["gauges"]), 0)
                self.assert_ledger(top["ledger"], len(selected))
                self.assert_ended(done, selected)
                done = run("hist", "--json", "--by", "name", "--from", self.path, *words)
                table = json.loads(done.stdout)
                self.assertEqual(sorted(row["name"] for row in table["rows"] for _ in range(row["histogram"]["count"])), spans)
                self.assert_ledger(table["ledger"]["total"], len(spans))
                self.assert_ended(done, spans)

    def test_resources_of_processes_are_keys_too(self):
        keys = {"service.name": "checkout", "deployment.environment.name": "test", "team": "a,b", "host": "host-1"}
        for command, spans in (("top", 3), ("hist", 5)):
            done = run(command, "--json", "--from", self.path, "--by", ",".join(keys))
            row, = json.loads(done.stdout)["rows"]
            self.assertEqual({key: row[key] for key in keys}, keys)
            self.assertEqual(row["total"]["spans"] if command == "top" else row["histogram"]["count"], spans)
        self.assertEqual(len(self.names_in(self.path, "--where", "team=a,b")[1]), 8)
        self.assertEqual(self.names_in(self.path, "--where", "service.name=other")[1], [])

    def test_a_key_that_no_entry_has_is_named(self):
        copy = os.path.join(self.folder.name, "by_key.rec")
        for words, said in ((("top", "--plain", "--by", "modle"), "modle; did you mean model?"),
                            (("hist", "--by", "version"), "version"),
                            (("hist", "--of", "attr:nosuch"), "nosuch"),
                            (("trace", "--where", "tunr=-3"), "tunr; did you mean turn?"),
                            (("record", "--force", copy, "--where", "taem=x"), "taem; did you mean team?"),
                            (("export", "--otlp-file", self.folder.name, "--where", "taem=x"), "taem; did you mean team?")):
            with self.subTest(words=words):
                done = run(*words, "--from", self.path)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertEqual([line for line in done.stderr.splitlines() if line.startswith("nopspan: no")],
                                 [f"nopspan: no entry in {self.path} has the key {said}"])

    def test_trace_shows_the_requests_that_contain_what_they_select(self):
        for words, names in ((("--tenant", "acme"), ["llm.chat"]), (("--where", "gen_ai.operation.name=chat"), ["llm.chat"]),
                             (("--error", "deadline"), []), (("--where", "turn=-3"), []), (("--request", "zzz"), [])):
            with self.subTest(words=words):
                done = run("trace", "--json", "--incomplete", "--from", self.path, *words)
                traces = [json.loads(line) for line in done.stdout.splitlines()][:-1]
                self.assertEqual([span["name"] for trace in traces for span in trace["spans"]], names)
                self.assert_ended(done, names)

    def test_record_writes_what_the_new_ones_select(self):
        copy = os.path.join(self.folder.name, "filtered.rec")
        for words, selected in self.SELECTED.items():
            if words[0] not in ("--tenant", "--where", "--error"):
                continue
            with self.subTest(words=words):
                done = run("record", "--json", "--force", copy, "--from", self.path, *words)
                self.assert_ended(done, selected)
                self.assert_ledger(json.loads(done.stdout)["ledger"]["total"], len(selected))
                self.assertEqual(self.names_in(copy)[1], selected)
                self.assert_ledger(recording.ledger(copy)["total"], len(selected))

    def test_record_refuses_those_that_only_the_kernel_applies(self):
        for words in (("--name", "nosuch"), ("--model", "nosuch"), ("--slower-than", "1h"), ("--errors",)):
            done = run("record", os.path.join(self.folder.name, "refused.rec"), "--from", self.path, *words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(words[0], done.stderr)


class Record(RecordingTest):
    """Tests that need no process to record: the source is a recording."""

    def test_a_recording_of_a_recording_has_the_same(self):
        copy = os.path.join(self.folder.name, "copy.rec")
        done = run("record", copy, "--from", self.path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"5 spans, 1 event, 1 retry, 1 gauge in {copy}: ", done.stderr)
        self.assertIn("bytes per entry", done.stderr)
        self.assertEqual(run("replay", "--spans", copy).stdout, run("replay", "--spans", self.path).stdout)
        self.assertEqual(os.stat(copy).st_mode & 0o777, 0o600)

    def test_it_does_not_write_over_what_it_reads(self):
        done = run("record", self.path, "--from", self.path, "--force")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(Path(self.path).read_bytes(), self.data)
        older = os.path.join(self.folder.name, "rotated.1")
        Path(older).write_bytes(self.data)
        done = run("record", older[:-2], "--from", older, "--force", "--max-size", "1M")
        self.assertEqual((done.returncode, done.stderr), (2, f"nopspan: {older} is the file that --from reads\n"))
        self.assertEqual(Path(older).read_bytes(), self.data)

    def test_it_keeps_an_existing_file_if_there_is_nothing_to_record(self):
        there = self.file_of(b"precious")
        Path(there + ".1").write_bytes(b"older")
        for source in (("--from", "/nowhere/at/all"), ("--from", there), ("--pid", "99999999"), ("--cgroup", "/no/such")):
            self.assertEqual(run("record", there, *source, "--force", "--max-size", "1M").returncode, 2)
        self.assertEqual((Path(there).read_bytes(), Path(there + ".1").read_bytes()), (b"precious", b"older"))

    def test_it_copies_stdin_to_stdout(self):
        done = run("record", "--from", "-", "-", input=self.data, stdin=None, text=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(recording.all_entries(self.file_of(done.stdout))), 8)

    def test_it_writes_to_a_terminal_only_if_forced(self):
        reader, terminal = os.openpty()
        self.addCleanup(os.close, reader)
        words = ["record", "-", "--from", self.path]
        done = run(*words, stdout=terminal)
        self.assertEqual((done.returncode, done.stderr),
                         (2, "nopspan: stdout is a terminal: redirect it to a file or a pipe, or use --force\n"))
        with start(*words, "--force", stdout=terminal) as process:
            os.close(terminal)
            data = b""
            with contextlib.suppress(OSError):  # the end of a terminal is EIO
                while part := os.read(reader, 1 << 16):
                    data += part
            self.assertEqual(process.wait(60), 0)
        self.assertTrue(data.startswith(b"NOPSPAN\0"))

    def test_it_reports_how_many_files_rotation_deleted(self):
        path = os.path.join(self.folder.name, "many.rec")
        long = os.path.join(self.folder.name, "long.rec")
        Path(long).write_bytes(Path(self.path).read_bytes() * 8)
        done = run("record", path, "--from", long, "--max-size", "4K", "--keep", "2")
        self.assertRegex(done.stderr, r"and older files \(total: (\d+) files, the oldest \d+ deleted\): ")
        files, deleted = map(int, re.search(r"total: (\d+) files, the oldest (\d+) deleted", done.stderr).groups())
        self.assertEqual(files - deleted, 3)
        self.assertEqual(sorted(Path(self.folder.name).glob("many.rec*")), [Path(path + end) for end in ("", ".1", ".2")])

    def test_it_reports_what_it_did_as_json(self):
        path = os.path.join(self.folder.name, "reported.rec")
        reported = json.loads(run("record", path, "--from", self.path, "--json").stdout)
        self.assertEqual((reported["spans"], reported["events"], reported["dropped"], reported["file"]), (5, 1, 0, path))
        self.assertEqual(reported["bytes"], os.path.getsize(path))
        self.assertEqual(reported["ledger"]["total"]["delivered"], 8)

    def test_a_file_that_cannot_be_opened_is_a_usage_error(self):
        for path, words in ((self.folder.name, "Is a directory"), ("/nowhere/at/all", "No such file or directory")):
            for force in ((), ("--force",)):
                done = run("record", path, "--from", self.path, *force)
                self.assertEqual((done.returncode, done.stderr), (2, f"nopspan: {path}: {words}\n"))

    def test_a_full_disk_is_a_failure(self):
        done = run("record", "/dev/full", "--from", self.path, "--force")
        self.assertEqual((done.returncode, done.stderr), (1, "nopspan: /dev/full: No space left on device\n"))

    def test_a_reader_that_goes_away_ends_it(self):
        # The reader has already closed the pipe, so the first write fails.
        out, end = os.pipe()
        os.close(out)
        done = run("record", "-", "--from", self.path, stdout=end)
        os.close(end)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Broken pipe", done.stderr)


ability.need("protoc")
unittest.main()
