# SPDX-License-Identifier: Apache-2.0
"""nopspan ps lists every process with probes, whichever way it has them, with the state of its gate and its tracers."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess

import harness
from harness import GATE_SPANS, LIBRARY, NOPSPAN, PROBES, Bpftrace, Program, nopspan, program_path, text_of, wait_until
from test_record import Record

def gate_of(word):
    """The parts of a gate's word."""
    return {"spans": word & 0xffff, "batch": word >> 16 & 0xffff, "span_handlers": word >> 32 & 0xff,
            "point_handlers": word >> 40 & 0xff, "points": word >> 48}


def tracers(copy):
    """The rows by pid. Other tracers may run on this machine."""
    return {tracer["pid"]: tracer for tracer in copy["tracers"]}


def write_event(text):
    # Python's append mode seeks, which this file does not support.
    subprocess.run(["sh", "-c", 'echo "$1" >> /sys/kernel/tracing/uprobe_events', "sh", text], check=True)


class Tracing(Bpftrace):
    """A bpftrace on one probe of one file."""

    def __init__(self, probe="nopspan:span_stop", library=LIBRARY):
        super().__init__([harness.BPFTRACE, "-e", "usdt:%s:%s { @[pid] = count(); }" % (library, probe)])


class Ps(harness.Test):
    def ps(self, *arguments):
        """The JSON output, by pid."""
        done = nopspan("ps", "--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads(done.stdout)
        return {process["pid"]: process for process in document["processes"]}

    def process(self, pid):
        processes = self.ps(pid)
        self.assertEqual(list(processes), [pid])
        return processes[pid]

    def only_copy(self, pid):
        copies = self.process(pid)["copies"]
        self.assertEqual(len(copies), 1, copies)
        return copies[0]

    def row(self, pid):
        """The cells of the only row for a process."""
        done = nopspan("ps", pid)
        self.assertEqual(done.returncode, 0, done.stderr)
        heading, line = done.stdout.splitlines()
        return dict(zip(heading.split(), re.split(r"\s\s+", line.strip())))

    def assert_gate_of(self, program):
        """The reported gate is the one that the program sees. Other tracers on this machine may come and go."""
        def same():
            return self.only_copy(program.pid)["gate"] == gate_of(program.gate())
        wait_until(same, "the gate to be shown as it is")

    def assert_same_file(self, copy, path):
        status = os.stat(path)
        self.assertEqual((copy["device"], copy["inode"]), (status.st_dev, status.st_ino))

    def test_a_program_with_the_shared_library(self):
        with Program("traced") as program:
            process = self.process(program.pid)
            self.assertEqual(process["namespace_pid"], program.pid)
            self.assertEqual(process["comm"], "traced")
            self.assertEqual(process["executable"], program_path("traced"))
            self.assertIn("0::%s\n" % process["cgroup"], text_of("/proc/%d/cgroup" % program.pid))
            stat = text_of("/proc/%d/stat" % program.pid).rpartition(")")[2].split()
            self.assertEqual(process["start_ticks"], int(stat[19]))
            self.assertEqual(len(process["copies"]), 1)
            copy = process["copies"][0]
            self.assertEqual(copy["path"], LIBRARY)
            self.assertFalse(copy["deleted"])
            self.assert_same_file(copy, LIBRARY)
            with open(os.path.join(harness.SOURCE, "include", "nopspan", "version.h"), encoding="utf-8") as file:
                version = re.findall(r"#define NOPSPAN_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", file.read())
            self.assertEqual(copy["version"], ".".join(version))
            self.assertEqual(copy["abi_version"], 2)
            self.assertEqual([(p["provider"], p["name"]) for p in copy["probes"]],
                             [("nopspan", probe) for probe in PROBES] + [("nopspan_batch", "batch")])
            self.assertEqual({p["nop"] for p in copy["probes"]}, {"1-byte"})
            self.assertTrue(copy["batch"])
            self.assert_gate_of(program)
            self.assertEqual((copy["memory_bytes"], copy["threads"], copy["held_entries"]), (0, 0, 0))
            self.assertEqual(copy["counts"], {})

    def test_the_table_says_the_same(self):
        with Program("traced") as program:
            row = self.row(program.pid)
            self.assertEqual(row["PID"], str(program.pid))
            self.assertEqual(row["NSPID"], "-")
            self.assertEqual(row["COMMAND"], "traced")
            self.assertEqual(row["PROBES"], "11+batch")
            self.assertEqual(row["NOP"], "1-byte")
            self.assertEqual(row["HELD"], "0 B")
            self.assertEqual(row["THREADS"], "0")
            self.assertEqual(row["LIBRARY"], LIBRARY)

    def test_the_service_and_its_version_are_named(self):
        declared = {"OTEL_SERVICE_NAME": "checkout",
                    "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,service.version=1.5.0,team=a%2Cb"}
        with Program("traced", env=declared) as program:
            self.assertEqual(self.row(program.pid)["SERVICE"], "checkout 1.5.0")
            self.assertEqual(self.process(program.pid)["resource"],
                             {"service.name": "checkout", "service.version": "1.5.0", "team": "a,b"})

    def test_all_processes_are_found_without_a_pid(self):
        with Program("traced") as program, Program("traced_static") as static, Program("plugin_host") as without:
            processes = self.ps()
            self.assertEqual(processes[program.pid]["copies"][0]["path"], LIBRARY)
            self.assertEqual(processes[static.pid]["copies"][0]["path"], program_path("traced_static"))
            self.assertNotIn(without.pid, processes)

    def test_a_static_program_and_its_plugin_are_two_copies_with_a_gate_each(self):
        plugin = program_path("plugin_static.so")
        with Program("traced_static") as program:
            self.assertEqual(program.ask("load " + plugin), "loaded")
            with Tracing(library=plugin) as tracing:
                copies = {copy["path"]: copy for copy in self.process(program.pid)["copies"]}
                self.assertEqual(set(copies), {program_path("traced_static"), plugin})
                self.assertEqual(copies[program_path("traced_static")]["gate"]["spans"], 0)
                self.assertNotEqual(copies[plugin]["gate"]["spans"], 0)
                self.assertNotIn(tracing.pid, tracers(copies[program_path("traced_static")]))
                self.assertIn(tracing.pid, tracers(copies[plugin]))
                tracing.stop()

    def test_the_tracer_of_a_program_whose_file_was_deleted(self):
        path = shutil.copy(program_path("traced_static"), self.temporary_folder())
        with Program("", command=[path]) as program:
            with Record(os.path.join(os.path.dirname(path), "recording"), "--pid", program.pid) as record:
                program.wait_for_gate(bool, "the gate to be raised")
                os.remove(path)
                copy = self.only_copy(program.pid)
                self.assertTrue(copy["deleted"])
                self.assertTrue(self.row(program.pid)["LIBRARY"].endswith(" (deleted)"))
                self.assertTrue(tracers(copy)[record.tracer()]["by_name"])
                record.stop()

    def test_a_forked_child_has_a_gate_of_its_own(self):
        with Program("traced") as program:
            with Tracing():
                child = int(program.ask("fork"))
                self.assertNotEqual(self.only_copy(child)["gate"]["spans"], 0)
                self.assertEqual(self.process(child)["comm"], "traced")
            self.assertEqual(self.only_copy(child)["gate"]["spans"], 0)
            program.ask("reap")

    def test_bpftrace_is_named_while_it_is_attached(self):
        with Program("traced") as program:
            with Tracing() as tracing:
                copy = self.only_copy(program.pid)
                self.assertNotEqual(copy["gate"]["spans"], 0)
                tracer = tracers(copy)[tracing.pid]
                self.assertEqual(tracer["kind"], "program")
                self.assertEqual(tracer["comm"], "bpftrace")
                self.assertEqual(tracer["probes"], ["span_stop"])
                self.assertFalse(tracer["by_name"])
                row = self.row(program.pid)
                self.assertIn("spans", row["GATE"].split(","))
                self.assertIn("bpftrace(%d)" % tracing.pid, row["TRACERS"].split(","))
                tracing.stop()
            copy = self.only_copy(program.pid)
            self.assertEqual(copy["gate"]["spans"], 0)
            self.assertNotIn(tracing.pid, tracers(copy))

    def test_a_tracer_of_the_open_file_is_named_too(self):
        """attach.sh passes a file to bpftrace in this way: as a descriptor."""
        with Program("traced") as program, open(LIBRARY, "rb") as library:
            os.set_inheritable(library.fileno(), True)
            script = "usdt:/proc/self/fd/%d:nopspan:span_stop { @ = count(); }" % library.fileno()
            tracer = self.until_interrupted(harness.BPFTRACE, "-e", script, stdout=subprocess.DEVNULL, close_fds=False)
            program.wait_for_gate(lambda gate: gate & GATE_SPANS, "the gate to go up")
            self.assertIn(tracer.pid, tracers(self.only_copy(program.pid)))

    def test_what_batches_take_while_somebody_listens_to_them(self):
        with Program("traced") as program:
            with Tracing("nopspan_batch:batch") as tracing:
                program.ask("begin kept")
                program.ask("span held 3")
                copy = self.only_copy(program.pid)
                self.assertGreater(copy["gate"]["batch"], 0)
                self.assertEqual(tracers(copy)[tracing.pid]["probes"], ["batch"])
                self.assertEqual((copy["threads"], copy["held_entries"]), (1, 3))
                self.assertGreater(copy["memory_bytes"], 0)
                self.assertIn("batch", self.row(program.pid)["GATE"].split(","))
                program.ask("end")
                tracing.stop()

    def test_an_event_of_perf_and_who_may_use_it(self):
        with Program("traced") as program:
            place, = (p for p in self.only_copy(program.pid)["probes"] if p["name"] == "span_stop")
            # Events are machine-wide. Events of another run, or left behind by one, do not count.
            group = "nopspan_test_" + secrets.token_hex(4)
            write_event("p:%s/ps %s:0x%x(0x%x)" % (group, LIBRARY, place["offset"], place["semaphore_offset"]))
            self.addCleanup(write_event, "-:%s/ps" % group)
            perf = self.until_interrupted("perf", "record", "-q", "-B", "-e", group + ":ps", "-a", "-o",
                                          os.path.join(self.temporary_folder(), "data"), stderr=subprocess.DEVNULL)
            program.wait_for_gate(lambda gate: gate & GATE_SPANS, "the gate to go up")
            tracer = tracers(self.only_copy(program.pid))[perf.pid]
            self.assertEqual((tracer["kind"], tracer["name"]), ("perhaps", group + ":ps"))
            self.assertIn("perf(%d)?" % perf.pid, self.row(program.pid)["TRACERS"])

    def test_counts_of_the_library_that_are_not_zero(self):
        with Program("traced") as program:
            with Tracing():
                program.ask("attach not/an/id/of/ours")
                program.ask("span %s 2" % ("x" * 70))
                self.assertEqual(self.only_copy(program.pid)["counts"], {"names_invalid": 1, "truncated": 1})
                self.assertIn("%d counts: names_invalid 1 truncated 1\n" % program.pid, nopspan("ps", program.pid).stdout)
                program.ask("detach")

    def test_a_program_without_its_notes(self):
        path = os.path.join(self.temporary_folder(), "stripped")
        shutil.copy(program_path("traced_static"), path)
        subprocess.run(["llvm-strip", path], check=True)
        with Program("", command=[path]) as program:
            copy = self.only_copy(program.pid)
            self.assertTrue(copy["notes_missing"])
            self.assertEqual(copy["probes"], [])
            self.assertEqual(copy["gate"], gate_of(0), "nobody can attach to it")
            self.assertEqual(self.row(program.pid)["PROBES"], "stripped")

    def test_a_name_that_would_color_the_terminal(self):
        path = os.path.join(self.temporary_folder(), "\x1b[31mred")
        shutil.copy(program_path("traced_static"), path)
        with Program("", command=[path]) as program:
            self.assertNotIn("\x1b", nopspan("ps", program.pid).stdout)
            self.assertEqual(self.process(program.pid)["executable"], path)

    def test_countless_descriptors_end_the_search_for_tracers(self):
        with Program("obstacle") as crowd, Program("traced") as program, Tracing() as tracing:
            self.assertEqual(crowd.ask("share 19000 800"), "800")
            done = json.loads(nopspan("ps", "--json").stdout)
            self.assertIn("no time to look at all of their open files", done["tracers_incomplete"])
            copy, = (process for process in done["processes"] if process["pid"] == program.pid)
            self.assertIn(tracing.pid, tracers(copy["copies"][0]), "it has capabilities")
            checked = nopspan("doctor", program.pid)
            self.assertRegex(checked.stdout, r"(?m)^warning +tracers: .* no time")
            with subprocess.Popen([NOPSPAN, "ps"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as listing:
                folder = "/proc/%d/fd" % listing.pid

                def searches():
                    for name in os.listdir(folder):
                        with contextlib.suppress(FileNotFoundError):  # it has been closed since
                            if os.readlink(os.path.join(folder, name)).endswith("/fd"):
                                return True
                    return False
                wait_until(searches, "it to look at descriptors", pause_s=0.001)
                listing.send_signal(signal.SIGINT)
                self.assertEqual(listing.wait(harness.PATIENCE_S), 0)
            tracing.stop()

    def test_a_process_without_probes_is_no_failure(self):
        done = nopspan("ps", os.getpid())
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertIn("no nopspan probes were found in these processes", done.stderr)
        self.assertEqual(self.ps(os.getpid()), {})

    def test_processes_that_end_while_they_are_looked_at(self):
        stop = os.path.join(self.temporary_folder(), "stop")
        loop = 'while [ ! -e "$1" ]; do "$2" canary x & "$2" canary y; wait; done'
        with subprocess.Popen(["sh", "-c", loop, "sh", stop, program_path("traced_static")]) as churn:
            try:
                for _ in range(20):
                    self.ps()
            finally:
                with open(stop, "w", encoding="ascii"):
                    pass
                churn.wait(harness.PATIENCE_S)


if __name__ == "__main__":
    harness.run_in_tracefs()
    # The kernel's events are machine-wide.
    _perf = harness.hold_lock("/run/lock/nopspan-perf") if os.geteuid() == 0 else None
    harness.main("perf", "llvm-strip")
