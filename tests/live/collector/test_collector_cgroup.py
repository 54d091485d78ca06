# SPDX-License-Identifier: Apache-2.0
"""--cgroup of nopspan record and trace: exactly the processes in a cgroup and in the cgroups below it."""

import json
import os
import threading
import time

import harness
import recording
from cgroup import Cgroup, mount_points
from collector import Collector, CollectorTest
from waiting import wait_until
from harness import LIBRARY, Counting, Program, nopspan
from test_collector_overload import standing_still
from test_record import Record
from test_trace import Trace, spans_of


class CgroupOption(CollectorTest):
    def setUp(self):
        # The programs must end before the cgroup is removed.
        self.group = self.enterContext(Cgroup(self, "nopspan-collector"))
        self.inside, self.outside = (self.enterContext(Program("traced")) for _ in range(2))
        self.group.put(self.inside.pid)

    def make_spans(self):
        for _ in range(10):  # the first spans show where a process is
            self.inside.ask("span cgroup.inside 5")
            self.outside.ask("span cgroup.outside 6")

    def test_of_record(self):
        path = os.path.join(self.temporary_folder(), "spans.rec")
        with Record(path, "--binary", LIBRARY, "--cgroup", self.group.path):
            self.make_spans()
        lines = [json.loads(line) for line in nopspan("replay", path, "--spans").stdout.splitlines()]
        self.assertEqual([line["name"] for line in lines], ["cgroup.inside"] * 50)
        ledger = recording.ledger(path)
        self.assert_balanced(ledger)
        # Other processes of the host may have a row too.
        delivered = {row["pid"]: row["delivered"] for row in ledger["processes"] if row["delivered"] > 0}
        self.assertEqual(delivered, {self.inside.pid: 50})

    def test_trace_shows_the_spans_there_and_with_peers_the_whole_requests(self):
        with Trace("--json", "--cgroup", self.group.name) as narrow, \
                Trace("--json", "--cgroup", self.group.name, "--with-peers") as wide:
            for program in (self.inside, self.outside):
                # One request that both programs share, and one for each program.
                for request, name in ((os.getpid(), "both"), (program.pid, "alone")):
                    program.ask("attach order-%d" % request)
                    program.ask("span cgroup.%s 2" % name)
                    program.ask("detach")
        for trace, pids in (narrow, (self.inside.pid,)), (wide, (self.inside.pid, self.outside.pid)):
            found = trace.traces(self.inside.pid, self.outside.pid)
            spans = sorted(sorted((span.pid, span.name) for span in spans_of(one).values()) for one in found)
            both = sorted((pid, "cgroup.both") for pid in pids for _ in range(2))
            self.assertEqual(spans, sorted([both, [(self.inside.pid, "cgroup.alone")] * 2]))

    def test_follows_a_program_that_is_moved(self):
        with Collector("--cgroup", self.group.name) as tracer:
            self.make_spans()
            tracer.wait_for_names(self.inside.pid, {"cgroup.inside": 45})  # by then the collector knows where both are
            self.group.put(self.outside.pid)
            self.outside.ask("span cgroup.moved 7")
            tracer.wait_for_names(self.outside.pid, {"cgroup.moved": 7})
            self.make_spans()
            ledger = tracer.stop()
        names = tracer.names(self.outside.pid)
        self.assertEqual(names["cgroup.moved"], 7)
        self.assertGreaterEqual(names["cgroup.outside"], 60)  # and the entries that it still held from before the move
        self.assertEqual(tracer.names(self.inside.pid), {"cgroup.inside": 100})
        self.assert_balanced(ledger)
        for program in (self.inside, self.outside):
            self.assert_nothing_lost(tracer.counts(program.pid))

    def collector(self, *options):
        tracer = self.enterContext(Collector("--cgroup", self.group.name, *options))
        self.make_spans()
        wait_until(lambda: tracer.ledger_now()["total"]["delivered"] >= 45, "spans of a program in it")
        return tracer

    def assert_filtered(self, tracer, pid, delivered, filtered):
        self.assert_balanced(tracer.ledger())
        counts = tracer.counts(pid)
        self.assert_nothing_lost(counts)
        self.assertEqual((counts["delivered"], counts["filtered"]), (delivered, filtered), counts)

    def test_what_a_program_emits_elsewhere_is_filtered(self):
        for options in ((), ("--slower-than", "0ms", "--max-age", "20ms")):
            with self.subTest(options):
                tracer = self.collector(*options)
                with Program("traced") as program:
                    self.group.put(program.pid)
                    for _ in range(5):
                        program.ask("thread_span cgroup.inside")
                    self.group.take_out(program.pid)
                    for _ in range(7):
                        program.ask("thread_span cgroup.elsewhere")
                    self.group.put(program.pid)
                    program.ask("thread_span cgroup.back")
                    self.group.take_out(program.pid)
                    program.ask("span cgroup.elsewhere 9")
                tracer.stop()
                self.assertEqual(tracer.names(program.pid), {"cgroup.inside": 5, "cgroup.back": 1})
                self.assert_filtered(tracer, program.pid, 6, 16)

    def test_every_entry_of_a_program_moved_to_and_fro_is_accounted_for(self):
        tracer = self.collector("--count", "--max-age", "20ms")
        with Counting(self.temporary_folder(), threads=3, pause_us=100) as program:
            self.group.put(program.pid)
            program.ask("start")
            for _ in range(20):
                for move in (self.group.take_out, self.group.put):
                    until = program.entries() + 500
                    wait_until(lambda until=until: program.entries() > until, "some hundred spans")
                    move(program.pid)
            entries = int(program.ask("stop"))
        tracer.stop()
        counts = tracer.counts(program.pid)
        self.assertGreater(counts["delivered"], 1000)
        self.assertGreater(counts["filtered"], 1000)
        self.assert_filtered(tracer, program.pid, counts["delivered"], entries - counts["delivered"])

    def test_what_it_holds_elsewhere_is_not_fetched(self):
        tracer = self.collector("--max-age", "20ms")
        with Program("traced") as program:
            self.group.put(program.pid)
            program.ask("begin cgroup.open")
            program.ask("span cgroup.inside 5")
            tracer.wait_for_names(program.pid, {"cgroup.inside": 5})
            self.group.take_out(program.pid)
            program.ask("span cgroup.elsewhere 9")
            # Meanwhile, the entries that a thread outside holds are fetched.
            self.inside.ask("begin cgroup.open")
            self.inside.ask("span cgroup.fetched")
            tracer.wait_for_names(self.inside.pid, {"cgroup.fetched": 1})
            self.inside.ask("end")
            program.ask("end")
        tracer.stop()
        self.assertEqual(tracer.names(program.pid), {"cgroup.inside": 5})
        self.assert_filtered(tracer, program.pid, 5, 10)

    def test_a_program_that_moved_or_ended_early_is_filtered_by_where_it_was(self):
        for has_ended in (False, True):
            with self.subTest(has_ended=has_ended):
                tracer = self.collector()
                with Program("traced") as program:
                    self.group.put(program.pid)
                    with standing_still(tracer.tracer()):
                        for _ in range(30):
                            program.ask("thread_span cgroup.early")
                        self.group.take_out(program.pid)
                        for _ in range(10):
                            program.ask("thread_span cgroup.elsewhere")
                        if has_ended:
                            program.__exit__(None)
                    tracer.wait_for_names(program.pid, {"cgroup.early": 30})
                tracer.stop()
                self.assertEqual(tracer.names(program.pid), {"cgroup.early": 30})
                self.assert_filtered(tracer, program.pid, 30, 10)

    def test_what_a_program_emitted_before_it_was_put_there_is_filtered(self):
        for options in ((), ("--name", "cgroup.inside")):
            with self.subTest(options):
                tracer = self.collector(*options)
                with Program("traced") as program:
                    with standing_still(tracer.tracer()):
                        for _ in range(30):
                            program.ask("thread_span cgroup.outside")
                    program.ask("span cgroup.outside 3000")
                    self.group.put(program.pid)
                    program.ask("span cgroup.inside 5")
                tracer.stop()
                names = tracer.names(program.pid)
                self.assertEqual(names["cgroup.inside"], 5)
                self.assertEqual(tracer.counts(program.pid)["emitted"], 3035)
                # Entries that it held when it was moved were flushed there.
                self.assert_filtered(tracer, program.pid, sum(names.values()), 3035 - sum(names.values()))

    def test_one_that_is_made_again_under_its_path_is_the_same(self):
        tracer = self.collector()
        with Program("traced") as program:
            for _ in range(5):
                self.group.make_again()
                self.group.put(program.pid)
                for _ in range(20):
                    program.ask("thread_span cgroup.again")
                    time.sleep(0.005)
        tracer.stop()
        delivered = tracer.names(program.pid)["cgroup.again"]
        # The first span of each restart wakes the collector, or if it was just awake, a poll of 50 ms ends.
        self.assertGreater(delivered, 60)
        self.assert_filtered(tracer, program.pid, delivered, 100 - delivered)

    def test_one_that_vanishes_while_it_is_looked_up_is_not_there(self):
        is_over = threading.Event()

        def come_and_go():
            while not is_over.is_set():
                self.group.make_again()

        tracer = self.collector()
        self.group.take_out(self.inside.pid)
        restarts = threading.Thread(target=come_and_go)
        restarts.start()
        try:
            time.sleep(1)  # 4 lookups
        finally:
            is_over.set()
            restarts.join()
        tracer.stop()
        self.assert_balanced(tracer.ledger())

    def test_what_a_program_holds_is_fetched_when_it_was_put_there(self):
        tracer = self.collector("--max-age", "20ms")
        self.outside.ask("begin cgroup.open")
        self.group.put(self.outside.pid)
        self.outside.ask("span cgroup.held 5")
        tracer.wait_for_names(self.outside.pid, {"cgroup.held": 5})
        self.outside.ask("end")
        tracer.stop()
        self.assert_balanced(tracer.ledger())
        self.assert_nothing_lost(tracer.counts(self.outside.pid))


