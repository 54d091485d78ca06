# SPDX-License-Identifier: Apache-2.0
"""Fifty concurrent clients of the example server. A third of them hang up: in the queue, in prefill, or in decode. And
clients for an engine with drafts and little room, whose requests are preempted."""

import base64
import http.client
import json
import socket
import threading
import urllib.request

import harness
from harness import PATIENCE_S, SEPARATOR

SLOTS = 4
CONTEXT = 16384
OPTIONS = ("--slots", str(SLOTS), "--threads", "64", "--context", str(CONTEXT), "--prefill-tokens", "32",
           "--token-delay-us", "5000")

CANCELLED = 2
FOREVER = 7000  # tokens: far more than can be generated before a client hangs up
MODEL = "nopspan-ngram"
BEGINNING = "You are one of many clients, all of which begin with these words, so that they are read once. "
SHARED = BEGINNING * 3
# How many clients hang up, and the phase in which their requests are then.
HANG_UP = {"decode": 7, "queue": 6, "prefill": 4}
CLIENTS = 50

# The room is enough for a few of the slots, so that requests are preempted.
FACT_OPTIONS = ("--slots", "8", "--threads", "64", "--context", "1024", "--kv-tokens", "1024", "--prefill-tokens", "48",
                "--draft-tokens", "4", "--token-delay-us", "300")


def fact_body(number, max_tokens, **others):
    """The body of a request. A fourth of them share all of their system prompt, and all share its beginning."""
    return json.dumps({
        "model": MODEL, "temperature": 0.1 * (number % 5), "seed": number, "ignore_eos": True, "max_tokens": max_tokens,
        "messages": [{"role": "system", "content": BEGINNING * (1 + number % 4)},
                     {"role": "user", "content": "Explain step %d." % number}], **others})


def ask_for_facts(server, count):
    """Sends that many requests to a server with FACT_OPTIONS, and waits for the answers. Most are sent at the same time, so
    that some are preempted. The last ten follow one by one, because sequences are evicted only from free slots."""
    def ask(number):
        request = urllib.request.Request(server.url + "/v1/chat/completions", fact_body(number, 160).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            json.load(response)

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(count - 10)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for number in range(count - 10, count):
        ask(number)


class Watch:
    """The spans that the tracer has seen begin and end, by request, while it runs. Reads each line of its output
    once."""

    def __init__(self, tracer):
        self.tracer = tracer
        self.read = 0
        self.seen = set()
        self.lock = threading.Lock()

    def has(self, mark, request_id, name):
        with self.lock:
            lines = self.tracer.lines
            while self.read < len(lines):
                words = lines[self.read].split(SEPARATOR, 4)
                self.read += 1
                if len(words) > 4:
                    self.seen.add((words[0], words[2], words[3]))
            return (mark, request_id, name) in self.seen

    def wait(self, mark, request_id, name):
        def seen():
            if mark == "span_start" and self.has("span_stop", request_id, "engine.request"):
                raise AssertionError("%s ended without %s" % (request_id, name))
            return self.has(mark, request_id, name)
        harness.wait_until(seen, "%s of %s of %s" % (mark, name, request_id))


class Client(threading.Thread):
    """One request, with a trace of its own. `leaves` is the phase in which the client hangs up, or None."""

    def __init__(self, number, server, watch, stream, leaves=None, after=None):
        super().__init__(daemon=True)
        trace_id = "%032x" % ((0xC11E << 112) + number)
        self.request_id = base64.urlsafe_b64encode(bytes.fromhex(trace_id)).decode().rstrip("=")
        self.stream, self.leaves, self.after = stream, leaves, after
        self.server, self.watch = server, watch
        self.usage = self.error = None
        unshared = "Number %d. " % number + "What begins otherwise is not shared. " * 500
        self.headers = {"Content-Type": "application/json", "traceparent": "00-%s-00000000000000aa-01" % trace_id,
                        "OpenAI-Organization": "org-%d" % (number % 3), "X-Route": "test"}
        body = {"model": MODEL, "stream": stream, "temperature": 0.8, "seed": number,
                "ignore_eos": leaves is not None or number % 4 != 0,
                "max_tokens": FOREVER if leaves else 3 + number % 20,
                "messages": [{"role": "system", "content": unshared if leaves == "prefill" else SHARED},
                             {"role": "user", "content": "Explain step %d." % number}]}
        if stream:
            body["stream_options"] = {"include_usage": True}
        self.body = json.dumps(body)
        self.start()

    def run(self):
        try:
            if self.leaves:
                self.hang_up()
            else:
                self.read_answer()
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def hang_up(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        connection.request("POST", "/v1/chat/completions", self.body, self.headers)
        self.watch.wait("span_start", self.request_id, "engine." + self.leaves)
        if self.leaves == "decode" and self.stream:
            connection.sock.recv(1)
        if self.after is not None:
            self.after.wait(PATIENCE_S)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()

    def read_answer(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        connection.request("POST", "/v1/chat/completions", self.body, self.headers)
        response = connection.getresponse()
        answer = response.read().decode()
        connection.close()
        assert response.status == 200, answer
        assert response.getheader("x-request-id") == self.request_id
        if self.stream:
            chunks = [line[6:] for line in answer.splitlines() if line.startswith("data: ")]
            assert chunks[-1] == "[DONE]", answer
            answer = chunks[-2]
        self.usage = json.loads(answer)["usage"]


def run_clients(server, watch):
    """Runs all clients together. When some leave the queue, others still wait there too, because the slots are busy
    with decoding."""
    full, go = threading.Event(), threading.Event()
    numbers = iter(range(CLIENTS))
    clients = [Client(next(numbers), server, watch, True, "decode", after=go) for _ in range(SLOTS)]
    for client in clients:
        watch.wait("span_start", client.request_id, "engine.decode")
    clients += [Client(next(numbers), server, watch, i % 2 == 0, "queue", after=full) for i in range(HANG_UP["queue"])]
    clients += [Client(next(numbers), server, watch, i % 2 == 0, "prefill") for i in range(HANG_UP["prefill"])]
    clients += [Client(next(numbers), server, watch, i % 2 == 0, "decode") for i in range(HANG_UP["decode"] - SLOTS)]
    clients += [Client(number, server, watch, number % 2 == 0) for number in numbers]
    for client in clients[SLOTS:]:
        watch.wait("span_start", client.request_id, "engine.queue")
    full.set()
    for client in clients:
        if client.leaves == "queue":
            watch.wait("engine_request", client.request_id, "engine.request")
    go.set()
    for client in clients:
        client.join(PATIENCE_S)
        if client.error is not None:
            raise client.error
        watch.wait("engine_request", client.request_id, "engine.request")
    return clients
