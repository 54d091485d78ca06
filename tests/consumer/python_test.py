#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The extension of examples/python is built with the headers of this Python, and reports what programs do."""
import os
import re
import sys
import sysconfig

from received import build_receiver, run_received
from surroundings import CC, CMAKE, INSTALLED, LIBDIR, SOURCE, expect, fresh, run

from ability import unable

EXAMPLE = os.path.join(SOURCE, "examples", "python")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# Each function is a program of its own.
PROGRAMS = {
    "fields": """
with nopspan.span("py.outer", one=1, half=0.5, yes=True, none=None, text="äöü", ints=[1, 2], halves=(0.5, 1.5),
                  texts=["a", "b"], mixed=[1, "a"], big=2**80, request_id="order-7", model="small") as span:
    assert span and nopspan.current() is span and nopspan.enabled()
    span.set("late", {"a": 1}).measure("rows", 42).measure("seconds", 0.5).content("prompt", "tea").label("zone", "eu")
    span.usage(12, 3, None, 1).first_token()
    span.event("py.event", n=1)
    with nopspan.span("py.inner"):
        nopspan.event("py.inner_event")
    nopspan.gauge("waiting", 3, engine="python", maximum=8, adapter="german")
    nopspan.counter("aborted", 17)
assert not span
span.set("after", 1)
span.end()
assert not nopspan.current()
""",
    "ends": """
def ended(end):
    span = nopspan.span("py.span")
    end(span)
ended(lambda span: span.fail("timeout", "too late"))
ended(lambda span: span.fail("io.Error"))
ended(lambda span: span.cancel("gone"))
ended(lambda span: span.end())
ended(lambda span: None)  # abandoned
class Refused(Exception): pass
for error in (Refused("no rows"), KeyError("x"), asyncio.CancelledError(), GeneratorExit()):
    try:
        with nopspan.span("py.span"):
            raise error
    except BaseException as caught:
        assert caught is error
""",
    "tasks": """
async def inner(name, parent):
    with nopspan.span(name):
        assert nopspan.current() is not parent
        await asyncio.sleep(0.001)
        await asyncio.to_thread(lambda: nopspan.span(name + ".thread").end())
    assert nopspan.current() is parent
async def outer(name):
    with nopspan.span(name) as span:
        await asyncio.gather(*(inner(f"{name}.inner", span) for _ in range(3)))
async def main():
    await asyncio.gather(*(outer(f"py.o{i}") for i in range(4)))
asyncio.run(main())
async def numbers():
    with nopspan.span("py.generator"):
        yield 1
        yield 2
async def abandon():
    async for number in numbers():
        break
asyncio.run(abandon())
assert not nopspan.current()
thread = threading.Thread(target=lambda: nopspan.span("py.other_thread").end())
with nopspan.span("py.main_thread"):
    thread.start()
    thread.join()
""",
    "order": """
def numbers():
    with nopspan.span("py.generator"):
        yield 1
def request():
    with nopspan.span("py.request"):
        unfinished = numbers()
        next(unfinished)
request()
assert not nopspan.current() and nopspan.traceparent() == ""
with nopspan.span("py.next", traceparent=""):
    pass
begun = None
with nopspan.span("py.handler"):
    begun = nopspan.span("py.stream")
with begun:
    pass
assert nopspan.traceparent() == ""
async def later():
    await ended.wait()
    nopspan.event("py.later_event")
    with nopspan.span("py.later", n=1) as span:
        with nopspan.span("py.inner"):
            pass
        span.end()
        with nopspan.span("py.after_end"):
            pass
    with nopspan.span("py.later"):
        assert span.traceparent()[:36] == header[:36] == nopspan.traceparent()[:36]
async def main():
    global ended, header
    ended = asyncio.Event()
    with nopspan.span("py.server"):
        task = asyncio.create_task(later())
        header = nopspan.traceparent()
        await asyncio.sleep(0)
    ended.set()
    await task
asyncio.run(main())
""",
    "headers": f"""
assert nopspan.traceparent() == ""
with nopspan.span("py.server", traceparent="{TRACEPARENT}", kind="server") as span:
    header = nopspan.traceparent()
    assert header == span.traceparent() and header[:36] == "{TRACEPARENT}"[:36], header
with nopspan.span("py.broken", traceparent="nonsense", kind="nonsense"):
    pass
with nopspan.span("py.none", traceparent=None, kind=None):
    pass
""",
    "misuse": """
with nopspan.span(7, **{"": 1}) as span:
    span.set(None, 1).set("\\udc80", 1).set("surrogate", "\\udc80").usage("x", None).measure("text", "x")
    span.set("self", type("Bad", (), {"__str__": lambda self: 1 / 0})())
    nopspan.event(None)
    nopspan.gauge(None, "x")
    nopspan.gauge("half", 1.5, maximum=2**70)
    nopspan.gauge("infinite", float("inf"))
    class List(list):
        def __len__(self):
            raise KeyError
        def __getitem__(self, place):
            raise KeyError
    span.set("list", List([1, 2])).set("tuple", resource.struct_rusage(range(16))).usage(1.5, "x")
    nopspan.span("py.exit").__exit__(1, 2, 3)
for wrong in (lambda: nopspan.span(), lambda: nopspan.span("a", "b"), lambda: span.set("a"), lambda: nopspan.event(),
              lambda: nopspan.Span(), lambda: span.fail()):
    try:
        wrong()
        raise SystemExit("no TypeError")
    except TypeError:
        pass
span.__exit__(None, None, None)
nopspan.span("py.last").end()
""",
    "memory": """
import gc
def spans():
    for i in range(200):
        with nopspan.span("py.span", i=i) as span:
            span.set("text", str(i))
        many = [nopspan.span("py.many") for _ in range(100)]
        for span in many:
            span.end()
async def follow(left):  # each task is started by the one before
    with nopspan.span("py.follow"):
        if left > 0:
            tasks.append(asyncio.create_task(follow(left - 1)))
        else:
            done.set_result(sys.getrefcount(nopspan.Span))
async def chain():
    global done, tasks
    done, tasks = asyncio.get_running_loop().create_future(), collections.deque(maxlen=2)
    tasks.append(asyncio.create_task(follow(1000)))
    return await done
none = sys.getrefcount(nopspan.Span)
assert asyncio.run(chain()) < none + 50, "spans of tasks that ended"
spans()
gc.collect()
before = sys.getrefcount(None), sys.getrefcount(nopspan.Span), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spans()
after = sys.getrefcount(None), sys.getrefcount(nopspan.Span), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert abs(after[0] - before[0]) < 50 and abs(after[1] - before[1]) < 50 and after[2] < before[2] + 1024, (before, after)
""",
    "disabled": """
first = nopspan.span("py.disabled", n=1)
assert not first and first is nopspan.span("py.other") and not nopspan.enabled() and nopspan.traceparent() == ""
with first as span, nopspan.span("py.nested"):
    span.set("n", 1).measure("n", 1).event("py.event")
    span.fail("x")
nopspan.event("py.event", n=1)
nopspan.gauge("waiting", 1)
""",
}
BEGIN = "import asyncio, collections, resource, sys, threading\nimport nopspan\n"