class Version1(harness.Test):
    def test_is_refused(self):
        points = mount_points("cgroup")
        if not points:
            self.skipTest("no hierarchy of cgroup v1 is mounted")
        for command in ("top", "trace", "hist"):
            for path in (points[0], points[0] + "/x", points[0].removeprefix("/sys/fs/cgroup")):
                with self.subTest(command=command, path=path):
                    done = nopspan(command, "--cgroup", path)
                    self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                    self.assertIn("is in a hierarchy of cgroup v1", done.stderr)

    def test_fails_clearly_if_version_2_is_not_mounted(self):
        hidden = 'umount -l %s; exec "$@"' % " ".join(mount_points("cgroup2"))
        done = nopspan("trace", "--cgroup", "any", command=[*harness.own_mounts(), "sh", "-c", hidden, "sh"])
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertIn("--cgroup needs cgroup v2, which is not mounted", done.stderr)


class OthersComeAndGo(CollectorTest):
    def test_a_container_is_found_beside_cgroups_that_come_and_go(self):
        group = self.enterContext(Cgroup(self, "nopspan-churn"))
        outer = os.path.dirname(group.path)
        container = os.path.join(outer, "docker-%08x%056x.scope" % (os.getpid(), 0xc0ffee))
        folders = [os.path.join(outer, "stays-%d" % i) for i in range(50)] + [container]
        for folder in folders:
            os.mkdir(folder)
            self.addCleanup(os.rmdir, folder)
        is_over = threading.Event()

        def come_and_go():
            while not is_over.is_set():
                os.makedirs(os.path.join(outer, "comes", "goes"))
                os.removedirs(os.path.join(outer, "comes", "goes"))

        others = threading.Thread(target=come_and_go)
        others.start()
        try:
            for _ in range(10):
                done = nopspan("trace", "--cgroup", "%08x0" % os.getpid(), "--duration", "1ms")
                self.assertEqual(done.returncode, 0, done.stderr)
        finally:
            is_over.set()
            others.join()


class NoCgroup(harness.Test):
    def test_is_refused_by_every_command(self):
        path = os.path.join(self.temporary_folder(), "spans.rec")
        for command in (["top"], ["trace"], ["hist"], ["record", path]):
            for cgroup, reported in (("nosuch", "nosuch"), ("/no/such", "/no/such"), ("/sys/fs/cgroup/nosuch", "/nosuch")):
                with self.subTest(command=command, cgroup=cgroup):
                    done = nopspan(*command, "--cgroup", cgroup)
                    self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                    self.assertIn('no cgroup "%s"' % reported, done.stderr)
                    self.assertIn("nopspan ps", done.stderr)
        self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    harness.main("protoc")
