# SPDX-License-Identifier: Apache-2.0
"""The examples in C and in Python under bpftrace and under nopspan trace."""

import os
import subprocess
import sys
import sysconfig

import harness
from harness import BUILD, SOURCE, Test, Tracer
from test_trace import Trace

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PYTHON = os.path.join(SOURCE, "examples", "python")


def build_module(folder):
    subprocess.run([os.environ.get("CC", "cc"), "-std=c99", "-O2", "-shared", "-fPIC", "-I" + os.path.join(SOURCE, "include"),
                    "-I" + sysconfig.get_path("include"), os.path.join(PYTHON, "nopspan_module.c"), "-L" + BUILD, "-lnopspan",
                    "-o", os.path.join(folder, "nopspan.abi3.so")], check=True)


class Bindings(Test):
    def traces_of(self, command, answers, **options):
        """{tenant: {span name: span}} of three requests, and the trace ids."""
        with Trace("--json", "--attributes") as trace:
            program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
            self.assertEqual(len(program.communicate("".join(answers))[0].splitlines()), 3)
            trace.wait_while_it_runs(lambda: len(trace.traces(program.pid)) == 3, "the requests")
            self.assertEqual(trace.stop(), 0)
        self.assertEqual(program.returncode, 0)
        self.assertEqual((trace.last()["ledger"]["total"]["lost"], trace.last()["ledger"]["total"]["balanced"]), (0, True))
        requests = {}
        for found in trace.traces(program.pid):
            spans = {span["name"]: span for span in found["spans"]}
            chat, = [span for span in found["spans"] if span["name"] == "llm.chat"]
            requests[chat["tenant"]] = spans
            self.assertTrue(all(span is chat or span["parent_id"] == chat["span_id"] for span in found["spans"]), found)
            self.assertEqual((found["trace_id"], chat.get("parent_id")) == (CALLER[3:35], CALLER[36:52]), chat["tenant"] == "acme")
        return requests

    def test_the_service_in_c(self):
        with Tracer(("span_stop", "gauge")) as tracer:
            requests = self.traces_of([os.path.join(BUILD, "examples", "c", "service")],
                                      [CALLER + " acme hello world\n", "globex\n", "hooli tea\n"])
            tracer.stop()
        acme, globex = requests["acme"], requests["globex"]
        self.assertEqual((acme["llm.chat"]["usage"]["output"], acme["llm.chat"]["model"], acme["llm.chat"]["engine"]),
                         (2, "capitals-1", "upper"))
        self.assertEqual(acme["prompt.tokenize"]["attributes"], {"tokens": 2})
        self.assertGreater(acme["llm.chat"]["first_token_ns"], 0)
        self.assertEqual((globex["llm.chat"]["status"], globex["llm.chat"]["error_type"]), ("error", "empty_prompt"))
        self.assertEqual(sorted((event.name, event.status) for event in tracer.events("span_stop")),
                         [("llm.chat", 0)] * 2 + [("llm.chat", 1)] + [("prompt.tokenize", 0)] * 3)
        self.assertEqual([event.arg2 for event in tracer.events("gauge")], [1, 2, 3])

    def test_the_binding_for_python(self):
        folder = self.temporary_folder()
        build_module(folder)
        requests = self.traces_of([sys.executable, os.path.join(PYTHON, "chat.py")], [], env={**os.environ, "PYTHONPATH": folder})
        self.assertEqual({tenant: spans["llm.chat"]["status"] for tenant, spans in requests.items()},
                         {"acme": "ok", "globex": "ok", "hooli": "exception"})
        self.assertEqual(requests["hooli"]["llm.chat"]["error_type"], "ValueError")
        self.assertEqual(requests["acme"]["llm.chat"]["usage"]["input"], 3)
        self.assertEqual(requests["acme"]["llm.tool"]["kind"], "internal")


if __name__ == "__main__":
    if not os.path.exists(os.path.join(BUILD, "examples", "c", "service")):
        harness.ability.unable("the examples are not built (NOPSPAN_EXAMPLES=ON)")
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        harness.ability.unable("Python.h is not installed (Debian: python3-dev)")
    harness.main()