def build():
    folder = fresh("python")
    run([CMAKE, "-S", EXAMPLE, "-B", folder, "-G", "Ninja", f"-DCMAKE_C_COMPILER={CC}", f"-DCMAKE_PREFIX_PATH={INSTALLED}",
         "-DCMAKE_C_FLAGS=-Werror", f"-DPython3_EXECUTABLE={sys.executable}"])
    run([CMAKE, "--build", folder])
    return folder


class Programs:
    def __init__(self, folder):
        self.environment = {"PYTHONPATH": folder}
        self.receiver = build_receiver()

    def run(self, *arguments):
        return run_received(self.receiver, [sys.executable, *arguments], env=self.environment)

    def events(self, name):
        return self.run("-c", BEGIN + PROGRAMS[name])[1]


def named(events, name):
    return [event for event in events if event["name"] == name]


def check_fields(events):
    outer, = named(events, "py.outer.stop")
    fields, numbers = outer["metadata"], outer["measurements"]
    wanted = {"one": 1, "half": 0.5, "yes": True, "none": None, "text": "äöü", "ints": [1, 2], "halves": [0.5, 1.5],
              "texts": ["a", "b"], "mixed": "[1, 'a']", "big": 2**63 - 1, "request_id": "order-7", "model": "small",
              "late": "{'a': 1}", "prompt": "tea", "zone": "eu", "input_tokens": 12, "output_tokens": 3, "reasoning_tokens": 1}
    for key, value in wanted.items():
        expect(fields[key] == value, f"{key} is {fields[key]}")
    expect("cached_tokens" not in fields and "after" not in fields, fields)
    expect((numbers["rows"], numbers["seconds"]) == (42, 0.5), numbers)
    expect(named(events, "py.outer.start")[0]["metadata"]["text"] == "äöü", "the start has the fields")
    inner, = named(events, "py.inner.stop")
    expect(inner["parent"] == outer["span"] and inner["request"] == "order-7" and inner["metadata"]["model"] == "small", inner)
    expect(len(named(events, "py.event")) == 1 and len(named(events, "gen_ai.stream.first_token")) == 1, "events")
    gauge, counter = named(events, "engine.stats")
    expect(gauge["metadata"] == {"engine": "python", "maximum": 8, "adapter": "german", "gauge": "waiting"}, gauge)
    expect(counter["measurements"] == {"aborted": 17} and counter["metadata"]["counter"] is True, counter)


