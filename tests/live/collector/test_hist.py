# SPDX-License-Identifier: Apache-2.0
"""nopspan hist: each bucket of its histograms agrees with what handlers received in the same run."""

import base64
import collections
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile

import consistent_sampling
import harness
from cgroup import Cgroup
from followed import Followed
from harness import NOPSPAN, PATIENCE_S, Program, Test, program_path
from waiting import wait_until

OK, ERROR, CANCELLED, EXCEPTION = 0, 1, 2, 3
FAILED = (ERROR, EXCEPTION)
GATE_BATCH = 0xFFFF << 16
# Truncated, so no handler can be attached under this name.
CUT = "work.a_name_of_more_than_sixty_three_bytes_which_is_cut_so_t…"
# The complete ids of those that are printed truncated.
WHOLE_IDS = {"a-request-id-of-more-than-sixty-three-bytes-which-is-cut-so-…":
             "a-request-id-of-more-than-sixty-three-bytes-which-is-cut-so-that-it-can-be-seen"}

End = collections.namedtuple("End", "name model status ns request_id")


def lower_bound(value):
    """The lower bound of the bucket of a time. There are 32 buckets per octave, and times below 64 are exact."""
    shift = max(value.bit_length() - 6, 0)
    return value >> shift << shift


def without_none(counts):
    return {key: count for key, count in counts.items() if count}


def histogram_of(times):
    buckets = collections.Counter(map(lower_bound, times))
    return {"unit": "ns", "sub_bits": 5, "buckets": [list(b) for b in sorted(buckets.items())], "count": len(times),
            "sum": sum(times), "min": min(times, default=0), "max": max(times, default=0)}


def rows_of(ends, by=("name", "model")):
    """The expected rows, by their keys."""
    groups = collections.defaultdict(list)
    for end in ends:
        groups[tuple(getattr(end, key) for key in by)].append(end)
    return {key: {"errors": sum(e.status in FAILED for e in group), "cancelled": sum(e.status == CANCELLED for e in group),
                  "histogram": histogram_of([e.ns for e in group])} for key, group in groups.items()}


def rows_in(document):
    """The rows of an output, by their keys."""
    rows = {}
    for row in document["rows"]:
        rows[tuple(row[part] for part in document["by"])] = {k: row[k] for k in ("errors", "cancelled", "histogram")}
    assert len(rows) == len(document["rows"])
    return rows


def counts_in(document):
    return {key: row["histogram"]["count"] for key, row in rows_in(document).items()}


def total_of(document):
    """The ledger's total, after checking that it is the sum of all processes and the others."""
    ledger = document["ledger"]
    apart = [*ledger["processes"], ledger["others"]]
    assert all(row["balanced"] for row in apart), ledger
    for name, count in ledger["total"].items():
        assert name == "balanced" or count == sum(row[name] for row in apart), (name, ledger)
    return ledger["total"]


def by_process(document, count="delivered"):
    """{pid: count} of the processes in the ledger."""
    rows = document["ledger"]["processes"]
    counts = {row["pid"]: row[count] for row in rows}
    assert len(counts) == len(rows)
    return counts


class Hist(Followed):
    """nopspan hist --json. A context manager: it counts from entry to SIGINT."""

    def __init__(self, *arguments, json_output=True):
        super().__init__([NOPSPAN, *(["--json"] if json_output else []), "hist", *map(str, arguments)])

    def wait_until_up(self):
        self.wait_until_it_says("^Counting ")

    def __exit__(self, *_):
        self.kill()

    def printed(self):
        return "\n".join(self.lines)

    def stop(self, signal_number=signal.SIGINT):
        """Ends it as a user does. Returns its output."""
        code = super().stop(signal_number)
        if code != 0:
            raise AssertionError("nopspan hist ended with %d: %s" % (code, self.said))
        return self.printed()

    def document(self):
        """Ends it and returns its output as JSON. Checks that nothing was lost."""
        document = json.loads(self.stop())
        total = total_of(document)
        found = sum(counts_in(document).values()) + document["other"]["histogram"]["count"]
        assert total["delivered"] == found and total["lost"] == 0, (document["ledger"], found)
        return document


