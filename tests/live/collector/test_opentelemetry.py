# SPDX-License-Identifier: Apache-2.0
"""nopspan behind the API of opentelemetry-cpp: what `nopspan export` sends of a tree of spans equals what the SDK sends of
it, field by field. With an SDK that is installed before or after nopspan, and without one. In two versions of the API.

Runs only with NOPSPAN_LONG=1, because the first run downloads two Debians, which have these versions of the SDK. The
library and the programs of tests/opentelemetry are built and run there, and the collector attaches to them from outside.
"""

import json
import os
import shutil
import subprocess
import sys

import debian
import harness
from harness import LONG, SOURCE, Test
from otlp_receiver import HttpReceiver, Received
from test_export import Export
from waiting import wait_until

sys.path.append(os.path.join(SOURCE, "tests", "mutants"))
from table import MUTANTS

PACKAGES = ["g++", "cmake", "ninja-build", "pkg-config", "systemtap-sdt-dev", "nlohmann-json3-dev", "opentelemetry-cpp-dev"]
SOURCES, BUILT = "/nopspan/source", "/nopspan/build"
CONFIGURE = ["cmake", "-S", SOURCES + "/tests/opentelemetry", "-B", BUILT, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
             "-DNOPSPAN_USDT=ON", "-DNOPSPAN_RECORDING=OFF", "-DCMAKE_UNITY_BUILD=ON"]
COUNT = 1000
# The clocks of the SDK and of nopspan are read one after the other, and the program may be preempted in between.
MOST_APART_NS = 100_000

# The differences between the two exports, apart from the resource. docs/opentelemetry.md lists them.
OWN_ATTRIBUTES = ("thread.id",)
OWN_PREFIX = "nopspan."


class Tree:
    """A program in a Debian. `lines` of its output are read one by one."""

    def __init__(self, tree, abi, *arguments):
        command = ["chroot", tree, "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "NOPSPAN_CAPTURE_CONTENT=1",
                   "%s/tree_%d" % (BUILT, abi), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self):
        return self.process.stdout.readline().rstrip("\n")

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


class AnyExport(Export):
    """nopspan export of the library in a Debian."""

    def __init__(self, http, tree):
        super().__init__(http, binary=os.path.realpath(tree + BUILT + "/nopspan/libnopspan.so"))
        self.tree = tree

    def wait_until_up(self):
        self.wait_until_it_says("Exporting to")

        def sees():
            canary = Tree(self.tree, 2, 1, 1, "alone")
            canary.go_on()
            assert (canary.read(), canary.read(), canary.end()) == ("ready", "done", 0)
            return self.received.bodies
        self.wait_while_it_runs(sees, "nopspan export to attach")


def value_of(any_value):
    """The type is part of a value, because 1 and 1.0 and True are equal in Python. The SDK writes null for an empty list."""
    (kind, value), = any_value.items()
    if kind == "arrayValue":
        return [value_of(one) for one in (value or {}).get("values", [])]
    return kind, int(value) if kind == "intValue" else value


def attributes_of(message):
    return {one["key"]: value_of(one["value"]) for one in message.get("attributes", [])}


def event_of(event):
    return event["name"], int(event["timeUnixNano"]), attributes_of(event)


def link_of(link):
    """Without the link's attributes, which nopspan has not, and its flags, which the SDK has not."""
    return link["traceId"], link["spanId"], link.get("traceState", "")


def scope_of(scope, schema_url):
    """A tracer without a name has nopspan's scope."""
    found = scope.get("name", ""), scope.get("version", ""), schema_url
    return ("", "", "") if found[0] == "nopspan" else found


def span_of(span, scope, schema_url):
    status = span.get("status", {})
    attributes = {key: value for key, value in attributes_of(span).items()
                  if key not in OWN_ATTRIBUTES and not key.startswith(OWN_PREFIX)}
    return {"trace": span["traceId"], "span": span["spanId"], "parent": span.get("parentSpanId", ""), "name": span["name"],
            "kind": span["kind"], "state": span.get("traceState", ""), "attributes": attributes,
            "events": [event_of(event) for event in span.get("events", [])],
            "links": [link_of(link) for link in span.get("links", [])], "flags": span.get("flags", 0) & 1,
            "status": (status.get("code", 0), status.get("message", "")),
            "dropped": [span.get("dropped%sCount" % what, 0) for what in ("Attributes", "Events", "Links")],
            "scope": scope_of(scope or {}, schema_url),
            "start": int(span["startTimeUnixNano"]), "end": int(span["endTimeUnixNano"])}


