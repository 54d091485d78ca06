# SPDX-License-Identifier: Apache-2.0
"""What a program emits: runs it with receiver.cpp."""
import json
import os

from kinds import pkg_config
from surroundings import CXX, HERE, LIBDIR, fresh, run


def build_receiver():
    library = os.path.join(fresh("receiver"), "receiver.so")
    run([CXX, "-std=c++17", "-shared", "-fPIC", os.path.join(HERE, "receiver.cpp"), "-o", library,
         *pkg_config("nopspan", "--cflags", "--libs"), f"-Wl,-rpath,{LIBDIR}"])
    return library


def run_received(receiver, command, **options):
    """(output, the events that the command emitted)"""
    file = os.path.join(os.path.dirname(receiver), "events")
    if os.path.exists(file):
        os.remove(file)
    environment = {**os.environ, "LD_LIBRARY_PATH": LIBDIR, "LD_PRELOAD": receiver, "RECEIVED": file}
    output = run(command, env={**environment, **options.pop("env", {})}, **options)
    with open(file, encoding="utf-8") as events:
        return output, [json.loads(line) for line in events]
