# SPDX-License-Identifier: Apache-2.0
"""examples/engine_llama, an engine on libllama: trace, record, top, hist and open must say what the engine's own books
say.

Runs only with NOPSPAN_LONG=1, because the first run downloads a Debian sid. libllama is not in this Debian. The library
and the engine are built and run in sid, and the collector attaches to them from outside.
"""

import collections
import json
import os
import shutil
import statistics
import subprocess
import sys

import debian
import harness
import tiny_gguf
from harness import LONG, PATIENCE_S, SOURCE, Test, nopspan, objects_of, output_of
from test_hist import Hist
from test_record import Record
from test_top import Top
from test_trace import Trace

PACKAGES = ["g++", "cmake", "ninja-build", "pkg-config", "systemtap-sdt-dev", "nlohmann-json3-dev", "libcli11-dev",
            "libllama-dev"]
# Folders in the tree of sid.
SOURCES, BUILT, RUN = "/nopspan/source", "/nopspan/build", "/nopspan/run"
CONFIGURE = ["cmake", "-S", SOURCES, "-B", BUILT, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DNOPSPAN_USDT=ON",
             "-DNOPSPAN_ENGINE_LLAMA=ON", "-DCMAKE_UNITY_BUILD=ON"] + ["-DNOPSPAN_%s=OFF" % part for part in
                                             ("COLLECTOR", "TESTS", "BENCH", "EXAMPLES", "INSTALL")]
SPEC = 3
# How many requests run with how many slots. The room in the KV cache is too small for all slots.
RUNS = {8: 40, 256: 320}
PROMPT, OUTPUT, CANCEL_EVERY = 64, 48, 6
OPTIONS = ["--prompt", PROMPT, "--output", OUTPUT, "--spec", SPEC, "--cancel-every", CANCEL_EVERY]
REQUEST_FACTS = ("prefill_tokens", "recomputed_tokens", "prompt_chunks", "decode_tokens", "preemptions", "drafts",
                 "drafted_tokens", "accepted_tokens")
STEP_FACTS = ("batch_size", "prefill_tokens", "decode_tokens", "drafted_tokens", "accepted_tokens")


