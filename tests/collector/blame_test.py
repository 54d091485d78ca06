#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nopspan blame and whatif of the example server, whose steps take 20 us longer for each prompt token."""

import concurrent.futures
import contextlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "support"
sys.path.insert(0, str(SUPPORT))
from lines import PROGRAM, recording, run, span, step  # noqa: E402  pylint: disable=wrong-import-position
from waiting import wait_until  # noqa: E402  pylint: disable=wrong-import-position

EXAMPLE = Path(os.environ["NOPSPAN_EXAMPLE"])
GIANTS = 4
LONG = os.environ.get("NOPSPAN_LONG", "0") == "1"


@contextlib.contextmanager
def server(path, *words, prompt_us=20):
    """The example server, which records itself; its address."""
    port = path.with_suffix(".port")
    for old in (port, path):
        old.unlink(missing_ok=True)
    with subprocess.Popen([EXAMPLE / "chat_server", "--port-file", port, "--record", path, "--token-delay-us", "2000", "--prompt-delay-us", str(prompt_us), "--seed", "7", *words],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield "http://127.0.0.1:" + wait_until(lambda: port.exists() and port.read_text(encoding="utf-8").strip(), "the server listens")
        finally:
            process.terminate()


def ask(url):
    """Sixty requests of acme, six at a time, and giant prompts of globex."""
    agent = [EXAMPLE / "agent", "--base-url", url, "--search-root", SUPPORT, "--max-attempts", "12"]
    with subprocess.Popen([*agent, "--seed", "3", "--requests", "60", "--concurrency", "6", "--organization", "acme"], stdout=subprocess.DEVNULL) as many:
        for number in range(GIANTS):
            subprocess.run([*agent, "--seed", str(number), "--organization", "globex", f"{number} " + "giant prompt " * 2500], stdout=subprocess.DEVNULL, check=True)
    assert many.returncode == 0


class Blame(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nopspan-blame-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.path = cls.folder / "load.rec"
        with server(cls.path) as url:
            ask(url)
        cls.lines = cls.blamed(cls.path)

    @staticmethod
    def blamed(path, *words):
        done = run("blame", "--from", path, "--json", *words)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @staticmethod
    def of_type(lines, kind):
        return [line for line in lines if line["type"] == kind]

    def test_it_finds_what_a_prompt_token_costs(self):
        fit, = self.of_type(self.lines, "fit")
        self.assertEqual((fit["missing_steps"], fit["time"], fit["identified"]), (0, "wall", True))
        self.assertGreater(fit["prices_ns"]["prefill_token"], 15_000)  # a sleep is not shorter
        self.assertLess(fit["prices_ns"]["prefill_token"], 200_000)

    def test_the_giants_are_named(self):
        requests = self.of_type(self.lines, "request")
        giants = {one["request_id"] for one in requests if one["tenant"] == "globex" and one["causes_ns"]["own_prefill"] > 0}
        self.assertGreaterEqual(len(giants), GIANTS)
        for one in requests:
            self.assertAlmostEqual(sum(one["causes_ns"].values()), one["duration_ns"], delta=20)
        worst = max(requests, key=lambda one: one["causes_ns"]["others_prefill"] * (one["tenant"] == "acme"))
        self.assertIn(worst["stalled_by"][0]["request_id"], giants)
        stalls = {(one["victim"], one["by"]): one["ns"] for one in self.of_type(self.lines, "table")[0]["stalls"]}
        self.assertGreater(stalls["acme", "globex"], 0)
        self.assertAlmostEqual(sum(ns for (victim, _), ns in stalls.items() if victim == "acme"),
                               sum(one["causes_ns"][cause] for one in requests if one["tenant"] == "acme" for cause in ("others_prefill", "cells_left")), delta=1e6)

    def test_one_request(self):
        wanted = max(self.of_type(self.lines, "request"), key=lambda one: one["causes_ns"]["others_prefill"])
        done = run("blame", "--from", self.path, "--request", wanted["request_id"])
        self.assertRegex(done.stdout, re.escape(wanted["request_id"]) + r" of acme: .* steps\n  .*own decode .*\n  stalled by .* of globex .*\n  step \d+: ")
        done = run("blame", "--from", self.path, "--request", "nobody")
        self.assertEqual((done.returncode, "nothing in" in done.stderr), (1, True), done.stderr)
        done = run("blame", "--from", self.path, "--name", "engine.decode")
        self.assertEqual((done.returncode, "no request was selected" in done.stdout, "nothing in" in done.stderr), (1, True, True), done.stderr)

    def test_trace_has_a_line_for_a_request_that_was_stalled(self):
        text = run("trace", "--from", self.path, "--tenant", "acme").stdout
        shares = [int(share) for share in re.findall(r"\n  stalled by others .* \((\d+) %\): .* \(\d+ prompt tokens\)", text)]
        self.assertTrue(shares)
        self.assertGreaterEqual(min(shares), 10)
        stalled = [one for one in self.of_type(self.lines, "request") if one["tenant"] == "acme" and one["stalled_by"] and one["stalled_by"][0]["tenant"] == "globex"]
        worst = max(stalled, key=lambda one: one["causes_ns"]["others_prefill"] / one["duration_ns"])
        of_worst = run("trace", "--from", self.path, "--request", worst["request_id"]).stdout
        self.assertRegex(of_worst, r"\n  stalled by others .* of globex ")

    def test_metrics_add_up_to_the_table(self):
        with subprocess.Popen([PROGRAM, "serve", "--from", self.path, "127.0.0.1:0", "--no-page"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as serve:
            try:
                url = re.search(r"http://\S+/metrics", serve.stderr.readline())[0].rstrip(",")
                self.assertIn("is read completely", serve.stderr.readline())
                with urllib.request.urlopen(url, timeout=30) as answer:
                    text = answer.read().decode()
            finally:
                serve.terminate()
        found = {(victim, by): float(value) for victim, by, value in re.findall(r'nopspan_engine_stall_seconds_total\{.*nopspan_tenant="(.*?)",nopspan_by_tenant="(.*?)"\} (\S+)', text)}
        table = {(one["victim"], one["by"]): one["ns"] / 1e9 for one in self.of_type(self.lines, "table")[0]["stalls"]}
        self.assertAlmostEqual(sum(found.values()), sum(table.values()), delta=1e-3)
        for who, seconds in table.items():
            self.assertAlmostEqual(found.get(who, 0), seconds, delta=0.2 * seconds + 1e-3, msg=who)

    def test_rows_are_of_what_was_asked_for(self):
        for by, name in (("tenant", "acme"), ("model", "nopspan-ngram")):
            text = run("blame", "--from", self.path, "--by", by).stdout
            self.assertRegex(text, rf"STALLED .*\n{name} ", by)
        self.assertEqual({one["victim"] for one in self.of_type(self.blamed(self.path, "--tenant", "globex"), "table")[0]["stalls"]}, {"globex"})

    def test_a_recording_that_is_cut(self):
        whole = self.path.read_bytes()
        for part in (0.9, 0.5, 0.2):
            cut = self.folder / "cut.rec"
            cut.write_bytes(whole[:int(len(whole) * part)])
            done = run("blame", "--from", cut, "--json")
            self.assertIn(done.returncode, (0, 1), done.stderr)
            for one in self.of_type(map(json.loads, done.stdout.splitlines()), "request"):
                self.assertAlmostEqual(sum(one["causes_ns"].values()), one["duration_ns"], delta=20)

    def test_a_recording_without_an_engine(self):
        done = run("blame", "--from", recording(self.folder / "none.rec", span("chat", 0, 10)))
        self.assertEqual((done.returncode, done.stdout), (1, "no steps of an engine\n\n"))


class GivenTimes(unittest.TestCase):
    """The times of the engine's steps are those of a list of prices, and its own books say who was in them."""

    def charged(self, prompt_ns):
        """The fit, what blame charges all requests by cause, and what the prices say that they lost, in ns."""
        with tempfile.TemporaryDirectory(prefix="nopspan-blame-") as folder:
            path, books = Path(folder) / "given.rec", Path(folder) / "books"
            with server(path, "--device-time", "--books", books, prompt_us=prompt_ns // 1000) as url:
                ask(url)
            lines = Blame.blamed(path)
            steps = [line["members"] for line in map(json.loads, books.read_text(encoding="utf-8").splitlines()) if "step" in line]
        fit, = Blame.of_type(lines, "fit")
        requests = Blame.of_type(lines, "request")
        self.assertEqual((fit["steps"], fit["time"], fit["identified"], fit["noisy"]), (len(steps), "device", True, False))
        lost = sum((sum(prompt for _, prompt, *_ in members) - own) * prompt_ns for members in steps for _, own, *_ in members)
        self.assertTrue(all(one["sure"] for one in requests))
        for one in requests:
            self.assertAlmostEqual(sum(one["causes_ns"].values()), one["duration_ns"], delta=20)
        return fit, {cause: sum(one["causes_ns"][cause] for one in requests) for cause in requests[0]["causes_ns"]}, lost

    def test_it_charges_what_the_prices_say(self):
        fit, causes, lost = self.charged(20_000)
        self.assertAlmostEqual(fit["prices_ns"]["prefill_token"] / 20_000, 1, delta=0.02)
        self.assertAlmostEqual(fit["prices_ns"]["fixed"] / 2_000_000, 1, delta=0.02)
        self.assertGreater(lost, 1_000_000_000)
        self.assertAlmostEqual(causes["others_prefill"] / lost, 1, delta=0.02)
        self.assertLess(causes["cells_left"] + causes["others_drafts"], 0.02 * causes["own_decode"])

    def test_prompts_that_cost_nothing_are_not_blamed(self):
        _, causes, _ = self.charged(0)
        self.assertLess(causes["others_prefill"] + causes["others_drafts"] + causes["cells_left"], 0.02 * causes["own_decode"])


class WhatIf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nopspan-whatif-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)

    @staticmethod
    def lengths(number):
        """Words of the prompt, and tokens of the answer."""
        return 4000 if number % 12 == 11 else 2 * (5 + number % 40), 20 + number % 30

    @classmethod
    def ask(cls, url, number):
        prompt, tokens = cls.lengths(number)
        body = {"model": "nopspan-ngram", "messages": [{"role": "user", "content": f"{number} " + "some words " * (prompt // 2)}], "max_tokens": tokens, "ignore_eos": True, "seed": number}
        request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    def served(self, chunk, requests, *options):
        """A recording of the example server, with requests that arrive as they like, whatever it does."""
        path = self.folder / f"{chunk}.rec"
        with server(path, "--prefill-tokens", str(chunk), "--slots", "32", "--threads", "64", "--fail-rate", "0", "--cut-rate", "0", *options) as url, \
                concurrent.futures.ThreadPoolExecutor(64) as pool:
            began, asked = time.monotonic(), []
            for number in range(requests):
                time.sleep(max(0, began + 0.04 * number - time.monotonic()))
                asked.append(pool.submit(self.ask, url, number))
            for one in asked:
                one.result()
        return path

    def computed(self, chunk, slots=1000, other_way=None):
        """The same of an engine whose steps take 2 ms, 50 us for each request and 20 us for each prompt token, 2 % more or less."""
        path = self.folder / f"{chunk}-{slots}-{other_way}.rec"
        if path.exists():
            return path
        noise, lines, waiting, running, now = random.Random(7), [], [], [], 0
        for number in range(150):
            prompt, answer = self.lengths(number)
            waiting.append({"arrival": 40_000 * number, "prompt": prompt, "cached": 0, "answer": answer, "span": span("engine.request", 40_000 * number, 0)})
        for number in itertools.count(1):
            if not waiting and not running:
                break
            now = now if running else max(now, waiting[0]["arrival"])
            arrived = sum(one["arrival"] <= now for one in waiting)
            for left in range(arrived, max(0, arrived + len(running) - slots), -1):
                running.append(waiting.pop(left - 1 if other_way == "newest first" else 0))
            budget, members = chunk, []
            chosen = [one for one in running if one["prompt"] > 0] if other_way == "prompts first" else []
            for one in chosen or running:
                tokens = min(budget, one["prompt"])
                decodes = tokens == one["prompt"]
                members.append([one["span"]["id"], tokens, one["cached"], int(decodes)])
                budget -= tokens
                one["prompt"] -= tokens
                one["cached"] += tokens + decodes
                one["answer"] -= decodes
            took = round((2000 + 50 * len(members) + 20 * (chunk - budget)) * noise.uniform(0.98, 1.02))
            lines.append(step(number, now, now + took, members=members))
            now += took
            for one in running:
                one["span"]["duration"] = 1000 * (now - one["arrival"])
            lines += [one["span"] for one in running if one["answer"] == 0]
            running = [one for one in running if one["answer"] > 0]
        return recording(path, *lines)

    def waits(self, path, *settings):
        done = run("whatif", "--from", path, *(word for one in settings for word in ("--set", one)), "--json")
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        return json.loads(done.stdout)

    def test_settings_that_were_not_seen(self):
        path = self.computed(256)
        known = self.waits(path, "prefill-chunk=128")
        self.assertEqual(known["recorded_settings"], {"prefill_chunk": 256, "slots": 0})
        self.assertLess(known["waits"]["gap_p99_ns"]["predicted"], known["waits"]["gap_p99_ns"]["recorded"])
        for chunk, slots in ((256, 1000), (128, 1000), (96, 1000), (256, 4), (128, 3)):
            settings = [f"prefill-chunk={chunk}"] + ([f"slots={slots}"] if slots < 1000 else [])
            asked, came = self.waits(path, *settings), self.waits(self.computed(chunk, slots), *settings)
            self.assertEqual((asked["requests"], asked["missing_steps"], asked["settings"]), (150, 0, {"prefill_chunk": chunk, "slots": slots % 1000}))
            self.assertEqual(came["recorded_settings"], asked["settings"])
            for name, wait in asked["waits"].items():
                self.assertAlmostEqual(wait["predicted"] / came["waits"][name]["recorded"], 1, delta=0.1, msg=(settings, name))

    def test_the_settings_of_the_example_server(self):
        """Its times are those of the host. On a busy one the simulation may not repeat them, and the status is 1."""
        done = run("whatif", "--from", self.served(256, 50, "--device-time"), "--set", "prefill-chunk=128", "--json")
        known = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0 if known["repeats"] else 1, done.stderr)
        self.assertEqual((known["recorded_settings"]["prefill_chunk"], known["settings"]["prefill_chunk"], known["requests"], known["missing_steps"]), (256, 128, 50, 0))

    def test_what_it_refuses(self):
        path = self.computed(256)
        for words, said in ((["--set", "prefill-chunk=257"], "outside what was seen"), (["--set", "slots=1000"], "outside what was seen"), (["--set", "chunk=1"], "is not a setting"),
                            (["--set", "slots=0"], "is not a setting"), (["--set", "slots=2", "--set", "slots=3"], "twice"), ([], "--set is required")):
            done = run("whatif", "--from", path, *words)
            self.assertEqual((done.returncode, done.stdout, said in done.stderr), (2, "", True), done.stderr)
        for other, said in ((recording(self.folder / "none.rec", span("chat", 0, 10)), "there are no steps"), (self.computed(256, other_way="prompts first"), "were left out of steps")):
            done = run("whatif", "--from", other, "--set", "slots=2")
            self.assertEqual((done.returncode, done.stdout, said in done.stderr), (1, "", True), done.stderr)
        done = run("whatif", "--from", self.computed(256, 2, "newest first"), "--set", "slots=2")
        self.assertEqual((done.returncode, "Do not trust this" in done.stdout), (1, True), done.stdout)

    @unittest.skipUnless(LONG, "NOPSPAN_LONG is not 1")
    def test_what_it_predicts_is_what_comes(self):
        path = self.served(512, 300)
        for chunk in (384, 256, 128, 96):
            wait = self.waits(path, f"prefill-chunk={chunk}")["waits"]["gap_p99_ns"]
            came = self.waits(self.served(chunk, 300), f"prefill-chunk={chunk}")["waits"]["gap_p99_ns"]["recorded"]
            print(f"prefill-chunk={chunk}: gap p99 {wait['recorded'] / 1e6:.2f} ms recorded, {wait['predicted'] / 1e6:.2f} ms predicted, {came / 1e6:.2f} ms then", file=sys.stderr)
            self.assertAlmostEqual(wait["predicted"] / came, 1, delta=0.15)


if __name__ == "__main__":
    unittest.main()
