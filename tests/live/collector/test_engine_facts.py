# SPDX-License-Identifier: Apache-2.0
"""The example engine with drafts, preemption, prompts in chunks and prefixes that are shared. What nopspan top, nopspan
hist and nopspan replay say of a recording must be what the engine's own books say."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.request

import example_service
import harness
from example_service import TRACED, Server, lines_of
from harness import LIBRARY, NOPSPAN, PATIENCE_S, Test
from test_record import Record

MODEL = "nopspan-ngram"
SLOTS, CLIENTS = 8, 40
# The room is enough for a few of the slots, so that requests are preempted.
OPTIONS = ("--slots", str(SLOTS), "--threads", "64", "--context", "1024", "--kv-tokens", "1024", "--prefill-tokens", "48",
           "--draft-tokens", "4", "--token-delay-us", "300")
SHARED = "You are one of many clients, all of which begin with these words, so that they are read once. "
FACTS = ("drafts", "drafted_tokens", "accepted_tokens", "preemptions", "recomputed_tokens", "prompt_chunks",
         "prefill_tokens")


def ask(server, number):
    body = {"model": MODEL, "temperature": 0.1 * (number % 5), "seed": number, "ignore_eos": True, "max_tokens": 160,
            "messages": [{"role": "system", "content": SHARED * (1 + number % 4)},
                         {"role": "user", "content": "Explain step %d." % number}]}
    request = urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        json.load(response)


def output_of(*arguments):
    done = subprocess.run([NOPSPAN, "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=PATIENCE_S, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


class Facts(Test):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        cls.recording, books = os.path.join(folder, "engine.rec"), os.path.join(folder, "books")
        with Record(cls.recording, "--binary", LIBRARY):
            with Server(folder, *OPTIONS, "--books", books, env=TRACED) as server:
                clients = [threading.Thread(target=ask, args=(server, number)) for number in range(CLIENTS)]
                for client in clients:
                    client.start()
                for client in clients:
                    client.join()
        lines = lines_of(books)
        cls.requests = [line for line in lines if "request" in line]
        cls.steps = [line for line in lines if "batch_size" in line]
        cls.happened = [line for line in lines if "event" in line]
        document = json.loads(output_of("top", "--from", cls.recording).splitlines()[-1])
        cls.facts = {row["name"]: row for row in document["engine_facts"]}
        cls.dropped = document["engine_facts_dropped"]

    def of(self, event):
        return [line for line in self.happened if line["event"] == event]

    def hist(self, of, name):
        document = json.loads(output_of("hist", "--from", self.recording, "--of", of, "--by", "name"))
        return {row["name"]: row["histogram"] for row in document["rows"]}[name]

    def test_the_run_had_all_of_it(self):
        self.assertEqual(len(self.requests), CLIENTS)
        for fact in FACTS:
            self.assertGreater(sum(line[fact] for line in self.requests), 0, fact)
        for event in ("preempted", "evicted", "prefix_cache"):
            self.assertGreater(len(self.of(event)), 0, event)
        self.assertGreater(sum(line["cached_tokens"] for line in self.requests), 0)
        self.assertGreater(max(line["prompt_chunks"] for line in self.requests), 1)

    def test_requests_and_events_in_top(self):
        request = self.facts["engine.request"]
        self.assertEqual((request["count"], self.dropped), (CLIENTS, 0))
        for fact in FACTS:
            self.assertEqual(request["sums"]["nopspan." + fact], sum(line[fact] for line in self.requests), fact)
        for event in ("preempted", "evicted"):
            row, lines = self.facts["engine." + event], self.of(event)
            self.assertEqual(row["count"], len(lines))
            self.assertEqual(row["sums"]["nopspan.tokens"], sum(line["tokens"] for line in lines))
        row, lines = self.facts["engine.prefix_cache"], self.of("prefix_cache")
        self.assertEqual(row["count"], len(lines))
        for fact in ("queried_tokens", "hit_tokens"):
            self.assertEqual(row["sums"]["nopspan." + fact], sum(line[fact] for line in lines))

    def test_steps_in_top_and_hist(self):
        step = self.facts["engine.step"]
        self.assertEqual(step["count"], len(self.steps))
        for fact in ("batch_size", "prefill_tokens", "decode_tokens", "drafted_tokens", "accepted_tokens"):
            values = [line[fact] for line in self.steps]
            self.assertEqual(step["sums"]["nopspan." + fact], sum(values), fact)
            self.assertEqual(self.hist(fact, "engine.step")["sum"], sum(values), fact)

    def test_steps_add_up_to_the_requests(self):
        for fact in ("drafted_tokens", "accepted_tokens"):
            self.assertEqual(sum(line[fact] for line in self.steps), sum(line[fact] for line in self.requests), fact)
        self.assertEqual(sum(line["decode_tokens"] for line in self.steps),
                         sum(line["output_tokens"] for line in self.requests))
        self.assertEqual(sum(line["prefill_tokens"] for line in self.steps),
                         sum(line["prefill_tokens"] + line["recomputed_tokens"] for line in self.requests))

    def test_phases_add_up_to_the_requests(self):
        sums = self.facts["engine.prefill"]["sums"]
        self.assertEqual(sums["nopspan.recomputed_tokens"], sum(line["recomputed_tokens"] for line in self.requests))
        self.assertEqual(self.facts["engine.queue"]["count"],
                         CLIENTS + sum(line["preemptions"] for line in self.requests))

    def test_distributions(self):
        for fact in FACTS:
            found = self.hist(fact, "engine.request")
            values = [line[fact] for line in self.requests if fact not in ("drafts", "drafted_tokens", "accepted_tokens")
                      or line["drafts"] > 0]
            self.assertEqual((found["count"], found["sum"], found["min"], found["max"]),
                             (len(values), sum(values), min(values), max(values)), fact)
        found = self.hist("tokens", "engine.preempted")
        self.assertEqual((found["unit"], found["sum"]), ("tokens", sum(line["tokens"] for line in self.of("preempted"))))
        shares = [line for line in self.requests if line["drafted_tokens"] > 0]
        found = self.hist("acceptance", "engine.request")
        self.assertEqual((found["unit"], found["count"]), ("percent", len(shares)))
        found = self.hist("output-tokens", "engine.request")
        self.assertEqual(found["sum"], sum(line["output_tokens"] for line in self.requests))
        found = self.hist("cache-hits", "engine.request")
        self.assertEqual(found["count"], CLIENTS)
        self.assertEqual(self.hist("tpot", "engine.request")["count"],
                         sum(line["output_tokens"] > 1 for line in self.requests))

    def test_positions_of_accepted_tokens_in_the_recording(self):
        entries = map(json.loads, output_of("replay", self.recording, "--spans", "--name", "engine.request").splitlines())
        found = {entry["request_id"]: entry["attributes"].get("nopspan.accepted_by_position", [])
                 for entry in entries if entry.get("type") == "span"}
        self.assertEqual(found, {line["request"]: line["accepted_by_position"] for line in self.requests})

    def test_a_quantity_that_does_not_exist_is_refused(self):
        done = subprocess.run([NOPSPAN, "hist", "--from", self.recording, "--of", "luck"], stderr=subprocess.PIPE, text=True,
                              timeout=PATIENCE_S, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("attr:luck", done.stderr)


if __name__ == "__main__":
    example_service.need()
    harness.main()
