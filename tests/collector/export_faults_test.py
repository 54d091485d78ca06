#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nopspan export with receivers that fail in every way: its account is balanced, and what the receiver has is within the
bounds of the account."""

import array
import contextlib
import json
import os
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import ability  # noqa: E402
import otlp_receiver  # noqa: E402
from otlp_receiver import (CLOSES, OK, STORES_AND_CLOSES, Answer, GrpcReceiver, HttpReceiver, Received,  # noqa: E402
                           partial_success)
from waiting import wait_until  # noqa: E402

PROGRAM = os.environ["NOPSPAN_PROGRAM"]
LOAD = os.environ["NOPSPAN_EXPORT_LOAD"]
STATES = ("left_out", "queued", "spooled", "in_flight", "accepted", "rejected", "refused", "unconfirmed")
PATIENCE_S = 120
# AddressSanitizer needs memory of its own.
MEMORY_IS_MEASURED = "asan" not in PROGRAM


def retry_info(nanos):
    """google.rpc.Status {details: [Any {type_url, RetryInfo {Duration {nanos}}}]}"""
    def delimited(field, data):
        return bytes([field << 3 | 2, len(data)]) + data
    number = b""
    while nanos >= 0x80:
        number += bytes([nanos & 0x7F | 0x80])
        nanos >>= 7
    duration = b"\x10" + number + bytes([nanos])
    value = delimited(1, duration)
    return delimited(3, delimited(1, b"type.googleapis.com/google.rpc.RetryInfo") + delimited(2, value))


def make_certificates(folder):
    """ca.crt, an authority, and KEY and CRT of server and client, whose name is localhost."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=localhost")
        with open(os.path.join(folder, "names"), "w", encoding="ascii") as names:
            names.write("subjectAltName=DNS:localhost\n")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                name + ".crt", "-extfile", "names")


def answer_too_early(connection, status, reads=False, more_headers=b""):
    """Speaks as much HTTP/2 as a proxy that answers each request before it has read it: a request whose body follows is
    reset after the answer, or if `reads` after its body and without one."""
    def frame(kind, flags, stream, payload=b""):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    data, headers, reset, settings = 0, 1, 3, 4
    with connection.makefile("rb") as sent:
        sent.read(24)  # the preface
        connection.sendall(frame(settings, 0, 0))
        has_body = set()  # streams
        while head := sent.read(9):
            payload = sent.read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == settings and not flags & 1:
                connection.sendall(frame(settings, 1, 0))
            if kind == data and payload:
                has_body.add(stream)
            ends = kind in (data, headers) and bool(flags & 1)
            if (kind == headers and not reads) or (ends and reads and stream not in has_body):
                # HPACK: the value of :status as a text
                answer = b"\x08\x03" + str(status).encode() + more_headers
                connection.sendall(frame(headers, 5, stream, answer))
            if (kind == headers and not ends and not reads) or (ends and reads and stream in has_body):
                connection.sendall(frame(reset, 0, stream, bytes(3) + bytes([2 if reads else 0])))


def opened_by(pid):
    folder = "/proc/%d/fd" % pid
    with contextlib.suppress(OSError):
        return [os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)]
    return []


class Exported:
    def __init__(self, status, stdout, stderr):
        self.status, self.stderr = status, stderr
        # Of the OTLP receiver, which is after the files.
        self.account = (json.loads(stdout)["receivers"] or [None])[-1] if stdout else None

    def traces(self):
        return self.account["signals"]["traces"]


def unused_url():
    return "http://127.0.0.1:%d" % otlp_receiver.free_port()