def check_ends(events):
    ends = [event for event in events if event["name"] in ("py.span.stop", "py.span.exception")]
    types = [(end["status"], end["metadata"].get("error.type") or end["metadata"].get("cancel.reason")
              or end["metadata"].get("reason", {}).get("type")) for end in ends]
    expect(types == [("error", "timeout"), ("error", "io.Error"), ("cancelled", "gone"), ("ok", None), ("cancelled", "abandoned"),
                     ("exception", "Refused"), ("exception", "KeyError"), ("cancelled", "CancelledError"),
                     ("cancelled", "GeneratorExit")], types)
    expect(ends[0]["metadata"]["error.message"] == "too late" and ends[5]["metadata"]["reason"]["message"] == "no rows", ends)


def check_tasks(events):
    spans = {event["span"]: event for event in events if event["name"].endswith(".stop")}
    for span in spans.values():
        name = span["name"][:-len(".stop")]
        if name.endswith((".inner", ".thread")):
            expect(spans[span["parent"]]["name"] == name.rpartition(".")[0] + ".stop", span)
        else:
            expect(span["parent"] is None and span["status"] in ("ok", "cancelled"), span)
    expect(len(spans) == 4 * (1 + 3 + 3) + 3, f"{len(spans)} spans")


def check_order(events):
    def parents(name):
        return [event["parent"] for event in named(events, name)]
    server, = named(events, "py.server.stop")
    later = [event["span"] for event in named(events, "py.later.stop")]
    expect(parents("py.next.stop") == [None] and parents("py.later.stop") == [server["span"]] * 2, events)
    expect(parents("py.inner.stop") + parents("py.after_end.stop") == later[:1] * 2, events)
    expect({event["trace"] for event in events if event["name"].startswith("py.later")} == {server["trace"]}, events)
    expect(len(later) == 2 and len(named(events, "py.later_event")) == 1, events)


def check_headers(events):
    server, = named(events, "py.server.stop")
    expect(server["parent"] == TRACEPARENT[36:52] and server["trace"] == TRACEPARENT[3:35], server)
    expect([event["parent"] for event in named(events, "py.broken.stop") + named(events, "py.none.stop")] == [None, None], events)


def check_misuse(events):
    unnamed, = named(events, "unnamed.stop")
    expect(unnamed["status"] == "ok" and unnamed["metadata"].get("surrogate") is None, unnamed)
    expect((unnamed["metadata"]["list"], unnamed["metadata"]["tuple"]) == ([1, 2], list(range(16))), unnamed)
    expect(unnamed["metadata"]["input_tokens"] == 1 and "output_tokens" not in unnamed["metadata"], unnamed)
    gauge, = named(events, "engine.stats")
    expect((gauge["metadata"]["gauge"], gauge["measurements"]) == ("half", {"half": 1}), gauge)
    expect(len(named(events, "py.exit.stop")) == len(named(events, "py.last.stop")) == 1, "the program did not reach its end")


def main():
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        unable("Python.h is not installed (Debian: python3-dev)")
    folder = build()
    module = os.path.join(folder, "nopspan.abi3.so")
    used = set(re.findall(r" U (Py\w+)", run(["nm", "-D", "--undefined-only", module])))
    expect("PyUnicode_AsUTF8AndSize" in used, used)

    programs = Programs(folder)
    check_fields(programs.events("fields"))
    check_ends(programs.events("ends"))
    check_tasks(programs.events("tasks"))
    check_order(programs.events("order"))
    check_headers(programs.events("headers"))
    check_misuse(programs.events("misuse"))
    programs.events("memory")
    run([sys.executable, "-c", BEGIN + PROGRAMS["disabled"]], env={**os.environ, **programs.environment, "LD_LIBRARY_PATH": LIBDIR})

    output, events = programs.run(os.path.join(EXAMPLE, "chat.py"))
    expect(re.fullmatch(r"'00-4bf92f3577b34da6a3ce929d0e0e4736-\w{16}-01'\n'00-\w{32}-\w{16}-\w\w'\nValueError\('the prompt is empty'\)\n",
                        output), output)
    chats = {event["metadata"]["tenant"]: event for event in events if event["name"] in ("llm.chat.stop", "llm.chat.exception")}
    expect([chats[tenant]["status"] for tenant in ("acme", "globex", "hooli")] == ["ok", "ok", "exception"], chats)
    tools = named(events, "llm.tool.stop")
    expect({tool["parent"] for tool in tools} == {chat["span"] for chat in chats.values()}, tools)


main()
