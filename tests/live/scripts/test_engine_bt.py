# SPDX-License-Identifier: Apache-2.0
"""engine.bt, and what latency.bt, errors.bt and tokens.bt show of an engine, on the example engine with fifty clients, a
third of which hang up, and on one with drafts and preemption. Their numbers must agree with the server's own books and
with what handlers received in the same run."""

import collections
import contextlib
import os

import example_service
import harness
from bpftrace_output import histogram
from engine_clients import (CANCELLED, FACT_OPTIONS, HANG_UP, MODEL, OPTIONS, SLOTS, Watch, ask_for_facts, run_clients)
from example_service import Server, lines_of, steps_of
from project_script import Script

PHASES = ("queue", "prefill", "decode")
TENANT = "org-1"


class Hangups(harness.Test):
    """One run of a server whose clients hang up. Each test checks one script, with and without its filters."""

    @classmethod
    def setUpClass(cls):
        folder = cls.folder_of_the_class()
        books, events = (os.path.join(folder, name) for name in ("books", "events"))
        with contextlib.ExitStack() as stack:
            with Server(folder, *OPTIONS, "--books", books, events=events) as server:
                scripts = {name: Script(*words) for name, words in {
                    "engine": ("engine.bt", server.pid), "engine of one": ("engine.bt", server.pid, TENANT),
                    "latency": ("latency.bt", "engine.request", server.pid),
                    "latency of one": ("latency.bt", "engine.request", 0, TENANT),
                    "errors": ("errors.bt", server.pid), "tokens": ("tokens.bt", server.pid)}.items()}
                tracer = harness.Tracer(("span_start", "span_stop", "engine_request"))
                for attached in (*scripts.values(), tracer):
                    stack.enter_context(attached)
                clients = run_clients(server, Watch(tracer))
            tracer.stop()
            for script in scripts.values():
                script.stop()
        cls.maps = {name: script.maps() for name, script in scripts.items()}
        lines = lines_of(books)
        cls.steps = steps_of(lines)
        cls.books = {line["request"]: line for line in lines if "request" in line}
        cls.clients = {client.request_id: client for client in clients}
        cls.events = lines_of(events)
        cls.requests = cls.named("engine.request.stop")

    @classmethod
    def named(cls, name):
        return [event for event in cls.events if event["event"] == name]

    def requests_of(self, name):
        return [event for event in self.requests if "of one" not in name or event["metadata"]["tenant"] == TENANT]

    def test_phases_in_latency_bt(self):
        key = "engine.request, " + MODEL
        for name in ("latency", "latency of one"):
            requests = [self.books[event["request_id"]] for event in self.requests_of(name)]
            times = {phase: [line[phase + "_ns"] // 1000 for line in requests if phase == "queue" or line[phase + "_ns"]]
                     for phase in PHASES}
            self.assertTrue(len(times["decode"]) < len(times["prefill"]) < len(times["queue"]))
            for phase, values in times.items():
                self.assertEqual(self.maps[name][phase + "_us"], {key: histogram(values)}, (name, phase))

    def test_steps_and_counts_in_engine_bt(self):
        by_size = collections.defaultdict(list)
        for step in self.named("engine.step.stop"):
            by_size[step["measurements"]["batch_size"]].append(step["measurements"]["duration"] // 1000)
        self.assertIn(SLOTS, by_size)
        for name in ("engine", "engine of one"):
            maps = self.maps[name]
            self.assertEqual(maps["steps"], {", %d" % size: len(times) for size, times in by_size.items()})
            self.assertEqual(maps["step_us"], {", %d" % size: sum(times) // len(times) for size, times in by_size.items()})
            for kind in ("prefill", "decode"):
                self.assertEqual(maps["step_tokens"][", " + kind], sum(line[kind + "_tokens"] for line in self.steps), kind)
            self.assertEqual(maps["count"]["engine.request"], len(self.requests_of(name)))

    def test_cancelled_requests_in_errors_bt(self):
        cancelled = [event for event in self.requests if event["status"] == CANCELLED]
        self.assertEqual(len(cancelled), sum(HANG_UP.values()))
        maps = self.maps["errors"]
        self.assertEqual(maps["cancelled"]["engine.request, client_closed"], len(cancelled))
        self.assertEqual(maps["cancelled_output_tokens"]["engine.request, client_closed"],
                         sum(event["metadata"]["output_tokens"] for event in cancelled))
        # The phase of a cancelled request is the one whose span was cancelled.
        phases = collections.Counter(self.clients[event["request_id"]].leaves for event in cancelled)
        for phase in PHASES:
            self.assertEqual(maps["cancelled"]["engine.%s, client_closed" % phase], phases[phase], phase)

    def test_tokens_of_all_requests_in_tokens_bt(self):
        """A request that was cancelled counts with the tokens that it had."""
        cancelled = [line for line in self.books.values() if line["cancelled"]]
        for what in ("input_tokens", "output_tokens", "cached_tokens"):
            self.assertGreater(sum(line[what] for line in cancelled), 0, what)
            found = sum(count for key, count in self.maps["tokens"][what].items() if key.startswith("engine.request, %s, " % MODEL))
            self.assertEqual(found, sum(line[what] for line in self.books.values()), what)


class Facts(harness.Test):
    def test_sums_and_counts(self):
        """A server with drafts, preemption and a prefix cache. The sums must be those of the books."""
        folder = self.temporary_folder()
        books = os.path.join(folder, "books")
        with contextlib.ExitStack() as stack:
            with Server(folder, *FACT_OPTIONS, "--books", books) as server:
                script = stack.enter_context(Script("engine.bt", server.pid))
                for _ in range(3):  # whether a sequence is evicted depends on their times
                    ask_for_facts(server, 20)
            script.stop()
        maps, lines = script.maps(), lines_of(books)
        sizes = collections.Counter(", %d" % step["batch_size"] for step in steps_of(lines))
        self.assertEqual(maps["steps"], sizes)
        for kind in ("prefill", "decode", "drafted", "accepted"):
            self.assertEqual(maps["step_tokens"][", " + kind], sum(step[kind + "_tokens"] for step in steps_of(lines)), kind)
        requests = [line for line in lines if "request" in line]
        for event in ("preempted", "evicted", "prefix_cache"):
            happened = [line for line in lines if line.get("event") == event]
            self.assertGreater(len(happened), 0, event)
            self.assertEqual(maps["count"]["engine." + event], len(happened))
            for fact in ("tokens", "queried_tokens", "hit_tokens"):
                if fact in happened[0]:
                    self.assertEqual(maps["sum"]["engine.%s, nopspan.%s" % (event, fact)],
                                     sum(line[fact] for line in happened), (event, fact))
        for fact in ("drafts", "drafted_tokens", "accepted_tokens", "preemptions", "recomputed_tokens", "prompt_chunks"):
            self.assertEqual(maps["sum"]["engine.request, nopspan." + fact], sum(line[fact] for line in requests), fact)
        self.assertNotIn("not_added", maps)
        self.assertFalse([key for key in maps["count"] if "engine.step" in key])

    def test_steps_of_all_sizes(self):
        """A step without room for attributes, and one with more requests than any server has in a short run."""
        with harness.Program("traced") as program, Script("engine.bt", program.pid) as script:
            for batch, prefill, decode in ((300, 100000, 127), (128, 128, 16384)):
                program.ask("step long %d %d %d 0" % (batch, prefill, decode))
            program.ask("step long 5 6 7 8055")
            program.ask("members members 1000 1 2 3")
            program.ask("span engine.step 3")
            script.stop()
        maps = script.maps()
        self.assertEqual(maps["steps"], {"long, 300": 1, "long, 128": 1, "long, 5": 1, "members, 1003": 1, ", 0": 3})
        self.assertEqual([maps["step_tokens"][key] for key in ("long, prefill", "long, decode")], [100134, 16518])
        self.assertEqual([maps["step_tokens"]["members, " + kind] for kind in ("prefill", "decode", "drafted", "accepted")],
                         [6, 3000, 4000, 2000])
        self.assertEqual(maps["not_shown"].get("", 0), 0)


if __name__ == "__main__":
    example_service.need()
    harness.main("readelf", own_processes=False)