class ExportTest(unittest.TestCase):
    program = [PROGRAM]
    receiver, protocol = HttpReceiver, ()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="nopspan-export-")
        self.addCleanup(self.folder.cleanup)
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("OTEL_") and not name.lower().endswith("_proxy")}

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def recording(self, spans, seconds):
        """A recording of spans with the ids 1, 2, … Its export has a request for each of its seconds."""
        path = self.path("spans-%d-%d.rec" % (spans, seconds))
        if not os.path.exists(path):
            subprocess.run([LOAD, path, str(spans), str(seconds)], check=True)
        return path

    def start(self, recording, *options, **variables):
        command = [*self.program, "export", "--json", "--from", recording, "--signals", "traces", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**self.environment, **variables})

    def finish(self, process, status=None):
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        exported = Exported(process.returncode, stdout, stderr)
        if status is not None:
            self.assertEqual(exported.status, status, stderr)
        if exported.account:
            self.check_sums(exported.account)
        return exported

    def export(self, recording, *options, status=0, **variables):
        return self.finish(self.start(recording, *options, **variables), status)

    def send(self, received, *options, spans=20, seconds=1, **more):
        """Exports a recording to a receiver."""
        with self.receiver(received) as receiver:
            return self.export(self.recording(spans, seconds), "--otlp", receiver.url, *self.protocol, *options, **more)

    def listen(self, speak):
        """The URL of a server that calls `speak` with each connection."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(OSError):
                        speak(connection)
        threading.Thread(target=accept, daemon=True).start()
        return "http://127.0.0.1:%d" % listening.getsockname()[1]

    def check_sums(self, account):
        self.assertTrue(account["balanced"])
        for row in account["signals"].values():
            self.assertEqual(row["taken"] + row["found"], sum(row[state] for state in STATES) + sum(row["dropped"].values()))
            self.assertEqual(row["queued"] + row["in_flight"], 0)

    def check_bounds(self, stored, *accounts):
        """`stored`: all ids that the receiver stored, in one or more runs."""
        rows = [account["signals"]["traces"] for account in accounts]
        distinct = len(set(stored))
        self.assertLessEqual(len(stored) - distinct, sum(row["resent"] for row in rows))
        self.assertGreaterEqual(distinct, sum(row["accepted"] for row in rows))
        self.assertLessEqual(distinct, sum(row["accepted"] + row["unconfirmed"] for row in rows))


class Http(ExportTest):
    def test_a_healthy_receiver_has_everything(self):
        for protocol in ("http/protobuf", "http/json"):
            for compression in ("none", "gzip"):
                with self.subTest(protocol=protocol, compression=compression):
                    received = Received()
                    exported = self.send(received, "--protocol", protocol, "--compression", compression, "--header",
                                         "X-Scope=a=b,c", spans=2000, seconds=20)
                    self.assertEqual(sorted(received.stored), list(range(1, 2001)))
                    self.assertEqual(exported.traces()["accepted"], 2000)
                    self.assertGreaterEqual(len(received.requests), 20)
                    self.assertEqual(set(received.paths), {"/v1/traces"})
                    headers = received.headers[0]
                    self.assertRegex(headers["User-Agent"], r"^OTel-OTLP-Exporter-nopspan/\d+\.\d+\.\d+$")
                    self.assertEqual(headers["X-Scope"], "a=b,c")
                    self.assertNotIn("Expect", headers)
                    self.assertEqual(exported.stderr.count("\n"), 1, exported.stderr)

    def test_a_receiver_that_fails_in_every_way(self):
        answers = [Answer(503), STORES_AND_CLOSES, Answer(502, stores=True), OK, Answer(429, headers={"Retry-After": "1"}), OK,
                   CLOSES, Answer(200, b"<html>", content_type="text/html"), Answer(200, partial_success(3), rejects=3),
                   Answer(200, partial_success(0)), Answer(200, partial_success(120), rejects=120),
                   Answer(200, b"x" * 200_000), Answer(200, b"\x0a\x40" + b"x" * 64, closes_after=10), OK, Answer(400),
                   Answer(504), OK, OK]
        received = Received(lambda number, ids: answers[number] if number < len(answers) else OK)
        exported = self.send(received, "--end-time", "1m", spans=500, seconds=20, status=1)
        traces = exported.traces()
        self.check_bounds(received.stored, exported.account)
        self.assertGreater(traces["resent"], 0)
        self.assertEqual(traces["refused"], 25)
        self.assertEqual(traces["rejected"], 3 + 25)
        self.assertEqual(traces["accepted"], 500 - 25 - 28)
        self.assertEqual(exported.account["malformed_answers"], 3)
        self.assertEqual(exported.account["warnings"], 1)
        self.assertIn("HTTP 503; trying again", exported.stderr)
        self.assertIn("accepts requests again", exported.stderr)
        self.assertIn("refused 25 spans: HTTP 400", exported.stderr)
        self.assertIn("rejected 3 of 25 spans: not these", exported.stderr)

    def test_a_receiver_that_is_down(self):
        url = unused_url()
        exported = self.export(self.recording(500, 2), "--otlp", url, "--end-time", "1s", status=1)
        self.assertEqual(exported.traces()["dropped"]["no_time"], 500)
        self.assertEqual(exported.traces()["unconfirmed"], 0)
        self.assertIn(url + "/v1/traces: Failed to connect to 127.0.0.1", exported.stderr)
        exported = self.export(self.recording(500, 2), "--otlp", "http://no-such-host.invalid", "--end-time", "1s", status=1)
        self.assertEqual(exported.traces()["dropped"]["no_time"], 500)
        self.assertIn("Could not resolve host: no-such-host.invalid", exported.stderr)

    def test_a_receiver_that_never_answers(self):
        received = Received(lambda number, ids: Answer(hangs=True, stores=True))
        exported = self.send(received, "--end-time", "1s", spans=500, status=1)
        self.assertEqual(exported.traces()["unconfirmed"], 500)
        self.assertIn("no answer before the end", exported.stderr)
        self.check_bounds(received.stored, exported.account)
        received = Received(lambda number, ids: Answer(hangs=True, stores=True) if number == 0 else OK)
        exported = self.send(received, "--timeout", "300", spans=500)
        self.assertEqual(exported.traces()["accepted"], 500)
        self.assertIn(exported.traces()["resent"], (500, 1000, 1500))  # a slow machine may not answer in time either
        self.check_bounds(received.stored, exported.account)

    def test_a_pause_of_ages_is_waited_for_within_the_limit(self):
        received = Received(lambda number, ids: OK if number else Answer(503, headers={"Retry-After": "9" * 20}))
        exported = self.send(received, "--retry-time", "1s")
        self.assertIn("HTTP 503: asks to wait for 1.00 s; trying again", exported.stderr)

    def test_redirects_are_not_followed(self):
        with HttpReceiver(Received()) as other:
            received = Received(lambda number, ids: Answer(307, headers={"Location": other.url + "/v1/traces"}))
            exported = self.send(received, status=1)
            self.assertEqual(other.received.requests, [])
        self.assertEqual(exported.traces()["refused"], 20)
        self.assertIn("HTTP 307 (redirects are not followed", exported.stderr)

    def test_secrets_are_not_printed(self):
        received = Received(lambda number, ids: Answer(401, b"bad token: s3cr3t-token", content_type="text/plain"))
        with HttpReceiver(received) as receiver:
            url = receiver.url.replace("http://", "http://user:passw0rd@")
            exported = self.export(self.recording(20, 1), "--otlp", url, status=1,
                                   OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20s3cr3t-token")
        self.assertEqual(received.headers[0]["Authorization"], "Bearer s3cr3t-token")
        self.assertIn("HTTP 401: bad token: ***", exported.stderr)
        self.assertNotRegex(exported.stderr + json.dumps(exported.account), "s3cr3t|passw0rd")

    def test_secrets_are_not_in_the_list_of_processes(self):
        with open(self.path("headers"), "w", encoding="ascii") as file:
            file.write("# for the test\nx-file: s3cr3t-file\n")
        os.chmod(self.path("headers"), 0o600)
        running, seen = queue.Queue(), []

        def look(_number, _ids):
            pid = running.get()
            for name in ("cmdline", "environ"):
                with open("/proc/%d/%s" % (pid, name), "rb") as file:
                    seen.append(file.read())
            return OK
        received = Received(look)
        with HttpReceiver(received) as receiver:
            process = self.start(self.recording(20, 1), "--otlp", receiver.url.replace("http://", "http://user:s3cr3t-url@"),
                                 "--header", "x-argument=s3cr3t-argument", "--header-file", self.path("headers"),
                                 OTEL_EXPORTER_OTLP_HEADERS="x=s3cr3t-variable", http_proxy="http://user:s3cr3t-proxy@127.0.0.1:1",
                                 no_proxy="localhost")
            running.put(process.pid)
            self.finish(process, 0)
        self.assertEqual((received.headers[0]["x-argument"], received.headers[0]["x-file"]), ("s3cr3t-argument", "s3cr3t-file"))
        self.assertTrue(received.headers[0]["Authorization"].startswith("Basic "))
        self.assertIn(b"--header\0x-argument=***", seen[0])
        self.assertIn(b"OTEL_EXPORTER_OTLP_HEADERS=***", seen[1])
        for shown in seen:
            self.assertNotIn(b"s3cr3t", shown)

    def test_secrets_are_not_printed_where_a_message_is_cut(self):
        for padding in range(150, 200, 10):
            received = Received(lambda number, ids, size=padding: Answer(401, b"x" * size + b" Bearer s3cr3t-token-0123456789",
                                                                         content_type="text/plain"))
            exported = self.send(received, "--header", "Authorization=Bearer s3cr3t-token-0123456789", status=1)
            self.assertNotIn("s3cr", exported.stderr)
        exported = self.export(self.recording(20, 1), "--otlp", "http://receiver.invalid", "--end-time", "1s", status=1,
                               http_proxy="unknown://user:p@ssw0rd@proxy.invalid")
        self.assertIn("unknown://***@proxy.invalid", exported.stderr)
        self.assertNotIn("ssw0rd", exported.stderr)

    def test_trailers_without_end_are_bounded(self):
        def answer(connection):
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            for _ in range(200_000):
                connection.sendall(b"x: %s\r\n" % (b"y" * 1000))
        process = self.start(self.recording(20, 1), "--otlp", self.listen(answer), "--end-time", "3s")
        most = 0
        while process.poll() is None:
            with contextlib.suppress(OSError), open("/proc/%d/status" % process.pid, encoding="ascii") as status:
                most = max([most] + [int(size) for size in re.findall(r"VmHWM:\s+(\d+)", status.read())])
        self.finish(process, 1)
        if MEMORY_IS_MEASURED:
            self.assertLess(most, 200_000)

    def test_an_answer_without_a_status_proves_nothing(self):
        def answer(connection):
            connection.recv(1 << 20)
            connection.sendall(b"stored\n")
        process = self.start(self.recording(20, 1), "--otlp", self.listen(answer), "--end-time", "10m")
        self.assertTrue(any("the answer is not HTTP; trying again" in line for line in process.stderr))
        process.send_signal(signal.SIGINT)  # the recording has ended, so this is about the wait
        self.assertEqual(self.finish(process, status=1).traces()["unconfirmed"], 20)

    def write_token(self, token, mode=0o600):
        """Replaces the header file, as who renews tokens does. Returns its path."""
        path = self.path("headers")
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write("authorization: Bearer %s\n" % token)
        os.chmod(path + ".new", mode)
        os.rename(path + ".new", path)
        return path

    def test_a_token_that_is_renewed_while_it_runs(self):
        def answer(number, _):
            if number == 1:
                self.write_token("second")
            token = "first" if number == 0 else "second"
            return OK if received.headers[-1]["authorization"] == "Bearer " + token else Answer(401)
        received = Received(answer)
        exported = self.send(received, "--header-file", self.write_token("first"), "--header", "x-tenant=acme", spans=20,
                             seconds=4)
        self.assertEqual(sorted(received.stored), list(range(1, 21)))
        self.assertEqual([each["authorization"] for each in received.headers[:3]],
                         ["Bearer first", "Bearer first", "Bearer second"])
        self.assertEqual({each["x-tenant"] for each in received.headers}, {"acme"})
        self.assertEqual(exported.stderr.count("--header-file was read again"), 1, exported.stderr)

    def test_a_renewed_header_file_that_others_can_read(self):
        def answer(*_):
            self.write_token("second", 0o644)
            return Answer(401)
        received = Received(answer)
        exported = self.send(received, "--header-file", self.write_token("first"), status=1)
        self.assertEqual({each["authorization"] for each in received.headers}, {"Bearer first"})
        self.assertRegex(exported.stderr, r"headers can be read or changed by other users: run chmod 6[04]0 on it: the headers "
                         "that were read before are still sent")

    def test_a_header_file_that_is_a_pipe_without_a_writer(self):
        os.mkfifo(self.path("pipe"), 0o600)
        process = self.start(self.recording(20, 1), "--otlp", "http://localhost", "--header-file", self.path("pipe"))
        wait_until(lambda: self.path("pipe") in opened_by(process.pid), "it to be opened", PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        self.assertIn("stopped before", self.finish(process, status=1).stderr)

    def test_a_user_may_end_the_wait_and_keep_the_account(self):
        process = self.start(self.recording(500, 2), "--otlp", unused_url(), "--end-time", "10m", "--spool", self.path("kept"))
        for line in process.stderr:
            if "trying again for at most" in line:
                break
        process.send_signal(signal.SIGINT)  # the recording has ended, so this is about the wait
        self.assertEqual(self.finish(process).traces()["spooled"], 500)

    def test_a_duration_ends_the_wait_for_space(self):
        exported = self.export(self.recording(5000, 20), "--otlp", unused_url(), "--queue", "1", "--duration", "1s",
                               "--end-time", "1s", status=1)
        self.assertGreater(exported.traces()["dropped"]["no_time"], 0)

    def test_a_proxy_is_used_and_may_fail(self):
        with HttpReceiver(Received()) as proxy:
            self.export(self.recording(20, 1), "--otlp", "http://receiver.invalid:4318", http_proxy=proxy.url)
            self.assertEqual(proxy.received.paths, ["http://receiver.invalid:4318/v1/traces"])
            with HttpReceiver(Received()) as receiver:
                self.export(self.recording(20, 1), "--otlp", receiver.url, http_proxy=proxy.url, no_proxy="localhost")
                self.assertEqual(len(receiver.received.requests), 1)
        exported = self.export(self.recording(20, 1), "--otlp", "http://receiver.invalid:4318", "--end-time", "1s", status=1,
                               http_proxy=unused_url())
        self.assertEqual(exported.traces()["dropped"]["no_time"], 20)

    def test_a_receiver_that_is_killed_and_restarted(self):
        store, port = self.path("store"), otlp_receiver.free_port()
        spans = 10_000_000 if os.environ.get("NOPSPAN_LONG") == "1" else 400_000
        exporter = self.start(self.recording(spans, 200), "--otlp", "http://127.0.0.1:%d" % port, "--end-time", "5m")
        choose = random.Random(1)
        runs = 0
        while exporter.poll() is None:
            receiver = subprocess.Popen([sys.executable, otlp_receiver.__file__, str(port), store])
            runs += 1
            before = os.path.getsize(store) if os.path.exists(store) else 0
            more = choose.randrange(1, 8 * spans // 5) if runs < 6 else sys.maxsize
            wait_until(lambda: exporter.poll() is not None or
                       os.path.exists(store) and os.path.getsize(store) > before + more, "spans in the store", PATIENCE_S)
            receiver.kill()
            receiver.wait()
        exported = self.finish(exporter, 0)
        stored = array.array("Q")
        with open(store, "rb") as file:
            stored.frombytes(file.read())
        stored.byteswap()
        self.assertEqual(set(stored), set(range(1, spans + 1)))
        self.check_bounds(stored, exported.account)
        self.assertGreater(runs, 1)


class Spool(ExportTest):
    def fill(self, spans, spool):
        exported = self.export(self.recording(spans, 50), "--otlp", unused_url(), "--queue", "1K", "--spool", spool,
                               "--end-time", "1s")
        self.assertEqual(exported.traces()["spooled"], spans)

    def test_an_exporter_that_is_killed_loses_nothing_of_its_spool(self):
        spool = self.path("spool")
        self.fill(5000, spool)
        received = Received()
        kills = 0
        choose = random.Random(2)
        with HttpReceiver(received) as receiver:
            while kills < 8:
                exporter = self.start(self.recording(0, 1), "--otlp", receiver.url, "--spool", spool)
                goal = len(received.requests) + choose.randrange(1, 6)
                wait_until(lambda: exporter.poll() is not None or len(received.requests) >= goal, "requests", PATIENCE_S)
                exporter.send_signal(signal.SIGKILL)
                exporter.communicate()
                kills += 1
            last = self.export(self.recording(0, 1), "--otlp", receiver.url, "--spool", spool)
        self.assertEqual(set(received.stored), set(range(1, 5001)))
        self.assertEqual(last.traces()["found"], last.traces()["accepted"])
        group = max(map(len, received.requests))
        self.assertLessEqual(len(received.stored) - 5000, kills * group)

    def test_what_waits_is_counted_while_the_writer_of_the_recording_is_silent(self):
        spool, pipe = self.path("spool"), self.path("pipe")
        os.mkfifo(pipe)
        with HttpReceiver(Received(lambda number, ids: Answer(hangs=True))) as receiver:
            exporter = self.start(pipe, "--otlp", receiver.url, "--timeout", "600000", "--spool", spool)
            with open(pipe, "wb") as writer, open(self.recording(1000, 2), "rb") as recording:
                writer.write(recording.read())
                writer.flush()
                self.kill_when_counted(exporter, spool, 1000)
        last = self.export(self.recording(0, 1), "--otlp", receiver.url, "--spool", spool, status=1)
        self.assertEqual(last.traces()["found"] + last.traces()["missing"], 1000)

    def test_a_run_that_cannot_begin_leaves_the_count_to_the_next_one(self):
        spool = self.path("spool")
        with HttpReceiver(Received(lambda number, ids: Answer(hangs=True))) as receiver:
            exporter = self.start(self.recording(1000, 2), "--otlp", receiver.url, "--spool", spool, "--end-time", "10m",
                                  "--timeout", "600000")
            self.kill_when_counted(exporter, spool, 1000)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            failed = self.export(self.recording(0, 1), "--otlp", "http://127.0.0.1:1", "--spool", spool, "--serve", address,
                                 status=1)
            self.assertIn("cannot listen", failed.stderr)
        with HttpReceiver(Received()) as receiver:
            last = self.export(self.recording(0, 1), "--otlp", receiver.url, "--spool", spool, status=1)
        self.assertGreater(last.traces()["missing"], 0)
        self.assertEqual(last.traces()["found"] + last.traces()["missing"], 1000)

    def kill_when_counted(self, exporter, spool, spans):
        """Kills it when so many spans are in a body on disk or counted."""
        def is_counted():
            with open(os.path.join(spool, "unsaved"), encoding="ascii") as file:
                words = file.read().split()  # none, if the file was made just now
            on_disk = sum(int(name.split("-")[1]) for name in os.listdir(spool) if name.endswith(".otlp.gz"))
            return len(words) > 2 and int(words[2]) + on_disk == spans
        wait_until(lambda: os.path.exists(os.path.join(spool, "unsaved")) and is_counted(), "the count", PATIENCE_S)
        exporter.kill()
        exporter.communicate()


class Secure(ExportTest):
    """TLS, with an authority of its own."""

    def setUp(self):
        super().setUp()
        make_certificates(self.folder.name)

    def test_a_certificate_is_checked(self):
        with HttpReceiver(Received(), tls=otlp_receiver.tls_context(self.folder.name)) as receiver:
            exported = self.export(self.recording(100, 5), "--otlp", receiver.url, "--certificate", self.path("ca.crt"))
            self.assertEqual(exported.traces()["accepted"], 100)
            exported = self.export(self.recording(100, 5), "--otlp", receiver.url, "--end-time", "1s", status=1)
            self.assertEqual(exported.traces()["dropped"]["no_time"], 100)
            self.assertRegex(exported.stderr, "certificate")
            exported = self.export(self.recording(100, 5), "--otlp", receiver.url.replace("localhost", "127.0.0.1"),
                                   "--certificate", self.path("ca.crt"), "--end-time", "1s", status=1)
            self.assertEqual(exported.traces()["dropped"]["no_time"], 100)

    @unittest.skipIf(os.geteuid() != 0, "needs root, to replace the system's authorities for one process")
    def test_a_given_authority_replaces_those_of_the_system(self):
        os.mkdir(self.path("system"))
        shutil.copy(self.path("ca.crt"), os.path.join(self.path("system"), "ca.pem"))
        subprocess.run(["openssl", "rehash", self.path("system")], check=True)
        shutil.copy(self.path("ca.crt"), os.path.join(self.path("system"), "ca-certificates.crt"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.path("other.key"), "-out",
                        self.path("other.crt"), "-subj", "/CN=other authority"], check=True, stderr=subprocess.DEVNULL)
        self.program = [*ability.own_mounts(), "sh", "-c", 'mount --bind "$1" /etc/ssl/certs && shift && exec "$@"', "sh",
                        self.path("system"), PROGRAM]
        with HttpReceiver(Received(), tls=otlp_receiver.tls_context(self.folder.name)) as receiver:
            self.export(self.recording(20, 1), "--otlp", receiver.url)
            exported = self.export(self.recording(20, 1), "--otlp", receiver.url, "--certificate", self.path("other.crt"),
                                   "--end-time", "1s", status=1)
            self.assertEqual(exported.traces()["dropped"]["no_time"], 20)

    def test_a_receiver_may_want_a_certificate_of_the_client(self):
        context = otlp_receiver.tls_context(self.folder.name)
        context.load_verify_locations(self.path("ca.crt"))
        context.verify_mode = otlp_receiver.ssl.CERT_REQUIRED
        with HttpReceiver(Received(), tls=context) as receiver:
            options = ("--otlp", receiver.url, "--certificate", self.path("ca.crt"))
            exported = self.export(self.recording(20, 1), *options, "--client-key", self.path("client.key"),
                                   "--client-certificate", self.path("client.crt"))
            self.assertEqual(exported.traces()["accepted"], 20)
            self.export(self.recording(20, 1), *options, "--end-time", "1s", status=1)
            self.assertEqual(len(receiver.received.requests), 1)

    def test_grpc(self):
        with open(self.path("server.key"), "rb") as key, open(self.path("server.crt"), "rb") as certificate:
            tls = (key.read(), certificate.read())
        with GrpcReceiver(Received(), tls=tls) as receiver:
            exported = self.export(self.recording(10_000, 1000), "--otlp", receiver.url, "--protocol", "grpc", "--certificate",
                                   self.path("ca.crt"))
            self.assertEqual(exported.traces()["accepted"], 10_000)
            self.assertGreaterEqual(len(receiver.received.requests), 1000)
            self.assertEqual(sorted(receiver.received.stored), list(range(1, 10_001)))
            exported = self.export(self.recording(100, 5), "--otlp", receiver.url, "--protocol", "grpc", "--end-time", "1s",
                                   status=1)
            self.assertEqual(exported.traces()["dropped"]["no_time"], 100)


class Grpc(ExportTest):
    receiver, protocol = GrpcReceiver, ("--protocol", "grpc")

    def test_a_healthy_receiver_has_everything(self):
        for requests, compression in ((1000, "none"), (100, "gzip")):
            with self.subTest(compression=compression):
                received = Received()
                exported = self.send(received, "--compression", compression, "--header", "X-Scope=a", spans=10 * requests,
                                     seconds=requests)
                self.assertEqual(sorted(received.stored), list(range(1, 10 * requests + 1)))
                self.assertGreaterEqual(len(received.requests), requests)
                self.assertEqual(exported.account["malformed_answers"], 0)
                self.assertEqual(received.paths[0], "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
                self.assertEqual(received.headers[0]["x-scope"], "a")
                self.assertRegex(received.headers[0]["user-agent"], "^OTel-OTLP-Exporter-nopspan/")

    def test_a_receiver_that_fails_in_every_way(self):
        answers = [Answer("UNAVAILABLE"), Answer("DEADLINE_EXCEEDED", stores=True), OK,
                   Answer("RESOURCE_EXHAUSTED", details=retry_info(1_000_000)), OK,
                   Answer("RESOURCE_EXHAUSTED", message="no quota"), Answer("INVALID_ARGUMENT", message="größe"),
                   Answer("UNIMPLEMENTED"), Answer(200, partial_success(3), rejects=3), Answer(200, b"\xff\xff"), OK]
        received = Received(lambda number, ids: answers[number] if number < len(answers) else OK)
        exported = self.send(received, "--end-time", "1m", spans=500, seconds=20, status=1)
        traces = exported.traces()
        self.check_bounds(received.stored, exported.account)
        self.assertEqual(traces["refused"], 75)
        self.assertEqual(traces["rejected"], 3)
        self.assertEqual(traces["accepted"], 422)
        self.assertEqual(exported.account["malformed_answers"], 1)
        self.assertIn("gRPC UNAVAILABLE; trying again", exported.stderr)

    def test_a_receiver_that_never_answers(self):
        received = Received(lambda number, ids: Answer(hangs=True, status="UNAVAILABLE", stores=True) if number == 0 else OK)
        exported = self.send(received, "--timeout", "300", spans=50)
        self.assertEqual(exported.traces()["resent"], 50, exported.stderr)
        self.check_bounds(received.stored, exported.account)

    def test_a_receiver_that_wants_smaller_requests(self):
        with GrpcReceiver(Received(), most_bytes=2000) as receiver:
            exported = self.export(self.recording(500, 1), "--otlp", receiver.url, "--protocol", "grpc")
        self.assertEqual(exported.traces()["accepted"], 500)
        self.assertEqual(sorted(receiver.received.stored), list(range(1, 501)))

    def through_proxy(self, spans, *answer):
        url = self.listen(lambda connection: answer_too_early(connection, *answer))
        return self.export(self.recording(spans, 1), "--protocol", "grpc", "--end-time", "1s", "--otlp", url, status=1)

    def test_a_proxy_that_answers_before_it_has_read_the_request(self):
        exported = self.through_proxy(3000, 401)
        self.assertEqual(exported.traces()["refused"], 3000)
        self.assertIn("refused 3000 spans: HTTP 401", exported.stderr)

    def test_a_proxy_that_answers_only_requests_without_a_body(self):
        """What has become of the others is not known, whatever these answers are."""
        for status in (400, 401, 503):
            with self.subTest(status):
                exported = self.through_proxy(20, status, True)
                self.assertEqual(exported.traces()["unconfirmed"], 20)
                self.assertIn("HTTP %d" % status, exported.stderr)

    def test_a_proxy_that_asks_to_wait(self):
        # HPACK: the header retry-after and its value as a text
        exported = self.through_proxy(20, 503, False, b"\x0f\x26\x0260")
        self.assertIn("HTTP 503: asks to wait for 1m00s", exported.stderr)

    def test_no_limit_of_time(self):
        received = Received()
        exported = self.send(received, OTEL_EXPORTER_OTLP_TIMEOUT="0")
        self.assertEqual(exported.traces()["accepted"], 20)
        self.assertNotIn("grpc-timeout", received.headers[0])

    def test_the_port_of_the_other_protocol(self):
        with GrpcReceiver(Received()) as receiver:
            exported = self.export(self.recording(20, 1), "--otlp", receiver.url, "--end-time", "1s", status=1)
        self.assertIn("perhaps this port takes gRPC: use --protocol grpc, or the port for HTTP (4318)", exported.stderr)
        self.assertEqual(exported.traces()["unconfirmed"], 0)
        with HttpReceiver(Received()) as receiver:
            exported = self.export(self.recording(20, 1), "--otlp", receiver.url, *self.protocol, "--end-time", "1s", status=1)
        self.assertEqual(exported.traces()["accepted"], 0)
        self.assertIn("perhaps this port takes HTTP: use --protocol http/protobuf, or the port for gRPC (4317)", exported.stderr)


class Settings(ExportTest):
    def test_wrong_settings_end_the_program(self):
        for options, variables, message in [
                (("--otlp", "localhost:4318"), {}, "write http://HOST:PORT"),
                ((), {}, "use --otlp URL, --otlp-file DIR or --serve ADDRESS"),
                (("--otlp-file", "/", "--spool", "spool"), {}, "--spool requires --otlp"),
                (("--otlp", "http://localhost", "--spool-size", "1G"), {}, "--spool-size requires --spool"),
                (("--otlp", "http://localhost", "--queue", "0"), {}, "--queue: \"0\" is not between 1 and"),
                (("--otlp-file", "/", "--protocol", "grpc"), {}, "--protocol requires --otlp"),
                (("--otlp-file", "/", "--header-file", "/x"), {}, "--header-file requires --otlp"),
                (("--otlp", "http://localhost", "--header", ""), {}, "--header: the value must not be empty"),
                (("--otlp", "http://localhost", "--signals", "spans"), {}, "\"spans\" is not one of traces, logs, metrics"),
                (("--serve", "127.0.0.1:0", "--host", "node7:9464"), {}, "is not a name: leave out the port"),
                (("--otlp", "http://localhost", "--host", "a"), {}, "--host requires --serve")]:
            with self.subTest(options=options):
                exported = self.export(self.recording(20, 1), *options, status=2, **variables)
                self.assertIn(message, exported.stderr)

    def test_unknown_values_of_variables_are_ignored_with_a_warning(self):
        exported = self.send(Received(), OTEL_EXPORTER_OTLP_PROTOCOL="xml", OTEL_RESOURCE_ATTRIBUTES="malformed")
        self.assertEqual(exported.traces()["accepted"], 20)
        self.assertIn("OTEL_EXPORTER_OTLP_PROTOCOL: 'xml' is not", exported.stderr)
        self.assertIn("OTEL_RESOURCE_ATTRIBUTES: write NAME=VALUE", exported.stderr)
        for interval in ("0", "abc", " 60000", "9223372036854775807"):
            exported = self.export(self.recording(20, 1), "--otlp-file", self.folder.name,
                                   OTEL_METRIC_EXPORT_INTERVAL=interval)
            self.assertIn("OTEL_METRIC_EXPORT_INTERVAL: \"%s\" is not" % interval, exported.stderr)

    def test_receivers_of_signals_are_named(self):
        with HttpReceiver(Received()) as receiver:
            exported = self.export(self.recording(20, 1), "--signals", "traces,logs", "--end-time", "1s",
                                   OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.url + "/custom")
        self.assertIn("Exporting to %s/custom (traces) http://localhost:4318 (logs). " % receiver.url, exported.stderr)

    def test_nothing_is_announced_before_the_port_is_taken(self):
        with HttpReceiver(Received()) as receiver:
            exported = self.export(self.recording(20, 1), "--otlp", receiver.url, "--serve", receiver.url[len("http://"):],
                                   status=1)
        self.assertEqual(exported.stderr.count("\n"), 1, exported.stderr)
        self.assertTrue(exported.stderr.startswith("nopspan: cannot listen on"), exported.stderr)

    def test_metrics_can_be_served_without_a_receiver(self):
        exported = self.export(self.recording(20, 1), "--serve", "127.0.0.1:0", "--spool", "unused", OTEL_EXPORTER_OTLP_ENDPOINT="")
        self.assertIn("No receiver is set, so metrics are served only. Metrics are at http://127.0.0.1:", exported.stderr)
        self.assertFalse(os.path.exists("unused"))

    @unittest.skipIf(os.geteuid() != 0, "only root may drop capabilities")
    def test_a_privileged_port(self):
        done = subprocess.run(["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service", "unshare", "--net",
                               PROGRAM, "serve", "0.0.0.0:80", "--from", self.recording(20, 1)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("CAP_NET_BIND_SERVICE", done.stderr)

    def test_a_recording_is_served_for_a_duration(self):
        done = subprocess.run([PROGRAM, "serve", "127.0.0.1:0", "--from", self.recording(20, 1), "--duration", "100ms"],
                              stderr=subprocess.PIPE, text=True, check=True, timeout=60)
        self.assertIn("0 scrapes answered\n", done.stderr)


class Socket(ExportTest):
    """Programs that write to --from unix:PATH."""

    def setUp(self):
        super().setUp()
        self.socket = self.path("socket")
        self.process = self.start("unix:" + self.socket, "--serve", "127.0.0.1:0", "--metric-interval", "1h")
        self.said = self.process.stderr.readline()
        self.address = re.search(r"Metrics are at (http://[^/]+/metrics)", self.said)[1]
        self.addCleanup(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=PATIENCE_S)

    def metric(self, name):
        with urllib.request.urlopen(self.address, timeout=PATIENCE_S) as answer:
            found = re.search("^" + re.escape(name) + r" (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else None

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.connect(self.socket)
        return connection

    def test_metrics_show_whether_a_tracer_is_connected(self):
        wait_until(lambda: self.metric("nopspan_sources") == 0, "no source")
        self.assertIsNone(self.metric("nopspan_source_last_entry_timestamp_seconds"))
        with open(self.recording(20, 1), "rb") as file:
            recording = file.read()
        tracer = self.connect()
        before = time.time()
        tracer.sendall(recording)
        wait_until(lambda: self.metric("nopspan_sources") == 1, "the tracer")
        wait_until(lambda: self.metric("nopspan_source_last_entry_timestamp_seconds"), "an entry")
        self.assertGreater(self.metric("nopspan_source_last_entry_timestamp_seconds"), before - 1)
        tracer.close()
        wait_until(lambda: self.metric("nopspan_sources") == 0, "the tracer to be gone")

    def test_connections_that_were_closed_are_counted(self):
        with open(self.recording(20, 1), "rb") as file:
            begin = file.read(200)
        for _ in range(100):
            self.connect().sendall(begin)
        wait_until(lambda: self.metric('nopspan_sources_closed_total{reason="greedy"}') == 96, "four connections to be left")
        self.assertIn("96 connections closed because", self.end()[1])


if __name__ == "__main__":
    missing = [name for name in ("openssl",) if not any(os.access(os.path.join(folder, name), os.X_OK)
                                                        for folder in os.environ["PATH"].split(":"))]
    try:
        import grpc  # noqa: F401  pylint: disable=unused-import
    except ImportError:
        missing.append("python3-grpcio")
    if missing:
        print("missing: " + ", ".join(missing))
        sys.exit(77)
    unittest.main()
