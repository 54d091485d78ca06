# SPDX-License-Identifier: Apache-2.0
"""nopspan::recording: a program records itself (programs/recorded.cpp), and the collector's commands read it. Needs no
privileges, no BPF and no tracer."""

import collections
import json
import os
import resource
import shutil
import socket
import subprocess
import threading
import unittest

import example_service
import recording
from example_service import PROMPTS, Agent, Server
from harness import NOPSPAN, PATIENCE_S, PROGRAMS, Program, Test, nopspan
from waiting import wait_until

RECORDED = os.path.join(PROGRAMS, "recorded")

LOSSES = ("ring_full", "unreadable", "too_large", "malformed", "missed", "discarded", "no_memory", "over_limit",
          "reentrant", "export_dropped", "not_in_file")


def name_of(entry):
    return entry.fields["name"].decode()


def names(path):
    return collections.Counter(name_of(entry) for entry in recording.all_entries(path))


def in_chunks(path):
    """How many entries a file has. Decoding hundreds of thousands of them would take minutes."""
    return sum(chunk.entries for chunk in recording.whole_chunks(path)[0])


class Reader:
    """Listens on a Unix socket and keeps what each connection sends. A context manager; `restart()` as a reader that was
    killed and started again."""

    def __init__(self, path):
        self.path = path
        self.received = []
        self.start()

    def start(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.connection = None
        self.thread = threading.Thread(target=self.run, args=(self.listener,), daemon=True)
        self.thread.start()

    def run(self, listener):
        try:
            while True:
                self.connection, _ = listener.accept()
                data = bytearray()
                self.received.append(data)
                while True:
                    some = self.connection.recv(65536)
                    if not some:
                        break
                    data += some
        except OSError:
            pass

    def stop(self):
        os.remove(self.path)
        for each in (self.listener, self.connection):
            if each is not None:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.thread.join(PATIENCE_S)
        self.listener.close()
        if self.connection is not None:
            self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if os.path.exists(self.path):
            self.stop()


class OwnRecording(Test):
    def setUp(self):
        self.folder = self.temporary_folder()
        self.path = os.path.join(self.folder, "own.rec")

    def start(self, target=None, buffer_bytes="", command=None, env=None):
        program = Program("recorded", command=command or [RECORDED], env=env)
        self.addCleanup(program.__exit__, None)
        self.assertEqual(program.ask("open %s %s" % (target or self.path, buffer_bytes)), "")
        return program

    @staticmethod
    def statistics(program):
        return json.loads(program.ask("statistics"))

    def wait_for(self, program, condition, what):
        wait_until(lambda: condition(self.statistics(program)), what, seen=lambda: self.statistics(program))

    def total(self, path, lost=0):
        """The ledger's total, which must balance."""
        counts = recording.ledger(path)["total"]
        total = {name: counts.get(name, 0) for name in ("emitted", "delivered", "lost", *LOSSES)}
        self.assertEqual(total["lost"], sum(total[loss] for loss in LOSSES), total)
        self.assertEqual(total["emitted"], total["delivered"] + total["lost"], total)
        if lost is not None:
            self.assertEqual(total["lost"], lost, total)
        return total

    def recordings(self, reader):
        """The recordings of all connections, each in a file."""
        found = []
        for i, data in enumerate(reader.received):
            path = os.path.join(self.folder, "connection%d" % i)
            with open(path, "wb") as file:
                file.write(data)
            found.append(path)
        return found


class Files(OwnRecording):
    def test_the_collectors_commands_read_it(self):
        program = self.start()
        program.ask("everything")
        program.ask("spans plain.span 1000")
        self.assertEqual(program.ask("close"), "complete")
        found = names(self.path)
        self.assertEqual(found["plain.span"], 1000)
        self.assertEqual(found["engine.step"], 6)  # with two parts of members
        self.assertEqual(found["agent.operator.iteration"], 1)
        self.assertEqual(found["gen_ai.retry"], 2)
        total = self.total(self.path)
        self.assertEqual(total["delivered"], sum(found.values()))
        row, = recording.ledger(self.path)["processes"]
        self.assertEqual((row["pid"], row["comm"], row["emitted"]), (program.pid, "recorded", total["emitted"]))
        replayed = json.loads(nopspan("replay", self.path, "--json").stdout)
        self.assertEqual(replayed["ledger"]["total"]["delivered"], total["delivered"])
        self.assertNotIn("damage", replayed["ledger"])
        traced = nopspan("trace", "--from", self.path, "--json")
        self.assertEqual(traced.returncode, 0, traced.stderr)
        for command in ("top", "hist"):
            done = nopspan(command, "--from", self.path, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("plain.span", done.stdout)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_each_copy_of_a_process_that_works_has_a_whole_recording(self):
        program = self.start()
        program.ask("copies 10")
        program.ask("close")
        files = sorted(os.listdir(self.folder))
        self.assertEqual(len(files), 11)
        for name in files:
            ledger = json.loads(nopspan("replay", os.path.join(self.folder, name), "--json").stdout)["ledger"]
            damage = {what: count for what, count in ledger.get("damage", {}).items() if count and what != "missing_ends"}
            self.assertEqual((damage, ledger["total"]["not_in_file"]), ({}, 0), name)
            self.assertGreater(ledger["total"]["delivered"], 1000)

    def test_no_content_without_capture_content(self):
        program = self.start()
        program.ask("everything")
        program.ask("close")
        captured = os.path.join(self.folder, "captured.rec")
        program = self.start(captured, env={"NOPSPAN_CAPTURE_CONTENT": "1"})
        program.ask("everything")
        program.ask("close")
        for path, expected in ((self.path, False), (captured, True)):
            with open(path, "rb") as file:
                self.assertEqual(b"a prompt" in file.read(), expected, path)

    def test_spans_in_signal_handlers(self):
        program = self.start()
        outside, inside = map(int, program.ask("signal 100").split())
        program.ask("close")
        # The thread may be faster than the disk.
        total = self.total(self.path, lost=None)
        self.assertEqual(total["emitted"] - total["reentrant"], inside + outside)
        self.assertEqual(total["delivered"], in_chunks(self.path))

    def test_what_is_open_at_exit(self):
        program = self.start()
        program.ask("leave")
        program.process.stdin.write("exit\n")
        program.process.stdin.flush()
        self.assertEqual(program.process.wait(PATIENCE_S), 0)
        self.assertEqual(names(self.path), {"left.scope": 1, "left.async": 1, "left.on_thread": 1, "ended": 1})
        self.assertEqual(self.total(self.path)["delivered"], 4)
        traced = nopspan("trace", "--from", self.path, "--attributes")
        self.assertEqual(traced.returncode, 0, traced.stderr)
        root, *inside = [line for line in traced.stdout.splitlines() if "left.scope" in line or "left.async" in line
                         or "ended" in line]
        self.assertRegex(root, "left.scope.*cancelled exit")
        self.assertRegex("".join(line for line in inside if "left.async" in line), "cancelled exit")
        self.assertIn("left.on_thread", traced.stdout)
        self.assertIn("acme", traced.stdout)
        self.assertRegex(traced.stdout, r"\bn=7")

    def test_a_killed_program(self):
        program = self.start()
        program.ask("spans killed.span 12")
        self.wait_for(program, lambda s: s["delivered"] == 12 and s["bytes"] > 2000, "the entries to be written")
        program.kill()
        _, is_whole = recording.whole_chunks(self.path)
        self.assertFalse(is_whole)
        replayed = nopspan("replay", self.path, "--json")
        ledger = json.loads(replayed.stdout)["ledger"]
        self.assertEqual(ledger["total"]["delivered"], 12)
        self.assertEqual(ledger["damage"]["missing_ends"], 1)

    def test_a_child_is_not_in_it(self):
        program = self.start()
        program.ask("spans parent.span 3")
        of_child = os.path.join(self.folder, "child.rec")
        self.assertEqual(program.ask("fork " + of_child), "0")
        program.ask("spans parent.span 3")
        self.assertEqual(program.ask("close"), "complete")
        self.assertEqual(names(self.path), {"parent.span": 6})
        self.assertEqual(names(of_child), {"in.child.recorded": 20})
        row, = recording.ledger(of_child)["processes"]
        self.assertNotEqual(row["pid"], program.pid)

    def test_targets_that_cannot_be_opened(self):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("not a recording")
        program = Program("recorded", command=[RECORDED])
        self.addCleanup(program.__exit__, None)
        for target, why in ((self.path, "File exists"), ("file:" + self.path, "File exists"), ("fd:x", "not a number"),
                            ("fd:", "not a number"), ("fd:999", "Bad file descriptor"), ("fd:0", "not open for writing"),
                            ("unix:", "1 to 107"), ("unix:" + "x" * 108, "1 to 107"), ("file:", "must be"),
                            (self.folder + "/no/file", "No such file"), (self.folder, "File exists")):
            self.assertIn(why, program.ask("open " + target), target)
        self.assertEqual(program.ask("close"), "complete")
        with open(self.path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "not a recording")

    def test_a_full_disk(self):
        """A file over its limit, which would send SIGXFSZ to the program. What was written can be read."""
        limited = ["prlimit", "--fsize=100000:100000", RECORDED]
        program = self.start(command=limited)
        expected = 0
        while self.statistics(program)["dropped"] == 0:
            program.ask("spans filling.span 500")
            expected += 500
            self.wait_for(program, lambda s: s["dropped"] > 0 or s["bytes"] > 50 * expected, "a chunk")  # pylint: disable=cell-var-from-loop
        self.assertEqual(program.ask("close"), "incomplete")
        self.assertGreater(in_chunks(self.path), 0)
        self.assertLessEqual(os.path.getsize(self.path), 100000)
        replayed = json.loads(nopspan("replay", self.path, "--json").stdout)
        self.assertEqual(replayed["ledger"].get("damage", {}).get("skipped_bytes", 0), 0)
        self.assertTrue(replayed["ledger"]["total"]["balanced"])


class Pipes(OwnRecording):
    def test_a_pipe_to_a_command(self):
        command = ["sh", "-c", '{ "$0" 5>&1 >&6 | "$1" trace --from - --json > "$2"; } 6>&1', RECORDED,
                   NOPSPAN, self.path]
        program = self.start("fd:5", command=command)
        program.ask("spans piped.span 100")
        self.assertEqual(program.ask("close"), "complete")
        program.__exit__(None)
        with open(self.path, encoding="utf-8") as file:
            self.assertEqual(file.read().count('"piped.span"'), 100)

    def test_the_reader_of_a_pipe_dies(self):
        """The program gets no SIGPIPE. The next reader of a named pipe gets a recording of its own."""
        fifo = os.path.join(self.folder, "fifo")
        os.mkfifo(fifo)
        program = self.start(fifo)
        program.ask("spans early.span 5")
        self.wait_for(program, lambda s: s["dropped"] == 5, "entries that nobody reads")
        with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
            self.wait_for(program, lambda s: s["connections"] == 1, "a reader")
            reader.kill()
        program.ask("spans between.span 5")
        self.wait_for(program, lambda s: s["dropped"] == 10, "entries that nobody reads")
        with open(self.path, "wb") as out, subprocess.Popen(["cat", fifo], stdout=out) as reader:
            self.wait_for(program, lambda s: s["connections"] == 2, "a reader")
            program.ask("spans read.span 5")
            program.ask("close")
            reader.wait(PATIENCE_S)
        self.assertEqual(names(self.path), {"read.span": 5})
        total = self.total(self.path, lost=None)
        self.assertEqual(total["delivered"], 5)
        self.assertIn(total["export_dropped"], (5, 10))

    def test_a_slow_reader_gets_a_ledger_that_balances(self):
        read_end, write_end = os.pipe()
        command = ["sh", "-c", 'exec "$0" 5> "/proc/$1/fd/$2"', RECORDED, str(os.getpid()), str(write_end)]
        program = self.start("fd:5", 300000, command=command)
        os.close(write_end)
        program.ask("spans slow.span 200000")
        with open(self.path, "wb") as out, os.fdopen(read_end, "rb") as pipe:
            copying = threading.Thread(target=shutil.copyfileobj, args=(pipe, out))
            copying.start()
            self.wait_for(program, lambda s: s["emitted"] == 200000, "the ledger to know all entries")
            self.assertEqual(program.ask("close"), "incomplete")
            program.__exit__(None)  # it has the descriptor too
            copying.join(PATIENCE_S)
        total = self.total(self.path, lost=None)
        self.assertEqual(total["emitted"], 200000)
        self.assertGreater(total["export_dropped"], 0)
        self.assertEqual(total["delivered"], in_chunks(self.path))


class Sockets(OwnRecording):
    def test_a_reader_that_comes_late_and_is_restarted(self):
        where = os.path.join(self.folder, "socket")
        program = self.start("unix:" + where)
        program.ask("spans early.span 100")
        self.wait_for(program, lambda s: s["dropped"] == 100, "entries without a reader")
        with Reader(where) as reader:
            self.wait_for(program, lambda s: s["connections"] == 1, "a connection")
            program.ask("spans first.span 100")
            self.wait_for(program, lambda s: s["delivered"] == 100, "entries that are received")
            wait_until(lambda: b"first.span" in reader.received[0], "the entries to arrive")
            wait_until(lambda: b'"emitted":200' in reader.received[0], "a ledger with them")
            reader.stop()
            program.ask("spans between.span 100")
            self.wait_for(program, lambda s: s["dropped"] == 200, "entries without a reader")
            reader.start()
            self.wait_for(program, lambda s: s["connections"] == 2, "another connection")
            program.ask("spans second.span 100")
            self.assertEqual(program.ask("close"), "incomplete")
            wait_until(lambda: len(reader.received) == 2 and b"second.span" in reader.received[1], "the rest to arrive")
            reader.thread.join(0.1)
            first, second = self.recordings(reader)
        self.assertEqual(names(second), {"second.span": 100})
        totals = [recording.ledger(path)["total"] for path in (first, second)]
        for key, expected in (("emitted", 400), ("delivered", 200), ("export_dropped", 200)):
            self.assertEqual(sum(total[key] for total in totals), expected, (key, totals))
        ids = {json.loads(recording.whole_chunks(path)[0][0].payload)["recording"] for path in (first, second)}
        self.assertEqual(len(ids), 2)
        both = os.path.join(self.folder, "both")
        with open(both, "wb") as out:
            for path in (first, second):
                with open(path, "rb") as file:
                    out.write(file.read())
        ledger = json.loads(nopspan("replay", both, "--json").stdout)["ledger"]
        self.assertEqual(ledger["total"]["emitted"], 400)
        self.assertTrue(ledger["total"]["balanced"])

    def test_a_recorder_writes_to_a_socket(self):
        """`nopspan record unix:PATH`, here with a recording as its source. Without a reader, all entries are lost and
        counted, and the exit status is 1."""
        program = self.start()
        program.ask("everything")
        program.ask("spans plain.span 50")
        self.assertEqual(program.ask("close"), "complete")
        where = os.path.join(self.folder, "socket")
        done = nopspan("record", "unix:" + where, "--from", self.path, "--json")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("No such file", done.stderr)
        total = json.loads(done.stdout)["ledger"]["total"]
        self.assertEqual((total["delivered"], total["lost"]), (0, total["emitted"]))
        with Reader(where) as reader:
            done = nopspan("record", "unix:" + where, "--from", self.path, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            wait_until(lambda: reader.received and bytes(reader.received[0][-32:-28]) == b"NSPF", "the end of the recording")
            copied, = self.recordings(reader)
        self.assertEqual(names(copied), names(self.path))
        self.assertEqual(self.total(copied), self.total(self.path))


@unittest.skipUnless(os.path.exists(example_service.SERVER), "the examples are not built (NOPSPAN_EXAMPLES=ON)")
class ExampleService(OwnRecording):
    def test_both_programs_record_themselves(self):
        where = os.path.join(self.folder, "socket")
        with Reader(where) as reader:
            with Server(self.folder, "--record", self.path) as server:
                agent = Agent(server.url, "--record", "unix:" + where, *PROMPTS)
            self.assertEqual(agent.status, 0)
            wait_until(lambda: reader.received and bytes(reader.received[0][-32:-28]) == b"NSPF", "the end of the recording")
            of_agent, = self.recordings(reader)
        self.total(of_agent)
        self.total(self.path)
        asked, answered = names(of_agent), names(self.path)
        self.assertEqual(asked["llm.chat"], len(PROMPTS))
        self.assertEqual(asked["llm.step"], answered["engine.request"])
        self.assertGreater(answered["engine.request"], len(PROMPTS))

    def test_a_recording_that_cannot_be_written_is_reported(self):
        agent = subprocess.run([example_service.AGENT, "--base-url", "http://127.0.0.1:1", "--record", self.folder, "hello"],
                               stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S)
        self.assertEqual(agent.returncode, 2)
        self.assertIn("--record: ", agent.stderr)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unittest.main()
