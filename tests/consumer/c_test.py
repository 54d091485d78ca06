#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program in C is built against the installed tree without a C++ compiler, and reports what its source says."""
import os
import re

from kinds import pkg_config
from received import build_receiver, run_received
from surroundings import CC, CMAKE, INSTALLED, LIBDIR, SOURCE, expect, fresh, run

SERVICE = os.path.join(SOURCE, "examples", "c", "service.c")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
INPUT = f"acme hello world\nacme\n{TRACEPARENT} globex hi\n"
OUTPUT = "HELLO WORLD\nerror: the prompt is empty\nHI\n"


def compiled(package, *options):
    program = os.path.join(fresh("c", package), "service")
    run([CC, "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", *pkg_config(package, "--cflags"), SERVICE,
         "-o", program, *pkg_config(package, *options, "--libs")])
    return program


def configured():
    """By the example's own project."""
    folder = fresh("c", "cmake")
    # CMake would fail if it looked for a C++ compiler.
    run([CMAKE, "-S", os.path.dirname(SERVICE), "-B", folder, "-G", "Ninja", f"-DCMAKE_C_COMPILER={CC}", f"-DCMAKE_PREFIX_PATH={INSTALLED}"],
        env={**os.environ, "CXX": "/nonexistent/c++"})
    run([CMAKE, "--build", folder])
    return os.path.join(folder, "service")


def check_events(events):
    chats = [event for event in events if event["name"] == "llm.chat.stop"]
    expect([chat["status"] for chat in chats] == ["ok", "error", "ok"], chats)
    expect([chat["metadata"]["tenant"] for chat in chats] == ["acme", "acme", "globex"], chats)
    expect(chats[0]["metadata"]["output_tokens"] == 2 and chats[0]["metadata"]["model"] == "capitals-1", chats)
    expect(chats[2]["trace"] == TRACEPARENT[3:35] and chats[2]["parent"] == TRACEPARENT[36:52], chats)
    children = [event for event in events if event["name"] == "prompt.tokenize.stop"]
    expect([child["parent"] for child in children] == [chat["span"] for chat in chats], children)
    expect([child["measurements"]["tokens"] for child in children] == [2, 0, 1], children)
    counters = [event["measurements"]["answered"] for event in events if event["name"] == "engine.stats"]
    expect(counters == [1, 2, 3], counters)


def main():
    receiver = build_receiver()
    shared = compiled("nopspan")
    expect(re.findall(r"NEEDED.*\[(.*?)\.so", run(["readelf", "-dW", shared])) == ["libnopspan", "libc"], "it needs more libraries")
    for program in (shared, configured()):
        expect(run([program], input=INPUT, env={**os.environ, "LD_LIBRARY_PATH": LIBDIR}) == OUTPUT, f"the output of {program}")
        output, events = run_received(receiver, [program], input=INPUT)
        expect(output == OUTPUT, output)
        check_events(events)
    # The static library is C++, so the runtime of C++ is linked too.
    expect(run([compiled("nopspan-static", "--static")], input=INPUT) == OUTPUT, "the output of the static program")


main()
