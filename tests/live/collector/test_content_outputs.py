# SPDX-License-Identifier: Apache-2.0
"""Content leaves a process only if the process captures it, whichever API sets it: the library's, C's, Python's or
nopspan_mini.h's. All that nopspan writes about it is searched for texts of each kind. (bpftrace: live.content.)"""

import base64
import gzip
import os
import re
import subprocess
import sys
import urllib.request

import harness
import perfetto_file
from harness import LIBRARY, NOPSPAN, Program, program_path
from test_bindings import build_module
from test_record import Record
from test_serve import Serve
from waiting import PATIENCE_S

CANARY = b"CANARY"
CAPTURE = {"NOPSPAN_CAPTURE_CONTENT": "1"}
PYTHON = """
import nopspan, sys
print("ready", __import__("os").getpid(), flush=True)
sys.stdin.readline()
with nopspan.span("work", row="public") as span:
    span.set("gen_ai.input.messages", "CANARY-prompt")
    span.set("gen_ai.output.messages", ["CANARY-answer"])
    with nopspan.span("llm.tool", arguments="CANARY-arguments") as tool:
        tool.content("result", "CANARY-result")
    try:
        with nopspan.span("fails"):
            raise ValueError("CANARY-message")
    except ValueError:
        pass
print("done", flush=True)
"""


def unpacked(text):
    """A page, or the lines of a live one, with their blocks of base64 and gzip decoded."""
    blocks = re.findall(rb"H4sI[A-Za-z0-9+/=]{20,}", text)
    return b"\n".join([text, *(gzip.decompress(base64.b64decode(block)) for block in blocks)])


def written_about(recording, folder):
    """{what: bytes}: all that commands make of a recording."""
    outputs = {}
    for command in (["trace", "--attributes", "--incomplete"], ["trace", "--json", "--attributes", "--incomplete"],
                    ["replay", "--spans"], ["replay"], ["top", "--by", "name"], ["hist"]):
        words = [NOPSPAN, *command, *([recording] if command[0] == "replay" else ["--from", recording])]
        outputs[" ".join(command)] = subprocess.run(words, capture_output=True, check=False, stdin=subprocess.DEVNULL).stdout
    for to in ("html", "perfetto"):
        path = os.path.join(folder, to)
        subprocess.run([NOPSPAN, "convert", recording, "--to", to, "-o", path, "--incomplete", "--force"], check=True,
                       capture_output=True, stdin=subprocess.DEVNULL)
        with open(path, "rb") as file:
            outputs["convert --to " + to] = unpacked(file.read()) if to == "html" else perfetto_file.read(path).plain
    subprocess.run([NOPSPAN, "export", "--from", recording, "--otlp-file", folder], check=True, capture_output=True,
                   stdin=subprocess.DEVNULL)
    outputs["export"] = b""
    for signal in ("traces", "logs", "metrics"):
        with open(os.path.join(folder, signal + ".jsonl"), "rb") as file:
            outputs["export"] += file.read()
    return outputs


# What shows the attributes of spans.
SHOWS_ALL = {"trace --attributes --incomplete", "trace --json --attributes --incomplete", "replay --spans",
             "convert --to html", "convert --to perfetto", "export"}


class Outputs(harness.Test):
    def outputs_of(self, binary, make, command):
        """{captured: {what: bytes}}"""
        outputs = {}
        for captured in (False, True):
            folder = self.temporary_folder()
            recording = os.path.join(folder, "spans.rec")
            with Record(recording, "--binary", binary):
                with make(CAPTURE if captured else {}) as program:
                    program.ask(command)
            outputs[captured] = written_about(recording, folder)
        return outputs

    def check(self, outputs):
        self.assertIn(b"public", outputs[False]["replay --spans"], "the spans are there")
        self.assertEqual([what for what, text in outputs[False].items() if CANARY in text], [])
        self.assertEqual({what for what in SHOWS_ALL if CANARY not in outputs[True][what]}, set())

    def test_the_library_and_its_c_api(self):
        self.check(self.outputs_of(LIBRARY, lambda env: Program("content", env=env), "emit"))

    def test_the_header_to_copy(self):
        self.check(self.outputs_of(program_path("mini"), lambda env: Program("mini", env=env), "content"))

    def test_the_binding_for_python(self):
        folder = self.temporary_folder()
        build_module(folder)
        command = [sys.executable, "-c", PYTHON]
        self.check(self.outputs_of(LIBRARY, lambda env: Program("python", command=command, env={**env, "PYTHONPATH": folder}),
                                   "emit"))

    def test_the_live_page_and_the_metrics(self):
        for captured in (False, True):
            with self.subTest(captured=captured), Serve() as serve, \
                    Program("content", env=CAPTURE if captured else {}) as program:
                with urllib.request.urlopen(f"http://{serve.address()}/live", timeout=PATIENCE_S) as answer:
                    while not answer.readline().startswith(b"head "):  # earlier requests are not on the page
                        pass
                    program.ask("emit_by_key")
                    seen, line = b"", b""
                    while not (line.startswith(b"details ") and b"by.key.inside" in line):  # with all spans of the request
                        line = unpacked(answer.readline())
                        seen += line
                self.assertEqual(CANARY in seen, captured)
                self.assertNotIn(CANARY, serve.text().encode())
                self.assertEqual(serve.stop(), 0)


if __name__ == "__main__":
    harness.main()
