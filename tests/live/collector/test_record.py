# SPDX-License-Identifier: Apache-2.0
"""nopspan record: the recording, read by independent code, has what in-process handlers received in the same run. Also
what remains when the recorder is killed or the disk is full."""

import collections
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import example_service
import harness
import otlp_attributes
import recording
from example_service import PROMPTS, TRACED, Agent, Server, lines_of, prompts_file
from followed import Followed
from harness import LIBRARY, NOPSPAN, PATIENCE_S, Program, Test
from waiting import wait_until


def nopspan(*words):
    return subprocess.run([NOPSPAN, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False, timeout=PATIENCE_S)


class Record(Followed):
    """nopspan record FILE. A context manager: attached on entry and ended by SIGINT on exit."""

    def __init__(self, path, *options, command=()):
        super().__init__([*command, NOPSPAN, "record", path, *map(str, options)], stdout=subprocess.DEVNULL)

    def wait_until_up(self):
        self.wait_until_it_says("Recording\\.")

    def __exit__(self, failed, *_):
        if self.is_running() and self.stop() != 0 and not failed:
            raise AssertionError("nopspan record failed: %s" % self.said)


def name_of(entry):
    return entry.fields["name"].decode()


def of_process(entries, pid):
    return [entry for entry in entries if entry.process["pid"] == pid]


def names(entries, pid, *kinds):
    return collections.Counter(name_of(entry) for entry in of_process(entries, pid) if entry.kind in (kinds or ("span", "step")))


def entries_so_far(path):
    return [entry for chunk in recording.whole_chunks(path)[0] if chunk.kind in recording.WITH_ENTRIES
            for entry in recording.entries(chunk)]


def with_attributes(entries):
    """[(entry, {key: value})]"""
    found = []
    for of_events in (False, True):
        some = [entry for entry in entries if (entry.kind in ("event", "retry", "gauge")) == of_events]
        found += zip(some, otlp_attributes.decode([entry.fields.get("attributes", b"") for entry in some], of_events))
    return found


def row_of(ledger, pid):
    row, = [row for row in ledger["processes"] if row["pid"] == pid]
    return row


class SameAsHandlers(Test):
    """One run of the example service with failing requests and retries."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        cls.path = os.path.join(folder, "service.rec")
        server_log, agent_log = (os.path.join(folder, name) for name in ("server", "agent"))
        with Record(cls.path, "--binary", LIBRARY):
            with Server(folder, "--fail-rate", "0.3", "--seed", "7", "--events", server_log, env=TRACED) as server:
                agent = Agent(server.url, "--stream", "--prompts", prompts_file(folder, PROMPTS * 4), "--concurrency", "4",
                              "--max-attempts", "12", "--retry-delay-ms", "5", "--events", agent_log, env=TRACED)
        assert agent.status == 0
        cls.agent, cls.server = agent, server
        cls.lines = lines_of(agent_log) + lines_of(server_log)
        cls.all = recording.all_entries(cls.path)
        cls.entries = of_process(cls.all, agent.pid) + of_process(cls.all, server.pid)

    def test_nothing_was_lost(self):
        ledger = recording.ledger(self.path)
        for pid in (self.agent.pid, self.server.pid):
            row = row_of(ledger, pid)
            self.assertEqual((row["emitted"], row["lost"], row["balanced"]), (len(of_process(self.all, pid)), 0, True))

    def test_counts_are_the_agents_own(self):
        summary = self.agent.summary
        mine, served = names(self.all, self.agent.pid), names(self.all, self.server.pid)
        self.assertEqual((mine["llm.chat"], mine["llm.step"], mine["llm.tool"]),
                         (summary["requests"], summary["steps"], summary["tool_calls"]))
        self.assertEqual(served["engine.request"], summary["steps"] + summary["retries"])
        self.assertEqual(names(self.all, self.agent.pid, "retry")["llm.adapter.retry"], summary["retries"])

    def test_attributes_are_what_handlers_saw(self):
        handlers = example_service.of_handlers(self.lines)
        recorded = collections.defaultdict(list)
        for entry, attributes in with_attributes(self.entries):
            name, probe = name_of(entry), "span_stop"
            if entry.kind in ("gauge", "members") or name == example_service.ITERATION:
                continue
            if entry.kind in ("event", "retry"):
                name, probe = ("llm.step", "retry") if entry.kind == "retry" else (name, "event")
            key = (entry.process["pid"], entry.fields["span_id"], probe, name)
            recorded[key].append(attributes)
        self.assertEqual(set(handlers), set(recorded))
        self.assertGreater(len(handlers), 200)
        for key, texts in handlers.items():
            self.assertEqual(len(texts), len(recorded[key]), key)
            for text in texts:
                attributes = json.loads(text)
                same = [found for found in recorded[key] if example_service.canonical(found) == text]
                self.assertTrue(same, (key, attributes, recorded[key]))

    def test_times_are_the_handlers(self):
        reported = {(line["pid"], int(line["span_id"], 16)): line["measurements"]["duration"] for line in self.lines
                if line["event"].endswith((".stop", ".exception")) and "duration" in line["measurements"]}
        spans = [entry for entry in self.entries if entry.kind == "span" and name_of(entry) != example_service.ITERATION]
        self.assertGreater(len(reported), 100)
        for entry in spans:
            key = (entry.process["pid"], entry.fields["span_id"])
            if key in reported:
                self.assertEqual(entry.fields["duration_ns"], reported[key], name_of(entry))

    def test_replay_has_the_same(self):
        lines = [json.loads(line) for line in nopspan("replay", self.path, "--spans").stdout.splitlines()]
        for pid in (self.agent.pid, self.server.pid):
            replayed = collections.Counter(line["name"] for line in lines if line["pid"] == pid and line["type"] == "span")
            self.assertEqual(replayed, names(self.all, pid))
        summary = json.loads(nopspan("replay", self.path, "--json").stdout)
        self.assertTrue(summary["whole"])
        self.assertEqual(summary["entries"], len(self.all))
        self.assertEqual(summary["ledger"], recording.ledger(self.path))

    def test_trace_puts_the_same_requests_together(self):
        done = nopspan("--json", "trace", "--from", self.path)
        traces = [json.loads(line) for line in done.stdout.splitlines()]
        found = {trace["request_id"]: trace for trace in traces if trace["type"] == "trace"}
        for answer in self.agent.summary["answers"]:
            spans = collections.Counter(span["name"] for span in found[answer["request_id"]]["spans"])
            self.assertEqual(spans["llm.chat"], 1)
            self.assertGreaterEqual(spans["engine.request"], 1)


class Killed(Test):
    def test_what_was_flushed_is_read_and_what_was_not_is_missing_at_the_end_alone(self):
        path = os.path.join(self.temporary_folder(), "killed.rec")
        with Program("traced") as program:
            record = Record(path, "--pid", program.pid, "--max-age", "100ms")
            with record:
                program.ask("span first 500")
                wait_until(lambda: names(entries_so_far(path), program.pid)["first"] == 500, "the spans in the file")
                program.ask("span second 5000")
                record.kill()
            program.ask("span third 10")
        found, is_whole = recording.whole_chunks(path)
        self.assertFalse(is_whole)
        self.assertNotIn("end", [chunk.kind for chunk in found])
        entries = entries_so_far(path)
        counts = names(entries, program.pid)
        self.assertEqual((counts["first"], counts["third"]), (500, 0))
        summary = json.loads(nopspan("replay", path, "--json").stdout)
        self.assertFalse(summary["whole"])
        self.assertEqual(summary["entries"], len(entries))
        self.assertEqual(summary["ledger"]["total"]["delivered"], len(entries))
        done = nopspan("replay", path)
        self.assertEqual(done.returncode, 0)
        self.assertIn("did not close the file", done.stdout)


class Times(Test):
    def test_a_span_of_the_far_future_holds_nothing_up(self):
        path = os.path.join(self.temporary_folder(), "future.rec")
        with Program("traced") as program:
            attached = threading.Event()

            # This is the first span that the recorder receives.
            def work():
                while not attached.is_set():
                    program.ask("at future 9000000000000000000")
                    attached.wait(0.005)
            worker = threading.Thread(target=work)
            worker.start()
            try:
                with Record(path, "--pid", program.pid):
                    attached.set()
                    worker.join()
                    program.ask("span now")
                    wait_until(lambda: names(entries_so_far(path), program.pid)["now"], "a span in the file")
            finally:
                attached.set()


class SlowReader(Test):
    def test_what_is_read_after_its_process_is_gone_is_of_the_same_account(self):
        spans = 300_000
        with Program("traced") as program:
            command = [NOPSPAN, "record", "-", "--buffer", "64M", "--pid", str(program.pid)]
            record = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertIn(b"Recording.", record.stderr.readline())
            program.ask("span work %d" % spans)
        pace = threading.Event()
        data = b""
        while len(data) < 8 << 20:
            data += os.read(record.stdout.fileno(), 1 << 16)
            pace.wait(0.02)
        record.send_signal(signal.SIGINT)
        data += record.communicate(timeout=PATIENCE_S)[0]
        self.assertEqual(record.returncode, 0)
        replay = subprocess.run([NOPSPAN, "replay", "-", "--json"], input=data, stdout=subprocess.PIPE, check=True,
                                timeout=PATIENCE_S)
        row = row_of(json.loads(replay.stdout)["ledger"], program.pid)
        self.assertEqual((row["emitted"], row["missed"]), (spans, 0), row)


class SmallDisk:
    """A tmpfs in a private mount namespace. `bytes_free` bytes are free until make_room()."""

    def __init__(self, folder, bytes_free):
        self._ballast_bytes = 64 << 20
        size = bytes_free + self._ballast_bytes
        self._holder = subprocess.Popen(
            [*harness.own_mounts(), "sh", "-c", 'mount -t tmpfs -o size=%d tmpfs "$1" && echo mounted && exec cat' % size,
             "sh", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._holder.stdout.readline() != "mounted\n":
            raise AssertionError("no tmpfs could be mounted")
        self._ballast = self.path(os.path.join(folder, "ballast"))
        with open(self._ballast, "wb") as file:
            file.write(b"x" * self._ballast_bytes)

    def path(self, inside):
        """The path as seen from outside the namespace."""
        return "/proc/%d/root%s" % (self._holder.pid, inside)

    def command(self):
        """The beginning of a command that runs the rest inside."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", "--root", "--wd", "--"]

    def make_room(self):
        os.unlink(self._ballast)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._holder.stdin.close()
        self._holder.wait(PATIENCE_S)
        self._holder.stdout.close()


