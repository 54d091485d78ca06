# SPDX-License-Identifier: Apache-2.0
"""The questions of docs/operating.md: each command, run as printed beside the example service, answers its question,
and prints what the example below it shows.

With NOPSPAN_WRITE_EXAMPLES=1 the test writes this run's output there instead.
"""

import concurrent.futures
import os
import re
import signal
import subprocess
import threading

import example_service
import harness
from example_service import PROMPTS, Agent, Server
from harness import BUILD, NOPSPAN, PATIENCE_S, SOURCE, Test, nopspan, wait_until

DOCUMENT = os.path.join(SOURCE, "docs", "operating.md")
WRITE = os.environ.get("NOPSPAN_WRITE_EXAMPLES") == "1"
QUESTIONS = 10
STUCK = "Who is stuck?"
CHANGED = "What has changed?"
CONCURRENCY = 8
MOST_LINES = 24
LEFT_OUT = "..."
# What the answer must have, whatever the example shows.
FACTS = {
    "Which requests are slow, and why?": r"\bllm\.chat\b(?s:.)*\bllm\.step\b.*\bself\b(?s:.)*\bengine\.decode\b",
    "Queue, prefill or decode?": r"\bengine\.queue\b",
    "How long until the first token?": r"llm\.step",
    "Which customer?": r"(?m)^acme +\d(?s:.)*^globex +\d|^globex +\d(?s:.)*^acme +\d",
    "Which model and server?": r"(?m)^nopspan-ngram +chat_server",
    "Which version?": r"(?m)^1\.5\.0 +\d",
    CHANGED: r"(?m)^engine\.decode +1\.4\.0 +\d(?s:.)*^engine\.decode +1\.5\.0 +\d|"
             r"^engine\.decode +1\.5\.0 +\d(?s:.)*^engine\.decode +1\.4\.0 +\d",
    "Which errors?": r"(?m)^server_error +engine\.request .* 100 ",
    "How many tokens?": r"(?m)^globex +\d",
    STUCK: r"engine\.(decode|prefill|queue)\n",
}


def sections():
    """{question: match of its block ```sh and its block ```text}"""
    with open(DOCUMENT, encoding="utf-8") as file:
        text = file.read()
    found = re.finditer(r"(?m)^### (.*\?)\n(?:(?!###|```).*\n)*```sh\n(.*)\n```\n(?:(?!###|```).*\n)*```text\n((?:(?!```).*\n)+)```$",
                        text)
    return text, {match[1]: match for match in found}


def words_of(text):
    """The words of an output: names of spans, columns, tenants and errors, without numbers, their units and ids.

    On a busy machine, a command may have no time at its end to fetch what threads hold. It counts this as lost.
    """
    text = text.replace("none lost", "lost")
    text = re.sub(r"(?<=\d) [num]?s\b", "", text)
    text = re.sub(r"(?<![\w-])[A-Za-z0-9_-]{21}[AQgw](?![\w-])", "", text)
    return set(re.findall(r"(?<![\w.])[A-Za-z][\w./-]+", text))


def shortened(output):
    lines = [line.rstrip() for line in output.splitlines()]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return lines[:MOST_LINES] + [LEFT_OUT] * (len(lines) > MOST_LINES)


def version(of_service):
    return {"OTEL_RESOURCE_ATTRIBUTES": "service.version=" + of_service}


class Load(threading.Thread):
    """Requests of one tenant until the test ends. A context manager."""

    def __init__(self, url, *arguments):
        super().__init__()
        self.command, self.is_stopped = (url, *arguments, "--max-attempts", "12", *PROMPTS * 4), False

    def run(self):
        while not self.is_stopped:
            Agent(*self.command)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_stopped = True
        self.join()


class Operating(Test):
    def answer(self, command, folder=None):
        environment = {**os.environ, "PATH": BUILD + ":" + os.environ["PATH"]}
        done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=PATIENCE_S, env=environment, cwd=folder, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_each_question_is_answered_as_printed(self):
        text, documented = sections()
        self.assertEqual(set(documented), set(FACTS))
        self.assertEqual(len(documented), QUESTIONS)
        folder = self.temporary_folder()
        recording = os.path.join(folder, "FILE")
        # As the service does, so that the requests that hang are known.
        service = self.until_interrupted(NOPSPAN, "record", recording, stderr=subprocess.PIPE, text=True)
        self.addCleanup(service.stderr.close)
        self.assertIn("Recording.", service.stderr.readline())
        answers = {}
        options = ("--slots", "4", "--fail-rate", "0.1", "--seed", "7", "--token-delay-us")
        with Server(folder, *options, "5000", env=version("1.5.0")) as server:
            with Load(server.url, "--organization", "acme", "--concurrency", str(CONCURRENCY - 2)), \
                 Load(server.url, "--organization", "globex", "--concurrency", "2"):
                commands = {question: match[2] for question, match in documented.items()
                            if question not in (STUCK, CHANGED)}
                with Server(self.temporary_folder(), *options, "2500", env=version("1.4.0")) as older, \
                     Load(older.url, "--organization", "acme"), \
                     concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
                    answers.update(zip(commands, pool.map(self.answer, commands.values())))

                def are_all_open(command="nopspan open"):
                    answers[STUCK] = self.answer(command)
                    return len(answers[STUCK].splitlines()) > CONCURRENCY

                def is_stopped_with_all_open():
                    # An agent that is about to end has fewer requests, and gets no more while the server is stopped.
                    server.process.send_signal(signal.SIGSTOP)
                    if are_all_open():
                        return True
                    server.process.send_signal(signal.SIGCONT)
                    return False
                try:
                    wait_until(is_stopped_with_all_open, "the server to be stopped while all requests are open")
                    wait_until(lambda: are_all_open(documented[STUCK][2]), "all requests to hang")
                finally:
                    server.process.send_signal(signal.SIGCONT)
        service.send_signal(signal.SIGINT)
        service.wait(PATIENCE_S)
        answers[CHANGED] = self.answer(documented[CHANGED][2], folder)
        for question, answer in answers.items():
            with self.subTest(question):
                self.assertRegex(answer, FACTS[question])
        if WRITE:
            for question, match in sorted(documented.items(), key=lambda each: -each[1].start()):
                text = text[:match.start(3)] + "\n".join(shortened(answers[question])) + "\n" + text[match.end(3):]
            with open(DOCUMENT, "w", encoding="utf-8") as file:
                file.write(text)
            return
        # Which requests are slow, and what they do when the server is stopped, differs between runs. So their spans are
        # looked for in all of them.
        every = nopspan("trace", "--from", recording).stdout
        for question, match in documented.items():
            with self.subTest(question):
                printed = words_of(answers[question] + (every if " trace " in match[2] or question == STUCK else ""))
                self.assertEqual(words_of(match[3]) - printed, set(), answers[question])


if __name__ == "__main__":
    example_service.need()
    harness.main()