def ended(*arguments, wrapper=()):
    """Runs a command that ends by itself. Returns its exit status, stdout and stderr."""
    run = subprocess.run([*wrapper, NOPSPAN, "hist", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, timeout=PATIENCE_S, check=False)
    return run.returncode, run.stdout, run.stderr


class InAFolder(Test):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="nopspan-live-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return path


class Workload(InAFolder):
    """One run with spans of every kind from several threads, under several collectors with different options."""

    def ends(self, path):
        """The ends that the handlers received. A span without a model has the model of the nearest enclosing span."""
        with open(path, encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
        starts = {e["span_id"]: e for e in events if e["event"].endswith(".start")}

        def model(event):
            while event is not None:
                if event.get("model"):
                    return event["model"]
                event = starts.get(event["parent_id"])
            return ""
        return [End(e["event"].rpartition(".")[0], model(starts[e["span_id"]]), e["status"], e["duration_ns"],
                    e["request_id"]) for e in events if not e["event"].endswith(".start")]

    def run_under(self, *wishes):
        """The ends that handlers received, and the document of each collector."""
        path = self.path("events.jsonl")
        with Program("workload") as program:
            collectors = []
            try:
                for wish in wishes:
                    collectors.append(Hist("--pid", program.pid, *wish).__enter__())
                self.assertEqual(program.ask("run " + path), "done")
                documents = [collector.document() for collector in collectors]
            finally:
                for collector in collectors:
                    collector.kill()
        ends = self.ends(path)
        self.assertGreater(len(ends), 2000)
        return ends, documents

    def test_has_in_each_bucket_what_handlers_saw(self):
        ends, (by_both, by_name, by_model) = self.run_under((), ("--by", "name"), ("--by", "model"))
        both = rows_in(by_both)
        both.pop((CUT, ""))
        self.assertEqual(both, rows_of(ends))
        names = rows_in(by_name)
        cut = names.pop((CUT,))
        self.assertEqual(names, rows_of(ends, ["name"]))
        models = counts_in(by_model)
        models[("",)] -= cut["histogram"]["count"]
        self.assertEqual(models, {key: row["histogram"]["count"] for key, row in rows_of(ends, ["model"]).items()})
        self.assertEqual(by_both["other"]["histogram"]["count"], 0)
        self.assertEqual(by_both["hosts"], [os.uname().nodename])

    def test_counts_what_is_wanted(self):
        limit = 20_000
        ends, documents = self.run_under(
            ("--name", "work.inner"), ("--model", "leaf-1"), ("--slower-than", "%dns" % limit), ("--errors",),
            ("--sample", 3), ("--name", "work.root", "--errors"), ("--name", "nobody's"))
        conditions = (lambda e: e.name == "work.inner", lambda e: e.model == "leaf-1", lambda e: e.ns >= limit,
                      lambda e: e.status in FAILED, lambda e: self.is_sampled(e.request_id, 3), lambda e: False,
                      lambda e: False)
        seen = {total_of(documents[0])["emitted"]}
        for document, condition in zip(documents, conditions):
            rows = rows_in(document)
            rows.pop((CUT, ""), None)  # no handler received it
            self.assertEqual(rows, rows_of([e for e in ends if condition(e)]))
            seen.add(total_of(document)["delivered"] + total_of(document)["filtered"])
        self.assertEqual(len(seen), 1, "what was left out was counted")

    @staticmethod
    def is_sampled(request_id, one_in):
        """Whether --sample takes a request. All commands take the same ones, on every host."""
        return consistent_sampling.is_sampled(request_id, trace_id_of(request_id), one_in)

    def test_counts_one_request(self):
        for request in ("order-4711", "0af7651916cd43dd8448eb211c80319c"):
            with self.subTest(request):
                ends, (document,) = self.run_under(("--request", request, "--by", "name"))
                wanted = [e for e in ends if trace_id_of(e.request_id) == trace_id_of(request)]
                self.assertTrue(wanted)
                self.assertEqual(rows_in(document), rows_of(wanted, ["name"]))


def trace_id_of(request_id):
    """The 16 bytes of an id in any of its forms (probes/README.md)."""
    request_id = WHOLE_IDS.get(request_id, request_id)
    if re.fullmatch("[A-Za-z0-9_-]{21}[AQgw]", request_id):
        return base64.urlsafe_b64decode(request_id + "==")
    if re.fullmatch("[0-9a-fA-F]{32}", request_id):
        return bytes.fromhex(request_id)
    value = 0x6c62272e07bb014262b821756295c58d
    for byte in request_id.encode():
        value = (value ^ byte) * (2**88 + 0x13b) % 2**128
    return value.to_bytes(16, "big")


class Programs(InAFolder):
    def test_counts_every_span_of_several_processes(self):
        each, name, time = 50_000, "hist.hammered", 123_456
        programs = [Program("traced") for _ in range(4)]
        try:
            with Hist("--pid", ",".join(str(p.pid) for p in programs), "--buffer", "64M") as hist:
                for program in programs:  # all at the same time
                    program.process.stdin.write("complete %s %d %d\n" % (name, each, time))
                    program.process.stdin.flush()
                for program in programs:
                    self.assertEqual(program.process.stdout.readline(), "done\n")
                document = hist.document()
        finally:
            for program in programs:
                program.__exit__(True)
        spans = each * len(programs)
        self.assertEqual(rows_in(document)[name, ""]["histogram"],
                         {"unit": "ns", "sub_bits": 5, "buckets": [[lower_bound(time), spans]], "count": spans,
                          "sum": time * spans, "min": time, "max": time})
        self.assertEqual(by_process(document, "emitted"), {program.pid: each for program in programs})

    def test_counts_what_finds_no_room_in_the_buffer(self):
        spans, name = 300_000, "hist.hammered"
        with Program("traced") as program, Hist("--pid", program.pid, "--buffer", "4K") as hist:
            program.ask("complete %s %d 5000" % (name, spans))
            document = json.loads(hist.stop())
        total = total_of(document)
        self.assertEqual((total["emitted"], total["lost"]), (spans, total["ring_full"]))
        self.assertGreater(total["lost"], 0)
        self.assertEqual(counts_in(document)[name, ""], total["delivered"])
        self.assertIn("%d lost" % total["lost"], "\n".join(hist.said))

    def test_accounts_for_each_process(self):
        with Program("traced") as first, Program("traced") as second, Program("hostile") as hostile:
            programs = (first, second, hostile)
            # The kernel cannot apply this filter. If it could, it would not read the hostile batch.
            with Hist("--pid", ",".join(str(p.pid) for p in programs), "--slower-than", "2us") as hist:
                first.ask("complete hist.wanted 30 2000")
                first.ask("complete hist.unwanted 4 1999")
                second.ask("complete hist.wanted 200 5000")
                hostile.ask("good 3")  # these take no time
                absent = int(hostile.ask("absent 20"))
                document = json.loads(hist.stop())
        total_of(document)
        rows = {row["pid"]: row for row in document["ledger"]["processes"]}
        self.assertEqual(rows.keys(), {p.pid for p in programs})
        self.assertEqual(document["ledger"]["others"]["emitted"], 0)
        names = ("delivered", "filtered", "unreadable")
        self.assertEqual({pid: tuple(row[name] for name in names) for pid, row in rows.items()},
                         {first.pid: (30, 4, 0), second.pid: (200, 0, 0), hostile.pid: (0, 3, absent)})
        for program in programs:
            row = rows[program.pid]
            self.assertEqual(row["comm"], os.path.basename(program.process.args[0]))
            self.assertEqual((row["host"], row["namespace_pid"]), (os.uname().nodename, program.pid))
            self.assertGreater(row["start_ticks"], 0)
        said = "\n".join(hist.said)
        self.assertIn("%d entries from 3 processes: 230 delivered, 7 filtered out, %d lost" % (237 + absent, absent),
                      said)
        self.assertIn("  lost by process: %d hostile %d" % (hostile.pid, absent), said)

    def test_accounts_for_processes_that_had_the_same_pid(self):
        with Hist("--binary", harness.LIBRARY, "--by", "name") as hist:
            pid = int(harness.run("reused"))
            document = hist.document()
        counts = counts_in(document)
        self.assertEqual((counts["reused.first",], counts["reused.second",]), (1, 400))
        rows = [row for row in document["ledger"]["processes"] if row["pid"] == pid]
        self.assertEqual(sum(row["delivered"] for row in rows), 401, rows)

    def test_accounts_for_more_processes_than_it_has_rows_for_as_others(self):
        copy = self.path("traced")
        shutil.copy(program_path("traced_static"), copy)
        most, more = 1000, 30
        with Hist("--name", "canary", "--binary", copy, "--interval", "1s") as hist:
            script = 'for ((i = 0; i < %d; ++i)); do "$0" canary many; done' % (most + more)
            subprocess.run(["bash", "-c", script, copy], check=True, timeout=PATIENCE_S)
            hist.wait_for_line(lambda line: json.loads(line)["ledger"]["others"]["processes"] >= more,
                               "all accounts but %d to be closed" % most)
            document = json.loads(hist.stop().splitlines()[-1])
        self.assertEqual(counts_in(document), {("canary", "many"): most + more})
        total, others = total_of(document), document["ledger"]["others"]
        # Programs of other tests that run meanwhile have accounts too, and rows if they ended after the first ones.
        rows = [row for row in document["ledger"]["processes"] if row["comm"] == "traced"]
        self.assertEqual([row["delivered"] for row in rows], [1] * len(rows))
        self.assertEqual(len(rows) + others["delivered"], most + more)
        self.assertGreaterEqual(others["processes"], more)
        self.assertEqual(total["delivered"], most + more)
        self.assertRegex("\n".join(hist.said), r" from \d+ processes: %d delivered, " % (most + more))

    def test_puts_keys_beyond_the_limit_into_one_row(self):
        with Program("traced") as program, Hist("--pid", program.pid, "--rows-max", 5, "--by", "name") as hist:
            for number in range(20):
                program.ask("span hist.name%d %d" % (number, number + 1))
            program.ask("span hist.name3 100")
            document = hist.document()
        expected = {("hist.name%d" % number,): number + 1 for number in range(5)}
        expected[("hist.name3",)] += 100
        self.assertEqual(counts_in(document), expected)
        self.assertEqual(document["other"]["histogram"]["count"], sum(range(6, 21)))
        self.assertIn('  195 times were counted in the row "other"', "\n".join(hist.said))

    def test_a_process_with_ever_new_names_leaves_rows_for_another(self):
        with Program("traced") as hostile, Program("traced") as victim:
            with Hist("--pid", "%d,%d" % (hostile.pid, victim.pid), "--rows-max", 10, "--by", "name") as hist:
                for number in range(50):
                    hostile.ask("span hist.new%d" % number)
                for number in range(4):
                    victim.ask("span hist.steady%d 3" % number)
                document = hist.document()
        counts = counts_in(document)
        self.assertEqual(counts, {**{("hist.new%d" % number,): 1 for number in range(6)},
                                  **{("hist.steady%d" % number,): 3 for number in range(4)}})
        self.assertEqual(document["other"]["histogram"]["count"], 44)

    def test_measures_what_other_probes_report(self):
        row = ("llm.step", "tiny-2")
        request = ("engine.request", "tiny-1")
        wishes = {"retry": {row: [500_000_000]}, "queue": {request: [1000]}, "prefill": {request: [2000]},
                  "decode": {request: [3000]}, "tool": {("calculator", "tiny-1"): None}, "engine": {request: None},
                  "ttft": {row: None, request: None}}
        with Program("traced") as program:
            collectors = {of: Hist("--pid", program.pid, "--of", of) for of in wishes}
            try:
                for collector in collectors.values():
                    collector.wait_until_it_says("^Counting ")
                program.ask("points")
                for of, expected in wishes.items():
                    with self.subTest(of):
                        rows = rows_in(collectors[of].document())
                        self.assertEqual(rows.keys(), expected.keys())
                        for key, times in expected.items():
                            self.assertEqual(rows[key]["histogram"]["count"], 1)
                            if times:
                                self.assertEqual(rows[key]["histogram"], histogram_of(times))
                            self.assertEqual(rows[key]["errors"], 1 if of == "tool" else 0)
            finally:
                for collector in collectors.values():
                    collector.kill()

    def test_keys_by_tenant_and_engine(self):
        with Program("traced") as program, Hist("--pid", program.pid, "--by", "tenant,engine") as hist:
            program.ask("points")
            self.assertIn(("acme", "llama.cpp"), counts_in(hist.document()))

    def test_keys_by_process(self):
        with Program("traced") as first, Program("traced") as second:
            with Hist("--pid", "%d,%d" % (first.pid, second.pid), "--by", "process,name,model") as hist:
                first.ask("span hist.named 2")
                second.ask("span hist.named 3")
                counts = counts_in(hist.document())
        host = os.uname().nodename
        self.assertEqual(counts, {("traced %d on %s" % (program.pid, host), "hist.named", ""): spans
                                  for program, spans in ((first, 2), (second, 3))})

    def test_attaches_to_a_file_that_appears_later(self):
        copy = self.path("traced")
        shutil.copy(program_path("traced_static"), copy)
        with Hist("--interval", "100ms") as hist, Program("", command=[copy]) as program:
            def sees():
                program.ask("span hist.first")
                return any("hist.first" in line for line in list(hist.lines))
            wait_until(sees, "the program to be found")  # a raised gate could be another tracer's
            program.ask("span hist.later 7")
            document = json.loads(hist.stop().splitlines()[-1])
        self.assertEqual(counts_in(document)["hist.later", ""], 7)

    def test_is_attached_to_a_named_file_before_a_process_maps_it(self):
        copy = self.path("traced")
        shutil.copy(program_path("traced_static"), copy)
        with Hist("--name", "canary", "--binary", copy) as hist:
            subprocess.run([copy, "canary", "first"], check=True, timeout=PATIENCE_S)
            self.assertEqual(counts_in(hist.document()), {("canary", "first"): 1})

    def test_ends_with_the_processes_that_it_looks_at(self):
        with Program("traced") as program:
            hist = Hist("--pid", program.pid)
            self.addCleanup(hist.kill)
            hist.wait_until_it_says("^Counting ")
            program.ask("span hist.last 3")
        wait_until(lambda: hist.process.poll() is not None, "nopspan hist to end")
        hist.kill()
        self.assertEqual(hist.process.returncode, 0, hist.said)
        self.assertEqual(counts_in(json.loads(hist.printed())), {("hist.last", ""): 3})

    def test_counts_a_cgroup_with_what_is_below_it(self):
        with Cgroup(self, "nopspan-hist") as group, Program("traced") as inside, Program("traced") as outside:
            group.put(inside.pid)
            with Hist("--cgroup", group.name, "--pid", "%d,%d" % (inside.pid, outside.pid)) as hist:
                inside.ask("span hist.inside 5")
                for _ in range(6):
                    outside.ask("thread_span hist.outside")  # a thread that ends flushes its entries
                document = hist.document()
        self.assertEqual(counts_in(document), {("hist.inside", ""): 5})
        self.assertEqual(by_process(document), {inside.pid: 5, outside.pid: 0})
        self.assertEqual(by_process(document, "filtered"), {inside.pid: 0, outside.pid: 6})

    def test_names_this_host_even_if_nothing_runs_there(self):
        with Hist("--binary", harness.LIBRARY) as hist:
            self.assertEqual(hist.document()["hosts"], [os.uname().nodename])

    def test_prints_everything_so_far_each_interval(self):
        with Program("traced") as program, Hist("--pid", program.pid, "--interval", "100ms") as hist:
            program.ask("span hist.first 4")
            # Everything that it reads later includes these spans.
            program.ask("span hist.second 5")
            lines = hist.stop().splitlines()
        self.assertEqual(counts_in(json.loads(lines[-1])), {("hist.first", ""): 4, ("hist.second", ""): 5})

    def test_shows_people_bars(self):
        with Program("traced") as program:
            with Hist("--pid", program.pid, "--by", "name", json_output=False) as hist:
                program.ask("span hist.shown 1000")
                shown = hist.stop()
        self.assertRegex(shown, r"(?m)^Duration of spans, by name, in .*\n\nhist\.shown  1000\n  p50 .* p99 .* mean ")
        self.assertRegex(shown, r"(?m)^ +\d.* [nu]s +\d+ [#█]+")
        self.assertNotIn("\x1b", shown)
        self.assertIn("1000 entries from 1 process: 1000 delivered, none lost", hist.said)


class Recording(InAFolder):
    def test_has_the_same_histograms(self):
        quantities = ("duration", "ttft", "tool", "engine", "queue", "prefill", "decode", "retry")
        wishes = [("--of", of) for of in quantities]
        wishes += [("--by", "engine,tenant"), ("--errors",), ("--name", "llm.tool"), ("--model", "tiny"),
                   ("--slower-than", "10us"), ("--sample", 2), ("--request", "order-4711")]
        path = self.path("spans.rec")
        with Program("workload") as workload, Program("traced") as traced:
            pids = ("--pid", "%d,%d" % (workload.pid, traced.pid))
            # The recorder is attached to all programs that map the library. If one has a raised gate, so has the other.
            recorder = subprocess.Popen([NOPSPAN, "record", path, "--binary", harness.LIBRARY], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
            collectors = []
            try:
                traced.wait_for_gate(lambda gate: gate & GATE_BATCH, "the recorder to attach")
                for wish in wishes:
                    collectors.append(Hist(*pids, *wish).__enter__())
                workload.ask("run " + self.path("events.jsonl"))
                for _ in range(3):
                    traced.ask("points")
                live = [collector.document() for collector in collectors]
                recorder.send_signal(signal.SIGINT)
                said = recorder.communicate(timeout=PATIENCE_S)[1]
            finally:
                for collector in collectors:
                    collector.kill()
                if recorder.poll() is None:
                    recorder.kill()
                    recorder.communicate()
        self.assertEqual(recorder.returncode, 0, said)
        for wish, document in zip(wishes, live):
            with self.subTest(wish):
                code, printed, said = ended("--json", "--from", path, *pids, *wish)
                self.assertEqual(code, 0, said)
                recorded = json.loads(printed)
                self.assertEqual(rows_in(recorded), rows_in(document))
                self.assertEqual(total_of(recorded)["delivered"], total_of(document)["delivered"])
                self.assertEqual(without_none(by_process(recorded)), without_none(by_process(document)))


class Hostile(InAFolder):
    """A process may pass anything to the site. The histograms of other processes are not affected, and losses are
    counted."""

    def after(self, *commands):
        """The document of a collector during these commands. Another process makes spans at the same time."""
        with Program("hostile") as hostile, Program("traced") as other:
            with Hist("--pid", "%d,%d" % (hostile.pid, other.pid), "--max-age", "100ms") as hist:
                for command in commands:
                    hostile.ask(command)
                    other.ask("span hist.other 10")
                document = json.loads(hist.stop())
        self.assertEqual(counts_in(document).pop(("hist.other", "")), 10 * len(commands))
        total_of(document)
        self.said = hist.said
        return document

    def test_with_wild_pointers_is_counted_as_unreadable(self):
        document = self.after("wild_pointers", "good 3")
        unreadable = total_of(document)["unreadable"]
        self.assertEqual(unreadable, 6 * 3 + 3)
        self.assertIn("  %d lost because the kernel could not read" % unreadable, "\n".join(self.said))
        self.assertEqual(counts_in(document), {("hist.other", ""): 20, ("hostile.good", ""): 3})

    def test_with_strange_texts_does_not_reach_the_terminal(self):
        document = self.after("escapes")
        rows = counts_in(document)
        self.assertEqual(rows["\x1b[2J\x1b[31mred", ""], 1)
        self.assertEqual(sum(rows.values()), 5 + 10)
        with Program("hostile") as hostile, Hist("--pid", hostile.pid, json_output=False) as hist:
            hostile.ask("escapes")
            shown = hist.stop()
        self.assertIn("\\x1b[2J", shown)
        self.assertNotRegex(shown, "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")

    def test_with_strange_numbers_has_them_in_the_last_bucket(self):
        document = self.after("strange_numbers")
        rows = rows_in(document)
        greatest = 2**64 - 1
        row = dict(histogram_of([greatest - 1, greatest]), sum=greatest)
        self.assertEqual(rows["hostile.long", ""]["histogram"], row)
        self.assertEqual(rows["hostile.zero", ""]["histogram"], histogram_of([0]))
        self.assertNotIn(("hostile.status", ""), rows)
        self.assertEqual(total_of(document)["malformed"], 1)


class Misuse(InAFolder):
    def test_errors_name_the_mistake(self):
        plain = shutil.which("true")
        cases = [(2, "--by", ("--by", "errors")), (2, "--by", ("--by", "name,name")), (2, "--of", ("--of", "luck")),
                 (2, "--errors", ("--of", "retry", "--errors")), (2, "--interval", ("--interval", "99ms")),
                 (2, "no process 4194305", ("--pid", 4194305)), (2, "nosuch", ("--cgroup", "nosuch")),
                 (2, plain, ("--binary", plain)), (2, "nowhere", ("--binary", "/nowhere"))]
        for status, word, arguments in cases:
            with self.subTest(arguments):
                code, printed, said = ended(*arguments)
                self.assertEqual((code, printed), (status, ""), said)
                self.assertIn(word, said)

    def test_of_a_user_without_rights_names_the_capability(self):
        wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        code, printed, said = ended("--duration", "1s", wrapper=wrapper)
        self.assertEqual((code, printed), (1, ""), said)
        self.assertIn("CAP_BPF", said)


if __name__ == "__main__":
    harness.main()