class FullDisk(Test):
    def test_what_could_not_be_written_is_counted_and_later_spans_are_written_again(self):
        folder = self.temporary_folder()
        inside = os.path.join(folder, "full.rec")
        with SmallDisk(folder, 200_000) as disk, Program("traced") as program:
            record = Record(inside, "--pid", program.pid, "--max-age", "100ms", command=disk.command())
            path = disk.path(inside)
            asked = 0
            with record:
                while not any("No space left on device" in line for line in record.said):
                    program.ask("span many 2000")
                    asked += 2000
                disk.make_room()
                program.ask("span later 100")
                wait_until(lambda: names(entries_so_far(path), program.pid)["later"] == 100, "what comes later, in the file")
                self.assertEqual(record.stop(), 1)
            entries = recording.all_entries(path)
            ledger = recording.ledger(path)
            replayed = json.loads(nopspan("replay", path, "--json").stdout)
        self.assertEqual(sum("No space left on device" in line for line in record.said), 1)
        for counts in (ledger["total"], row_of(ledger, program.pid)):
            self.assertEqual(counts["emitted"], asked + 100)
            self.assertEqual(counts["delivered"], len(entries))
            # On a slow machine, some may be lost on the way to the recorder.
            self.assertEqual(counts["lost"], asked + 100 - len(entries))
            self.assertTrue(counts["balanced"])
        self.assertGreater(ledger["total"]["export_dropped"], 0)
        self.assertTrue(any("%d lost because they could not be written (export_dropped)" % ledger["total"]["export_dropped"] in line
                            for line in record.said), record.said)
        self.assertEqual(replayed["ledger"], ledger)
        self.assertTrue(replayed["whole"])

    def test_a_disk_that_is_full_from_the_beginning_is_a_failure(self):
        folder = self.temporary_folder()
        with SmallDisk(folder, 0) as disk:
            done = subprocess.run([*disk.command(), NOPSPAN, "record", os.path.join(folder, "none.rec")],
                                  stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S)
            left = os.listdir(disk.path(folder))
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left on device", done.stderr)
        self.assertEqual(left, ["ballast"])
        with open("/dev/full", "wb") as full:
            done = subprocess.run([NOPSPAN, "record", "-"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                                  timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nopspan: stdout: No space left on device\n", done.stderr)


class Forced(Test):
    def test_a_new_file_replaces_the_old_one_when_it_records(self):
        folder = self.temporary_folder()
        path = os.path.join(folder, "spans.rec")
        with open(path, "w", encoding="ascii") as file:
            file.write("precious")
        os.chmod(path, 0o666)
        os.chown(path, 65534, 65534)
        with Program("traced") as program:
            record = Record(path, "--force", "--pid", program.pid, "--max-age", "100ms")
            with record:
                self.assertEqual((os.stat(path).st_mode & 0o777, os.stat(path).st_uid), (0o600, 0))
                program.ask("span first 5")
                wait_until(lambda: names(entries_so_far(path), program.pid)["first"] == 5, "the spans in the file")
                record.kill()
        self.assertEqual(os.listdir(folder), ["spans.rec"])


class Restarts(Test):
    """What a service does: each start has a name of its own, and some starts are killed."""

    def test_all_recordings_together_stay_below_their_total(self):
        folder = self.temporary_folder()
        precious = os.path.join(folder, "0.rec")
        with open(precious, "wb") as file:
            file.write(b"x" * 1_000_000)
        sizes = {}
        with Program("traced") as program:
            for start in range(1, 7):
                path = os.path.join(folder, "%d.rec" % start)
                earlier = set(sizes)
                is_killed = start % 2 == 0

                def is_enough():
                    names_now = os.listdir(folder)
                    # A recorder that is killed between both steps of a rotation leaves FILE.1 and no FILE.
                    has_rotated = os.path.exists(path + ".1") and os.path.exists(path)
                    return has_rotated and (is_killed or not earlier or not earlier.issubset(names_now))
                record = Record(path, "--pid", program.pid, "--max-age", "100ms", "--max-size", "100K", "--keep-total", "300K")
                with record:
                    while not is_enough():
                        program.ask("span many 500")
                    if is_killed:
                        record.kill()
                sizes = {name: os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)}
                self.assertLessEqual(sum(sizes.values()) - sizes["0.rec"], 300 << 10)
                self.assertTrue({"%d.rec" % start, "%d.rec.1" % start} & set(sizes), "one is there in each moment")
                if not is_killed:  # its last messages may be lost
                    for name in earlier - set(sizes):
                        self.assertTrue(any(name + ": deleting it because of --keep-total" in line for line in record.said),
                                        (name, record.said))
        self.assertEqual(sizes["0.rec"], 1_000_000)
        self.assertNotIn("1.rec", sizes)


class Rotation(Test):
    def test_files_one_after_the_other_have_everything(self):
        folder = self.temporary_folder()
        path = os.path.join(folder, "spans.rec")
        with Program("traced") as program:
            with Record(path, "--pid", program.pid, "--max-age", "100ms", "--max-size", "100K", "--keep", "50"):
                def written():
                    try:
                        return sum(file.stat().st_size for file in os.scandir(folder))
                    except FileNotFoundError:  # renamed meanwhile
                        return 0
                asked = 0
                while len(os.listdir(folder)) < 4:
                    # On a busy machine, what is emitted much faster than it is written is lost, and counted.
                    before = written()
                    program.ask("span many 1000")
                    asked += 1000
                    wait_until(lambda: written() > before, "nopspan to write")
        paths = sorted((os.path.join(folder, name) for name in os.listdir(folder)),
                       key=lambda name: -int(name.rpartition("rec")[2].strip(".") or 0))
        self.assertEqual(paths[-1], path)
        for each in paths[:-1]:
            self.assertLess(os.path.getsize(each), 110_000)
        entries = []
        for each in paths:
            with open(each, "rb") as part:
                chunks = list(recording.chunks(part.read()))
            self.assertEqual(chunks[-1].kind == "end", each == path, "only the last part has an end")
            entries += [entry for chunk in chunks if chunk.kind in recording.WITH_ENTRIES for entry in recording.entries(chunk)]
        self.assertEqual(names(entries, program.pid)["many"], asked)
        together = os.path.join(folder, "together")
        with open(together, "wb") as out:
            for each in paths:
                with open(each, "rb") as part:
                    shutil.copyfileobj(part, out)
        summary = json.loads(nopspan("replay", together, "--json").stdout)
        self.assertEqual((summary["spans"], summary["whole"]), (asked, True))
        self.assertEqual(summary["ledger"]["total"]["delivered"], asked)


if __name__ == "__main__":
    example_service.need()
    if not os.path.exists(NOPSPAN):
        harness.ability.unable("nopspan is not built (NOPSPAN_COLLECTOR=ON)")
    harness.main("protoc", "unshare", "nsenter")