class Sid:
    """The library and the engine, built in sid."""

    def __init__(self):
        self.tree = debian.bare("sid", PACKAGES)
        self.lock = harness.hold_lock(self.tree + ".lock")
        for folder in (SOURCES, RUN):
            shutil.rmtree(self.tree + folder, ignore_errors=True)
        # The files keep their times, so that a second run compiles only what has changed.
        shutil.copytree(SOURCE, self.tree + SOURCES, ignore=shutil.ignore_patterns("build", ".git"))
        os.mkdir(self.tree + RUN)
        for command in (CONFIGURE, ["ninja", "-C", BUILT, "engine_llama_nopspan", "engine_llama_mini"]):
            done = subprocess.run(self.inside(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  check=False)
            assert done.returncode == 0, done.stdout[-4000:]
        # The file that has the probes of each engine: that with the library, and that with nopspan_mini.h alone.
        self.probes = {"engine_llama": os.path.realpath(self.tree + BUILT + "/libnopspan.so"),
                       "engine_llama_mini": self.tree + BUILT + "/examples/engine_llama/engine_llama_mini"}
        self.books = self.tree + RUN + "/books"
        tiny_gguf.write(self.tree + RUN + "/model.gguf")

    def inside(self, command):
        return ["chroot", self.tree, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
                *map(str, command)]

    def engine(self, *options, model=RUN + "/model.gguf", engine="engine_llama"):
        return self.inside([BUILT + "/examples/engine_llama/" + engine, "--model", model, *options])


class Books:
    """The lines of the engine's own books."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            # The last line may not be complete yet.
            every = [json.loads(line) for line in file if line.endswith("\n")]
        self.requests = {line["request"]: line for line in every if "request" in line}
        self.steps = {line["step"]: line for line in every if "step" in line}
        self.events = collections.defaultdict(list)
        for line in every:
            if "event" in line:
                self.events[line["event"]].append(line)

    def sum(self, fact):
        return sum(line[fact] for line in self.requests.values())


def traces_of(trace):
    """{number of a request: its trace}. Others on this machine are traced too."""
    return {span["attributes"]["number"]: one for one in trace.objects()
            if one["type"] == "trace" and one["processes"][0]["comm"].startswith("engine_llama")
            for span in one["spans"] if span["name"] == "engine.request"}


def facts_of(top, name):
    """The row of a span or event: its count, and the sums of its numbers."""
    row, = [row for row in top.last()["engine_facts"] if (row["name"], row["engine"]) == (name, "llama.cpp")] or \
           [{"count": 0, "sums": {}}]
    return row["count"], {key.removeprefix("nopspan."): value for key, value in row["sums"].items()}


def attribute(span, key):
    return span["attributes"]["nopspan." + key]


class EngineLlama(Test):
    engine, sid = "engine_llama", None

    @classmethod
    def setUpClass(cls):
        EngineLlama.sid = EngineLlama.sid or Sid()  # one for both engines: a second one would wait for the first one's lock

    def setUp(self):
        if os.path.exists(self.sid.books):
            os.remove(self.sid.books)
        self.binary = self.sid.probes[self.engine]
        self.recording = os.path.join(self.temporary_folder(), "engine.rec")

    def run_engine(self, *options, **model):
        done = subprocess.run(self.sid.engine(*options, engine=self.engine, **model), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=5 * PATIENCE_S, check=False)
        return done.returncode, done.stdout

    def check_request(self, line, spans, linked):
        """One request: its span, its phases, and its steps."""
        request, = [span for span in spans if span["name"] == "engine.request"]
        for fact in REQUEST_FACTS + ("accepted_by_position",):
            self.assertEqual(attribute(request, fact), line[fact], fact)
        self.assertEqual(request["attributes"]["gen_ai.response.finish_reasons"], [line["finish_reason"]])
        for kind in ("input", "output", "cached"):
            self.assertEqual(request["usage"][kind], line[kind + "_tokens"], kind)
        for fact in ("queue_ns", "prefill_ns", "decode_ns"):
            self.assertEqual(request["engine_times"][fact], line[fact], fact)
        self.assertEqual(request["status"], "cancelled" if line["finish_reason"] == "cancelled" else "ok")
        phases = collections.Counter(span["name"] for span in spans)
        self.assertEqual(phases["engine.queue"], 1 + line["preemptions"])
        prefills = [span for span in spans if span["name"] == "engine.prefill"]
        self.assertEqual(sum(attribute(span, "recomputed_tokens") for span in prefills), line["recomputed_tokens"])
        self.check_steps_of(line, linked)

    def check_steps_of(self, line, linked):
        steps = sum((each["count"] for each in linked if each["name"] == "engine.step"))
        found = {fact: sum(each[fact] for each in linked) for fact in STEP_FACTS[1:]}
        self.assertEqual(found, {"prefill_tokens": line["prefill_tokens"] + line["recomputed_tokens"],
                                 "decode_tokens": line["output_tokens"], "drafted_tokens": line["drafted_tokens"],
                                 "accepted_tokens": line["accepted_tokens"]})
        self.assertGreaterEqual(steps, line["prompt_chunks"])

    def check_traces(self, trace, books):
        found = traces_of(trace)
        self.assertEqual(set(found), set(books.requests))
        for number, each in found.items():
            self.check_request(books.requests[number], each["spans"], each.get("linked", []))
        steps = trace.last()["traces"]["steps"]
        self.assertEqual(steps["all"], len(books.steps))
        self.assertEqual(steps["members"]["joined"], sum(step["batch_size"] for step in books.steps.values()))
        self.assertEqual((steps["missing"], steps["stray"], steps["dropped"], steps["members"]["late"]), (0, 0, 0, 0))
        self.assertEqual((steps["requests_by_own_key"], steps["requests_not_ended"]), (0, 0))

    def check_top(self, top, books):
        count, sums = facts_of(top, "engine.request")
        self.assertEqual(count, len(books.requests))
        for fact in REQUEST_FACTS:
            self.assertEqual(sums[fact], books.sum(fact), fact)
        count, sums = facts_of(top, "engine.step")
        self.assertEqual(count, len(books.steps))
        for fact in STEP_FACTS:
            self.assertEqual(sums[fact], sum(step[fact] for step in books.steps.values()), fact)
        for event, facts in (("preempted", ["tokens"]), ("evicted", ["tokens"]), ("load", ["bytes"]),
                             ("prefix_cache", ["queried_tokens", "hit_tokens"])):
            count, sums = facts_of(top, "engine." + event)
            self.assertEqual(count, len(books.events[event]), event)
            for fact in facts if count else ():
                self.assertEqual(sums[fact], sum(line[fact] for line in books.events[event]), event)
        self.assertEqual(top.last()["engine_facts_dropped"], 0)

    def check_recording(self, books):
        entries = objects_of("replay", self.recording, "--spans")
        steps = {entry["step"]["number"]: entry for entry in entries if "step" in entry}
        self.assertEqual({number: tuple(attribute(entry, fact) for fact in STEP_FACTS[:3])
                          for number, entry in steps.items()},
                         {number: tuple(step[fact] for fact in STEP_FACTS[:3]) for number, step in books.steps.items()})
        found = self.hist_of(json.loads(output_of("hist", "--from", self.recording, "--of", "acceptance", "--by", "name")))
        self.assertEqual(found["engine.request"]["count"],
                         sum(line["drafted_tokens"] > 0 for line in books.requests.values()))

    @staticmethod
    def hist_of(document):
        return {row["name"]: row["histogram"] for row in document["rows"]}

    def check_run(self, slots):
        """Attached before the engine starts: all numbers are those of the books."""
        requests = RUNS[slots]
        ctx = max(slots * (PROMPT + OUTPUT) // 2, 4 * (PROMPT + OUTPUT))
        with Trace("--json", binary=self.binary) as trace, Record(self.recording, "--binary", self.binary), \
                Top("--total", binary=self.binary) as top, \
                Hist("--binary", self.binary, "--of", "output-tokens", "--by", "name") as hist:
            status, said = self.run_engine("--slots", slots, "--requests", requests, "--ctx", ctx, *OPTIONS,
                                           "--chunk", 4 * slots, "--books", RUN + "/books")
            self.assertEqual((status, said), (0, ""))
            trace.wait_while_it_runs(lambda: len(traces_of(trace)) >= requests, "all requests")
            top.wait_while_it_runs(lambda: facts_of(top, "engine.request")[0] == requests, "all requests")
            histogram = self.hist_of(json.loads(hist.stop()))["engine.request"]
            self.assertEqual((top.stop(), trace.stop()), (0, 0))
        books = Books(self.sid.books)
        self.check_traces(trace, books)
        self.check_top(top, books)
        self.check_recording(books)
        tokens = [line["output_tokens"] for line in books.requests.values()]
        self.assertEqual((histogram["count"], histogram["sum"], histogram["min"], histogram["max"]),
                         (len(tokens), sum(tokens), min(tokens), max(tokens)))
        # The run had everything.
        self.assertGreater(max(step["batch_size"] for step in books.steps.values()), slots // 4)
        for fact in REQUEST_FACTS + ("cached_tokens",):
            self.assertGreater(books.sum(fact), 0, fact)
        self.assertGreater(max(line["prompt_chunks"] for line in books.requests.values()), 1)
        self.assertTrue(any(line["finish_reason"] == "cancelled" for line in books.requests.values()))

    def recorded(self, name, *options):
        """A recording of a run."""
        path = os.path.join(self.temporary_folder(), name + ".rec")
        with Record(path, "--binary", self.binary) as record:
            status, said = self.run_engine(*options)
            self.assertEqual((status, said), (0, ""))
            self.assertEqual(record.stop(), 0)
        return path

    def steps_of(self, path):
        """{number of a step: (time on the device, whether it has a prompt of more than 64 tokens)}."""
        steps = {}
        for entry in objects_of("replay", path, "--spans"):
            if entry.get("name") == "engine.step":
                steps[entry["step"]["number"]] = (entry["step"]["device_ns"], max(one["prefill_tokens"] for one in entry["members"]))
        return steps

    def pair(self, giant, giants, number):
        """Eight requests decode, with and without giant prompts. Returns three ratios: of what blame charges to what they
        lost in the prefill of these, of all that it charges to all that they lost, and of what it charges to giants to all
        that it charges. The time is that of the device."""
        steady, chunk = 8, 128
        runs = [self.recorded("%d-%d-%d-%d" % (giant, giants, number, size), "--slots", steady + giants, "--requests", steady,
                              "--clients", steady, "--prompt", 16, "--output", 400, "--chunk", chunk,
                              "--ctx", (steady + giants) * 420 + 12000, "--giant", size, "--giants", giants)
                for size in (0, giant)]
        without, with_giants = map(self.steps_of, runs)
        prefill = [step for step, (_, most) in with_giants.items() if most > 64]
        if giants == 1:
            self.assertEqual(len(prefill), round(giant / chunk), "steps with a chunk")
        last = min(200, max(without))  # until then, all of them decode
        lost = {step: steady * (with_giants[step][0] - without[step][0]) for step in with_giants if step in without and step <= last}
        blamed = objects_of("blame", "--from", runs[1])
        victims = [one for one in blamed if one["type"] == "request" and one["tenant"] != "giant"]
        charged = sum(one["causes_ns"]["others_prefill"] for one in victims)
        both = charged + sum(one["causes_ns"]["cells_left"] for one in victims)
        by_giant = sum(culprit["ns"] for one in victims for culprit in one["stalled_by"] if culprit["tenant"] == "giant")
        in_prefill, in_all = sum(lost.get(step, 0) for step in prefill), sum(lost.values())
        print("%d of %d tokens: lost %.1f ms in their prefill, %.1f ms in all; charged %.1f and %.1f ms, %.1f ms of that to them"
              % (giants, giant, in_prefill / 1e6, in_all / 1e6, charged / 1e6, both / 1e6, by_giant / 1e6), file=sys.stderr)
        return charged / in_prefill, both / in_all, by_giant / both

    def test_blame_charges_what_giant_prompts_cost(self):
        for giant in (2000, 4000):
            during, in_all, named = map(statistics.median, zip(*(self.pair(giant, 1, number) for number in range(6))))
            self.assertAlmostEqual(during, 1, delta=0.05)
            self.assertGreater(in_all, 0.9)
            self.assertGreater(named, 0.95)
        _, in_all, named = map(statistics.median, zip(*(self.pair(2000, 3, number) for number in range(3))))
        self.assertGreater(in_all, 0.9)
        self.assertGreater(named, 0.95)

    def test_whatif_predicts_what_smaller_chunks_give(self):
        """All requests arrive at the beginning, and many wait for a slot. The chunks are not much smaller, because 48 tokens
        cost libllama about as much as 128 on a CPU, and no step of the recording shows that."""
        options = ("--slots", 8, "--requests", 60, "--clients", 60, "--prompt", 900, "--output", 60)

        def whatif(path):
            done = nopspan("--json", "whatif", "--from", path, "--set", "prefill-chunk=96")
            found = json.loads(done.stdout)
            self.assertEqual(done.returncode, 0 if found["repeats"] else 1, done.stderr)
            return found

        ratios = collections.defaultdict(list)
        for number in range(9):  # the speed of a host changes, so each prediction is from just before what came
            before, after = (whatif(self.recorded("%d-%d" % (number, chunk), *options, "--chunk", chunk)) for chunk in (128, 96))
            if before["repeats"]:
                for wait in ("gap_p50_ns", "gap_p99_ns", "ttft_p50_ns"):
                    ratios[wait].append(before["waits"][wait]["predicted"] / after["waits"][wait]["recorded"])
        print("predicted to what came: %s" % dict(ratios), file=sys.stderr)
        self.assertGreaterEqual(len(ratios["gap_p50_ns"]), 5, "whatif refuses most recordings")
        for wait, each in ratios.items():
            self.assertAlmostEqual(statistics.median(each), 1, delta=0.15, msg=wait)

    def test_bad_options_are_refused(self):
        for options, model, said in ((["--slots", 257], {}, "--slots"), (["--ctx", 10], {}, "--ctx must be at least"),
                                     (["--books", "/no/such/folder"], {}, "cannot write"),
                                     ([], {"model": "/no/such/model"}, "/no/such/model"),
                                     ([], {"model": "/etc/passwd"}, "cannot load the model")):
            status, output = self.run_engine(*options, **model)
            self.assertEqual(status, 2, output)
            self.assertIn(said, output)


class EngineWithTheHeader(EngineLlama):
    """The engine that has no library, but nopspan_mini.h: its numbers are the same."""

    engine = "engine_llama_mini"
    test_blame_charges_what_giant_prompts_cost = test_whatif_predicts_what_smaller_chunks_give = None
    test_bad_options_are_refused = None


for number_of_slots in RUNS:
    setattr(EngineLlama, "test_with_%d_slots" % number_of_slots,
            lambda self, slots=number_of_slots: self.check_run(slots))


if __name__ == "__main__":
    if not LONG:
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    harness.main("debootstrap", "chroot")
