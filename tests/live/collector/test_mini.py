# SPDX-License-Identifier: Apache-2.0
"""Programs with nopspan_mini.h are traced like those with the library: by nopspan's commands and by the scripts."""

import json
import os
import time

import harness
from collector import Collector
from harness import Bpftrace, Program, nopspan, program_path
from test_record import Record
from test_top import Top
from test_trace import Trace

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def mini(**env):
    return Program("mini", env=env)


class Mini(harness.Test):
    def setUp(self):
        self.binary = program_path("mini")

    def test_trace_shows_all_that_a_request_has(self):
        with Trace("--json", "--attributes", binary=self.binary) as trace:
            with mini() as program:
                self.assertEqual(program.ask("work " + CALLER), "1")
            trace.wait_while_it_runs(lambda: trace.traces(program.pid), "the request")
            self.assertEqual(trace.stop(), 0)
        found, = trace.traces(program.pid)
        self.assertEqual(found["trace_id"], CALLER[3:35])
        spans = {span["name"]: span for span in found["spans"]}
        server, query, tool, request = (spans[name] for name in ("http.server", "db.query", "llm.tool", "engine.request"))
        self.assertEqual((server["kind"], server["parent_id"], server["tenant"]), ("server", "00f067aa0ba902b7", "acme"))
        self.assertEqual((query["parent_id"], query["tenant"], query["status"], query["error_type"], query["attributes"]),
                         (server["span_id"], "acme", "error", "timeout", {"db.rows": 12}))
        self.assertEqual([(event["name"], event["attributes"]) for event in query["events"]],
                         [("cache.miss", {"cache.key": "users"}),
                          ("gen_ai.retry", {"retry.attempt": 1, "retry.delay_ms": 500, "retry.reason": "timeout"})])
        self.assertEqual(tool["tool"], "calc")
        self.assertEqual((request["engine"], request["model"], request["tenant"]), ("tiny", "tiny-1", "acme"))
        self.assertEqual(request["usage"], {"input": 10, "output": 5, "cached": 2, "reasoning": 0})
        times = {"queue_ns": 1000, "prefill_ns": 2000, "decode_ns": 3000, "prefill_tokens": 10, "decode_tokens": 4, "preemptions": 1}
        self.assertLessEqual(times.items(), request["engine_times"].items())
        self.assertEqual(request["attributes"]["gen_ai.response.finish_reasons"], ["length"])
        self.assertGreater(request["first_token_ns"], 0)
        step, = found["linked"]
        self.assertEqual((step["name"], step["count"], step["prefill_tokens"]), ("engine.step", 1, 10))
        end = trace.last()
        self.assertTrue(end["ledger"]["total"]["balanced"])
        self.assertEqual(end["ledger"]["total"]["lost"], 0)

    def test_top_shows_spans_and_gauges(self):
        with mini() as program, Top("--total", binary=self.binary) as top:
            self.assertEqual(program.ask("work " + CALLER), "1")
            top.wait_while_it_runs(lambda: any(row["name"] == "db.query" for row in top.last()["rows"]), "the spans")
            self.assertEqual(top.stop(), 0)
        gauges = {gauge["name"]: gauge for gauge in top.last()["gauges"] if gauge["pid"] == program.pid}
        self.assertEqual((gauges["running"]["value"], gauges["running"]["maximum"]), (3, 8))
        retries = {row["name"]: row["total"]["retries"] for row in top.last()["rows"]}
        self.assertEqual((retries["db.query"], retries["llm.tool"]), (1, 0))

    def test_ps_lists_the_program(self):
        with mini() as program:
            listed = json.loads(nopspan("ps", "--json").stdout)
            row, = [process for process in listed["processes"] if process["pid"] == program.pid]
        copy, = row["copies"]
        self.assertEqual((copy["path"], copy["abi_version"], len(copy["probes"])), (self.binary, 2, 12))

    def test_open_shows_what_is_open(self):
        with mini(NOPSPAN_KEEP_OPEN="1") as program:
            program.ask("open")
            requests = json.loads(nopspan("open", "--json", "--pid", program.pid).stdout)["requests"]
            self.assertEqual([span["name"] for request in requests for span in request["spans"]], ["kept"])

    def test_spans_in_the_buffer_of_a_killed_program_arrive(self):
        path = os.path.join(self.temporary_folder(), "killed.rec")
        with Record(path, "--binary", self.binary) as record:
            program = mini()
            for command in ("span first", "open", "hold"):
                program.ask(command)
            program.kill()
            self.assertEqual(record.stop(), 0)
        names = [json.loads(line).get("name") for line in nopspan("replay", path, "--spans").stdout.splitlines()]
        self.assertIn("held", names)

    def test_threads_that_end_report_each_span_once(self):
        path = os.path.join(self.temporary_folder(), "threads.rec")
        with Record(path, "--binary", self.binary, "--max-age", "200ms") as record:
            with mini() as program:
                program.ask("threads")
                time.sleep(1)  # the collector fetches what threads hold
                program.ask("threads")
            self.assertEqual(record.stop(), 0)
        ids = [json.loads(line).get("span_id") for line in nopspan("replay", path, "--spans").stdout.splitlines() if '"short"' in line]
        self.assertEqual((len(ids), len(set(ids))), (200, 200))

    def test_a_span_that_is_open_at_exit_is_reported(self):
        path = os.path.join(self.temporary_folder(), "exit.rec")
        with Record(path, "--binary", self.binary) as record:
            with mini() as program:
                program.ask("open")
                program.process.stdin.write("exit\n")
                program.process.stdin.flush()
                self.assertEqual(program.process.wait(), 0)
            self.assertEqual(record.stop(), 0)
        entries = [json.loads(line) for line in nopspan("replay", path, "--spans").stdout.splitlines()]
        kept, = [entry for entry in entries if entry.get("name") == "kept"]
        self.assertEqual((kept["status"], kept["error_type"]), ("cancelled", "exit"))

    def test_bpftrace_sees_each_probe_and_the_records(self):
        script = "struct record { unsigned int size; unsigned int flags; unsigned int status; unsigned int links; unsigned long span_id; }\n"
        for probe in ("span_start", "span_stop", "event", "tokens", "first_token", "engine_request", "engine_step", "gauge",
                      "retry", "tool_call"):
            script += ('usdt:"%s":nopspan:%s { printf("%s %%s %%s %%d %%d\\n", str(arg1), str(arg3), arg2 > 0, ((struct record *)arg5)->size); }\n'
                       % (self.binary, probe, probe))
        with Bpftrace([harness.BPFTRACE, "-e", script]) as tracer:
            with mini() as program:
                self.assertEqual(program.ask("work " + CALLER), "1")
            tracer.wait_while_it_runs(lambda: sum(line.startswith("span_stop") for line in tracer.lines) == 5, "the spans")
            tracer.stop()
        self.assertEqual(sorted(line for line in tracer.lines if line.endswith(" 216")),
                         sorted(["span_start http.server  1 216", "span_start db.query  1 216", "event cache.miss  1 216",
                                 "retry db.query  1 216", "span_stop db.query  1 216", "span_start llm.tool  1 216",
                                 "tool_call calc  1 216", "span_stop llm.tool  1 216", "span_start engine.request  1 216",
                                 "first_token engine.request tiny-1 1 216", "span_start engine.step  1 216",
                                 "engine_step engine.step  1 216", "span_stop engine.step  1 216", "tokens engine.request tiny-1 1 216",
                                 "engine_request engine.request tiny-1 1 216", "span_stop engine.request tiny-1 1 216",
                                 "gauge running  1 216", "gauge ended  1 216", "span_stop http.server  1 216"]))

    def test_a_file_with_two_gates_is_named(self):
        """Programs of before linkers refused it have the static library beside the header."""
        with Program("two_gates") as program:
            listed = nopspan("ps", program.pid)
            self.assertIn("process %d (two_gates) and %s: the file has nopspan twice" % (program.pid, program_path("two_gates")),
                          listed.stderr)
            checked = nopspan("doctor", program.pid)
            self.assertEqual(checked.returncode, 1)
            self.assertRegex(checked.stdout, "(?m)^failed .*the file has nopspan twice")
            with Collector("--pid", program.pid, binary=program_path("two_gates")) as tracer:
                ledger = tracer.stop()
            self.assertIn("the file has nopspan twice", json.dumps(ledger["unattached"]))

    def test_a_plugin_that_is_loaded_again_and_again_stays_attached(self):
        plugin = program_path("plugin_mini.so")
        with Program("plugin_host") as host, Collector("--pid", host.pid, binary=plugin) as tracer:
            for number in range(8):
                self.assertEqual(host.ask("load " + plugin), "loaded")
                self.assertNotEqual(int(host.ask("plugin_gate")), 0, "load %d" % number)
                for _ in range(10):
                    host.ask("plugin_span load.%d" % number)
                self.assertEqual(host.ask("unload"), "unloaded")
                time.sleep(0.7 if number < 2 else 0)  # meanwhile, scans find that no process maps the file
            tracer.stop()
            counts = tracer.counts(host.pid)
        self.assertEqual(tracer.names(host.pid), {"load.%d" % number: 10 for number in range(8)})
        self.assertEqual((counts["emitted"], counts["lost"]), (80, 0))


if __name__ == "__main__":
    harness.main()