def spans_in(bodies, pid=None):
    """{span id: span} of requests in JSON."""
    found = {}
    for body in bodies:
        for resource in json.loads(body).get("resourceSpans", []):
            if pid is not None and attributes_of(resource["resource"])["process.pid"] != ("intValue", pid):
                continue
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    found[span["spanId"]] = span_of(span, scope.get("scope", {}), scope.get("schemaUrl", ""))
    return found


class Equal(Test):
    """What both export. The subclasses have a version of opentelemetry-cpp."""

    suite, backports = None, False

    @classmethod
    def setUpClass(cls):
        cls.tree = debian.with_apt(cls.suite, PACKAGES, cls.backports)
        cls.lock = harness.hold_lock(cls.tree + ".lock")
        shutil.rmtree(cls.tree + SOURCES, ignore_errors=True)
        shutil.copytree(SOURCE, cls.tree + SOURCES, ignore=shutil.ignore_patterns("build", ".git"))
        cls.build(*CONFIGURE)
        cls.build("ninja", "-C", BUILT)

    @classmethod
    def build(cls, *command):
        done = subprocess.run(["chroot", cls.tree, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                               "LANG=C.UTF-8", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        assert done.returncode == 0, done.stdout[-4000:]

    def run_tree(self, mode, abi=1, seed=7):
        """(what the SDK exports, what nopspan exports)."""
        self.maxDiff = None
        sdk, ours = Received(keeps=True), Received(keeps=True)
        with HttpReceiver(sdk) as of_sdk, HttpReceiver(ours) as of_ours:
            with AnyExport(of_ours, self.tree) as export:
                url = [of_sdk.url + "/v1/traces"] if mode != "alone" else []
                tree = Tree(self.tree, abi, seed, COUNT, mode, *url)
                self.assertEqual(tree.read(), "ready")
                tree.go_on()
                self.assertEqual(tree.read(), "done")
                wait_until(lambda: len(spans_in(ours.bodies, tree.process.pid)) == COUNT, "all spans from nopspan",
                           seen=lambda: len(spans_in(ours.bodies, tree.process.pid)))
                if mode != "alone":
                    wait_until(lambda: len(spans_in(sdk.bodies)) == COUNT, "all spans from the SDK")
                self.assertEqual(tree.end(), 0)
                export.stop()
        return spans_in(sdk.bodies), spans_in(ours.bodies, tree.process.pid)

    def compare_times(self, pairs):
        apart = sorted(abs(a - b) for a, b in pairs)
        print("%s: times are %d ns apart at the median, %d at most" % (type(self).__name__, apart[len(apart) // 2], apart[-1]),
              file=sys.stderr)
        self.assertLess(apart[len(apart) * 95 // 100], MOST_APART_NS)

    def compare(self, sdk, ours):
        self.assertEqual(set(sdk), set(ours))
        pairs = []
        for number, theirs in sdk.items():
            mine = ours[number]
            pairs += [(theirs.pop("start"), mine.pop("start")), (theirs.pop("end"), mine.pop("end"))]
            events = [one.pop("events") for one in (theirs, mine)]
            self.assertEqual(sorted((name, sorted(map(str, attributes.items()))) for name, _, attributes in events[0]),
                             sorted((name, sorted(map(str, attributes.items()))) for name, _, attributes in events[1]))
            pairs += list(zip(sorted(time for _, time, _ in events[0]), sorted(time for _, time, _ in events[1])))
            self.assertEqual(theirs, mine)
        self.compare_times(pairs)

    def test_with_an_sdk(self):
        sdk, ours = self.run_tree("sdk")
        self.compare(sdk, ours)

    def test_with_an_sdk_that_is_installed_later(self):
        sdk, ours = self.run_tree("late", seed=8)
        self.compare(sdk, ours)

    @staticmethod
    def by_name(spans):
        """The spans with names in the place of ids and times."""
        names = {number: span["name"] for number, span in spans.items()}

        def named(number):
            return names.get(number, number)
        return {span["name"]: {**{key: span[key] for key in ("kind", "attributes", "status", "scope", "dropped", "state")},
                               "parent": named(span["parent"]),
                               "links": sorted((named(link[1]), *link[2:]) for link in span["links"]),
                               "events": sorted((name, sorted(map(str, attributes.items())))
                                                for name, _, attributes in span["events"])}
                for span in spans.values()}

    def test_without_an_sdk(self):
        """The same seed makes the same tree, with other ids."""
        sdk, _ = self.run_tree("sdk", seed=9)
        _, ours = self.run_tree("alone", seed=9)
        theirs, mine = self.by_name(sdk), self.by_name(ours)
        self.assertEqual(set(theirs), set(mine))
        for name, span in theirs.items():
            self.assertEqual(span, mine[name])

    def test_the_second_abi(self):
        """It has links that are added later. The SDK of Debian has not."""
        _, ours = self.run_tree("alone", abi=2)
        self.assertEqual(len({span["name"] for span in ours.values()}), COUNT)
        ids = set(ours)
        self.assertGreater(sum(span["parent"] in ids for span in ours.values()), COUNT // 2)
        self.assertGreater(sum(len(span["links"]) for span in ours.values()), 0)

    def in_tree(self, *command):
        done = subprocess.run(["chroot", self.tree, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        return done.returncode, done.stdout

    def test_calls_reach_handlers_and_an_sdk(self):
        for program in ("calls_1", "calls_2", "calls_no_rtti_1", "calls_no_rtti_2"):
            self.assertEqual(self.in_tree("%s/%s" % (BUILT, program)), (0, "passed\n"))

    def is_found(self, mutant):
        """Whether a check of calls.cpp fails with this mutant of tests/mutants."""
        path = os.path.join(self.tree + SOURCES, mutant.file)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace(mutant.old, mutant.new))
            self.build("ninja", "-C", BUILT, "calls_1", "calls_2")
            return any(self.in_tree("%s/%s" % (BUILT, program))[0] != 0 for program in ("calls_1", "calls_2"))
        finally:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    def test_calls_find_each_mutant(self):
        if self.has_enabled:
            self.skipTest("one version is enough")
        mutants = [mutant for mutant in MUTANTS if mutant.tests == "opentelemetry"]
        self.addCleanup(self.build, "ninja", "-C", BUILT)
        self.assertEqual([mutant.behaviour for mutant in mutants if not self.is_found(mutant)], [])
        self.assertGreater(len(mutants), 10)

    def test_a_plug_in_stays_loaded(self):
        self.assertIn("NODELETE", self.in_tree("readelf", "--dynamic", BUILT + "/libplug_in.so")[1])

    def test_an_untraced_process_passes_on_the_context_of_its_caller(self):
        for abi in (1, 2):
            hops = Tree(self.tree, abi)
            found = dict(hops.read().split() for _ in range(6))
            caller = found.pop("caller")
            none = found.pop("alone")
            self.assertEqual(set(none), {"0", "-"})
            self.assertEqual(found.pop("root"), none)
            self.assertEqual(found, {"explicit": caller, "inner": caller, "innermost": caller})
            hops.process.stdin.close()
            hops.process.stdout.close()
            hops.process.wait()

    def test_a_tracer_is_enabled_when_somebody_attaches(self):
        if not self.has_enabled:
            self.skipTest("this version has no Tracer::Enabled()")
        hops = Tree(self.tree, 2)
        self.assertEqual([hops.read() for _ in range(7)][-1], "enabled 0")
        received = Received(keeps=True)
        with HttpReceiver(received) as http, AnyExport(http, self.tree):
            hops.go_on()
            self.assertEqual(hops.read(), "enabled 1")
        self.assertEqual(hops.end(), 0)


class Backports(Equal):
    """1.19."""

    suite, backports, has_enabled = "bookworm", True, False


class Sid(Equal):
    """1.28 or later."""

    suite, has_enabled = "sid", True


del Equal  # only its subclasses are run


if __name__ == "__main__":
    if not LONG:
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    harness.main("debootstrap", "chroot")
