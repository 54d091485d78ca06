# SPDX-License-Identifier: Apache-2.0
"""nopspan open: the requests in flight, of the example service with a stopped backend, of programs whose spans are
known, and of core files."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

import example_service
import harness
from example_service import AGENT
from followed import Followed, children_of
from harness import LIBRARY, LONG, NOPSPAN, PATIENCE_S, Program, nopspan, program_path, wait_until
from opened import Opened

GATE_BATCH = 0xFFFF << 16
KEPT = {"NOPSPAN_KEEP_OPEN": "1"}
TENANTS = ("acme", "globex")
LISTS = 500 if LONG else 20


def listed(*words):
    """The JSON that the command prints."""
    done = nopspan("open", "--json", *words)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def requests_of(*words):
    """{request id: request}"""
    return {request["request_id"]: request for request in listed(*words)["requests"]}


def tree_of(request, pid=None):
    """{span id: (parent, name, tenant, tokens)} of a request, or of its spans in one process."""
    return {span["span_id"]: (span.get("parent_id"), span["name"], span.get("tenant"), span["output_tokens"])
            for span in request["spans"] if pid in (None, span["pid"])}


def places_of(request):
    """The names of the spans at which the request is now."""
    return sorted(span["name"] for span in request["spans"] if span["is_innermost"])


@contextlib.contextmanager
def stopped(process):
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class Service(harness.Test):
    def start_agent(self, url, tenant):
        agent = subprocess.Popen([AGENT, "--base-url", url, "--json", "--organization", tenant, "--ignore-eos", "Explain spans to me."],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **KEPT})
        self.addCleanup(agent.stdout.close)
        self.addCleanup(agent.kill)
        return agent

    def core_of(self, pid):
        path = os.path.join(self.temporary_folder(), "core")
        subprocess.run(["gcore", "-o", path, str(pid)], check=True, capture_output=True, timeout=PATIENCE_S)
        return "%s.%d" % (path, pid)

    def test_requests_that_hang_in_a_stopped_server(self):
        example_service.need()
        with example_service.Server(self.temporary_folder(), "--token-delay-us", "20000", env=KEPT) as server:
            ended = example_service.Agent(server.url, "What is 6 * 7?", env=KEPT)
            self.assertEqual(ended.status, 0)
            agents = [self.start_agent(server.url, tenant) for tenant in TENANTS]
            pids = ",".join(str(each.pid) for each in (server, *agents))

            def are_decoding():
                requests = requests_of("--pid", pids, "--name", "engine.decode")
                return len(requests) == 2 and all(request["output_tokens"] > 0 for request in requests.values())
            wait_until(are_decoding, "both requests to be answered")
            with stopped(server.process):
                hanging = requests_of("--pid", pids, "--name", "llm.chat")
                for request in hanging.values():
                    self.assertEqual(places_of(request), ["engine.decode"])
                    self.assertEqual([span["name"] for span in request["spans"]],
                                     ["llm.chat", "agent.operator.iteration", "llm.step", "engine.request", "engine.decode"])
                    self.assertEqual([span["pid"] == server.pid for span in request["spans"]], [False] * 3 + [True] * 2)
                    self.assertFalse(request["age_is_least"])
                self.assertEqual({request["tenant"] for request in hanging.values()}, set(TENANTS))
                # Nothing else hangs, except the step of the engine. It has links to these requests.
                others = [request for id, request in requests_of("--pid", pids).items() if id not in hanging]
                self.assertLessEqual({name for request in others for name in places_of(request)}, {"engine.step"})
                self.assertTrue(all(process["known"] == "always" for process in listed("--pid", pids)["processes"]))

                later = requests_of("--pid", pids, "--name", "llm.chat")
                self.assertEqual({id: tree_of(request) for id, request in later.items()},
                                 {id: tree_of(request) for id, request in hanging.items()})
                for id, request in later.items():
                    self.assertGreater(request["age_ns"], hanging[id]["age_ns"])
                self.assertEqual(list(requests_of("--pid", pids, "--tenant", "acme")),
                                 [id for id, request in hanging.items() if request["tenant"] == "acme"])
                self.assertEqual(requests_of("--pid", pids, "--older-than", "1h"), {})
                text = nopspan("open", "--pid", pids, "--name", "llm.chat").stdout
                self.assertEqual(len(text.splitlines()), 3, text)
                self.assertIn(" > llm.step > chat_server[%d]: engine.request > engine.decode" % server.pid, text)

                in_core = requests_of(self.core_of(server.pid))
                for id, request in hanging.items():
                    self.assertEqual(tree_of(in_core[id]), tree_of(request, server.pid))
                    self.assertTrue(in_core[id]["age_is_least"])
                    self.assertLessEqual(in_core[id]["age_ns"], later[id]["age_ns"])
            answers = [json.loads(agent.communicate(timeout=PATIENCE_S)[0])["answers"] for agent in agents]
            self.assertEqual({answer["request_id"] for of_agent in answers for answer in of_agent}, set(hanging))
            wait_until(lambda: not requests_of("--pid", server.pid), "the requests to end")


class Programs(harness.Test):
    def test_a_program_and_its_child(self):
        with Opened("fork") as opened:
            child = int(opened.expected[3])
            request, = requests_of("--pid", "%d,%d" % (opened.process.pid, child)).values()
            self.assertCountEqual([(span["name"], span["pid"]) for span in request["spans"]],
                                  [("held.request", opened.process.pid), ("held.step", opened.process.pid),
                                   ("held.chat", opened.process.pid), ("held.child", child)])
            self.assertEqual(request["request_id"], "order-7")
            self.assertEqual(request["output_tokens"], 5)
            self.assertEqual(places_of(request), ["held.chat", "held.child"])
            self.assertEqual([span["name"] for span in requests_of("--pid", child)["order-7"]["spans"]], ["held.child"])

    def test_a_program_in_another_time_namespace(self):
        days = 1000
        with Opened("hold", prefix=["unshare", "--time", "--monotonic", str(days * 86400), "--fork"]) as opened:
            child, = children_of(opened.process.pid)
            # Its spans began when the clock began.
            request, = requests_of("--pid", child).values()
            self.assertGreater(request["age_ns"], days * 86400 * 10**9)
            self.assertFalse(request["age_is_least"])

    def test_spans_in_a_storm_existed(self):
        with Opened("storm") as opened:
            with Followed([NOPSPAN, "open", "--watch", "--json", "--interval", "100ms", "--count", str(LISTS), "--pid",
                           str(opened.process.pid)]) as watch:
                wait_until(lambda: not watch.is_running(), "the last list")
            lists = [json.loads(line) for line in watch.lines]
        self.assertEqual(len(lists), LISTS)
        seen = 0
        for request in (request for each in lists for request in each["requests"]):
            number = request["request_id"].removeprefix("id-")
            self.assertRegex(number, r"^\d+$")
            # Two threads may use the same number.
            self.assertEqual(len({span["age_ns"] for span in request["spans"]}), 1, request)
            for span in request["spans"]:
                self.assertIn(span["name"], ("storm." + number, "inner." + number), request)
                self.assertEqual("parent_id" in span, span["name"].startswith("inner"), request)
                self.assertEqual(span.get("tenant", "t" + number), "t" + number, request)
                self.assertIn(span["output_tokens"], (0, int(number)), request)
            seen += 1
        self.assertGreater(seen, 10)

    def test_a_long_list_does_not_wait_for_the_next_one(self):
        with Opened("many") as opened:
            with Followed([NOPSPAN, "open", "--watch", "--json", "--interval", "1h", "--pid",
                           str(opened.process.pid)]) as watch:
                watch.wait_while_it_runs(lambda: watch.lines, "the first list")
                self.assertEqual(len(json.loads(watch.lines[0])["requests"]), 10000)
                self.assertEqual(watch.stop(), 0)

    def test_watch_raises_the_gate(self):
        with Program("traced") as program:
            done = nopspan("open", "--pid", program.pid)
            self.assertEqual((done.returncode, done.stdout), (0, ""))
            self.assertIn("traced[%d]: its requests are not recorded" % program.pid, done.stderr)
            with Followed([NOPSPAN, "open", "--watch", "--json", "--interval", "100ms", "--pid", str(program.pid)]) as watch:
                program.wait_for_gate(lambda gate: gate & GATE_BATCH, "the gate to go up")
                program.ask("begin kept")

                def names():
                    return [places_of(request) for request in json.loads(watch.lines[-1])["requests"]] if watch.lines else None
                wait_until(lambda: names() == [["kept"]], "the span to be listed")
                self.assertEqual(json.loads(watch.lines[-1])["processes"][0]["known"], "since")
                program.ask("end")
                wait_until(lambda: names() == [], "the span to be gone")
                self.assertEqual(watch.stop(), 0)
            self.assertEqual(program.gate(), 0)

    def test_watch_does_not_take_the_time_of_an_earlier_tracer(self):
        words = [NOPSPAN, "open", "--watch", "--json", "--interval", "100ms"]
        with Program("traced") as program:
            words += ["--pid", str(program.pid)]
            with Followed(words) as watch:
                program.wait_for_gate(lambda gate: gate & GATE_BATCH, "the gate to go up")
                program.ask("begin first")
                program.ask("end")
                self.assertEqual(watch.stop(), 0)
            self.assertEqual(program.gate(), 0)
            began_ns = time.time_ns()
            with Followed(words) as watch:
                def known():
                    lists = [json.loads(line) for line in watch.lines]
                    return [each for each in lists if each["processes"] and each["processes"][0]["known"] == "since"]
                wait_until(known, "the gate to be seen")
                first = known()[0]
                self.assertLess(first["processes"][0]["known_for_ns"], first["time_unix_ns"] - began_ns)

    def test_watch_finds_programs_that_start_later(self):
        # A file of its own, to which nothing was attached before.
        path = shutil.copy(program_path("traced_static"), self.temporary_folder())
        with Followed([NOPSPAN, "open", "--watch", "--json", "--interval", "100ms"]) as watch:
            watch.wait_while_it_runs(lambda: watch.lines, "the first list")
            with Program("", command=[path]) as program:
                program.wait_for_gate(lambda gate: gate & GATE_BATCH, "the gate to go up")
                self.assertEqual(watch.stop(), 0)

    def test_watch_names_a_process_whose_library_is_opened_for_writing(self):
        folder = self.temporary_folder()
        library = shutil.copy(LIBRARY, os.path.join(folder, "libnopspan.so.0.3"))
        with Program("traced", env={"LD_LIBRARY_PATH": folder}) as program:
            with Followed([NOPSPAN, "open", "--watch", "--json", "--interval", "1h", "--pid", str(program.pid)]) as watch:
                program.wait_for_gate(lambda gate: gate & GATE_BATCH, "the gate to go up")
                with open(library, "r+b"):
                    self.assertEqual(program.gate(), 0)
                    wait_until(lambda: "nopspan: process %d (traced) and %s: a program opened the file for writing, and it is "
                               "not attached to meanwhile" % (program.pid, library) in watch.said, "the reason")
                program.wait_for_gate(lambda gate: gate & GATE_BATCH, "the gate to go up again")
                self.assertEqual(watch.stop(), 1)


if __name__ == "__main__":
    harness.main("gcore", "unshare")
