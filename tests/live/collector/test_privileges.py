# SPDX-License-Identifier: Apache-2.0
"""The capabilities that the program needs, and that it keeps none but these. If any one is removed, the function that
needs it must fail with a clear error. The capabilities in packaging/nopspan.service are sufficient. On kernels with
uprobe_multi (6.6), nothing needs CAP_SYS_ADMIN."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import unittest

import harness
from followed import Followed, children_of
from harness import LIBRARY, NOPSPAN, PATIENCE_S, Program, nopspan, program_path, status_of, wait_until

UNIT = os.path.join(harness.SOURCE, "packaging", "nopspan.service")
NOBODY = "65534"
GATE_BATCH = 0xFFFF << 16
LIVE = (["trace"], ["hist"], ["top", "--json"], ["record", "-"])


def kernel():
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups()))


HAS_UPROBE_MULTI = kernel() >= (6, 6)
# The capabilities that a function needs. On older kernels attaching may need CAP_SYS_ADMIN, which includes CAP_BPF and
# CAP_PERFMON.
TRACING = {"bpf", "perfmon", "sys_ptrace"} if HAS_UPROBE_MULTI else {"bpf", "perfmon", "sys_ptrace", "sys_admin"}
# What root keeps, and what the processes keep that read other processes.
KEPT = TRACING | {"dac_read_search", "checkpoint_restore", "lease"}
READER = {"sys_ptrace", "dac_read_search", "checkpoint_restore"}
NUMBERS = {1: "dac_override", 2: "dac_read_search", 3: "fowner", 19: "sys_ptrace", 21: "sys_admin", 28: "lease", 38: "perfmon",
           39: "bpf", 40: "checkpoint_restore"}


def capability_names(hexadecimal):
    value = int(hexadecimal, 16)
    return {NUMBERS.get(bit, bit) for bit in range(value.bit_length()) if value >> bit & 1}


def family(pid):
    """{name: status} of a process and its children, and theirs."""
    status = status_of(pid)
    return {status["Name"]: status} | {name: each for child in children_of(pid) for name, each in family(child).items()}


def unit_capabilities():
    with open(UNIT, encoding="utf-8") as file:
        listed = re.search(r"(?m)^CapabilityBoundingSet=(.*)", file.read())[1]
    return {name.removeprefix("CAP_").lower() for name in listed.split()}


def with_capabilities(capabilities, command):
    """The command as user nobody, with exactly these capabilities."""
    sets = "-all" + "".join(",+" + name for name in sorted(capabilities))
    return ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs", "--bounding-set", sets,
            "--inh-caps", sets, "--ambient-caps", sets, *command]


class Privileges(harness.Test):
    def setUp(self):
        # In a folder that user nobody can enter, unlike the build tree.
        self.folder = self.temporary_folder()
        os.chmod(self.folder, 0o755)
        self.nopspan = shutil.copy(NOPSPAN, self.folder)
        self.libraries = os.path.join(self.folder, "libraries")
        os.mkdir(self.libraries)
        self.library = shutil.copy(LIBRARY, self.libraries)
        shutil.copy(program_path("traced"), self.folder)

    def traced(self):
        """A program of root, with a library of its own."""
        return Program("traced", command=[os.path.join(self.folder, "traced")], env={"LD_LIBRARY_PATH": self.libraries})

    def start(self, capabilities, *words):
        return subprocess.Popen(with_capabilities(capabilities, [self.nopspan, *words]), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", cwd="/")

    def run_nopspan(self, capabilities, *words):
        """Runs a command that ends by itself. Returns (exit status, stdout, stderr)."""
        with self.start(capabilities, *words) as process:
            out, errors = process.communicate(timeout=PATIENCE_S)
            return process.returncode, out, errors

    def names_seen(self, program, capabilities):
        """Runs `trace` while a program makes traces. Returns the names of the spans in the first three traces."""
        with self.start(capabilities, "trace", "--json", "--pid", str(program.pid), "--limit", "3", "--max-age", "100ms") as process:
            def ended():
                program.ask("span privileged")
                return process.poll() is not None
            try:
                wait_until(ended, "the collector to see three traces")
                out, errors = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        self.assertEqual(process.returncode, 0, errors)
        traces = [row for row in map(json.loads, out.splitlines()) if row["type"] == "trace"]
        return [span["name"] for trace in traces for span in trace["spans"]]

    def assert_seen(self, capabilities):
        with self.traced() as program:
            self.assertEqual(self.names_seen(program, capabilities), ["privileged"] * 3)

    def refusal(self, capabilities, *words):
        """The error of a command that ends because it lacks a privilege."""
        status, out, errors = self.run_nopspan(capabilities, *words)
        self.assertEqual((status, out), (1, ""), errors)
        return errors

    def warning(self, capabilities, *words):
        """The first line on stderr of a command that runs until it is ended."""
        with self.start(capabilities, *words) as process:
            said = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
        return said

    def test_what_tracing_needs_is_enough(self):
        self.assert_seen(TRACING)

    def test_what_the_unit_gives_is_enough(self):
        self.assert_seen(unit_capabilities())

    def test_the_unit_gives_nothing_that_no_function_here_is_tested_with(self):
        self.assertEqual(unit_capabilities() - {"sys_admin"},
                         {"bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore", "lease"})

    def test_loading_needs_bpf_and_perfmon(self):
        for missing in ("bpf", "perfmon"):
            for command in LIVE:
                with self.subTest(command=command, missing=missing):
                    said = self.refusal(TRACING - {missing, "sys_admin"}, *command)
                    self.assertIn("CAP_BPF and CAP_PERFMON", said)
                    self.assertIn("nopspan doctor", said)

    @unittest.skipIf(HAS_UPROBE_MULTI, "this kernel has uprobe_multi")
    def test_attaching_needs_sys_admin_where_it_is_by_perf_events(self):
        with self.traced() as program:
            said = self.warning({"bpf", "perfmon", "sys_ptrace"}, "trace", "--pid", str(program.pid))
            if program.gate() & GATE_BATCH:
                self.skipTest("this kernel lets CAP_PERFMON attach")
            self.assertIn("CAP_SYS_ADMIN", said)

    def test_other_users_processes_need_sys_ptrace(self):
        for command in LIVE:
            with self.traced() as program, self.subTest(command=command):
                self.assertIn("without CAP_SYS_PTRACE, only the processes of this user are traced",
                              self.warning(TRACING - {"sys_ptrace"}, *command))
                self.assertEqual(program.gate(), 0)
                status, out, errors = self.run_nopspan(TRACING - {"sys_ptrace"}, "ps", str(program.pid))
                self.assertEqual(out, "", status)
                self.assertIn("needs CAP_SYS_PTRACE", errors)

    def test_own_processes_need_no_sys_ptrace(self):
        command = with_capabilities(set(), [os.path.join(self.folder, "traced")])
        with Program("traced", command=command, env={"LD_LIBRARY_PATH": self.libraries}) as program:
            self.assertIn("traced", self.run_nopspan(set(), "ps", str(program.pid))[1])

    def test_a_library_in_a_closed_folder_needs_dac_read_search(self):
        os.chmod(self.libraries, stat.S_IRWXU)
        with self.traced() as program:
            self.assertEqual(self.names_seen(program, TRACING | {"dac_read_search"}), ["privileged"] * 3)
            self.assertIn("not examined: process %d" % program.pid,
                          self.run_nopspan(TRACING - {"sys_admin"}, "ps", str(program.pid))[2])

    def test_a_library_that_was_replaced_needs_checkpoint_restore(self):
        without = TRACING - {"sys_admin"} | {"dac_read_search"}  # /proc/PID/map_files is a closed folder
        with self.traced() as program:
            newer = shutil.copy(self.library, self.library + ".new")
            os.rename(newer, self.library)
            self.assertIn("CAP_CHECKPOINT_RESTORE", self.run_nopspan(without, "ps", str(program.pid))[2])
            self.assertEqual(self.names_seen(program, TRACING | without | {"checkpoint_restore"}), ["privileged"] * 3)

    def test_doctor_names_what_is_missing(self):
        for missing, check in (("bpf", "BPF program"), ("perfmon", "BPF program"), ("sys_ptrace", "other users' processes"),
                               ("checkpoint_restore", "deleted files"), ("sys_admin", "tracers")):
            with self.subTest(missing=missing):
                status, out, errors = self.run_nopspan(KEPT - {missing, "sys_admin"}, "doctor", "--json")
                advice = next(each["advice"] for each in json.loads(out)["checks"] if each["name"] == check)
                self.assertIn("CAP_" + missing.upper(), advice)
                if missing in ("bpf", "perfmon", "sys_ptrace"):
                    self.assertEqual(status, 1, errors)

    def test_ps_needs_sys_admin_to_list_tracers(self):
        with self.traced() as program, Followed([NOPSPAN, "trace", "--pid", str(program.pid)]) as tracer:
            def listed(capabilities):
                return self.run_nopspan(capabilities, "ps", str(program.pid))
            name = "nopspan-tracer(%d)" % tracer.wait_while_it_runs(tracer.tracer, "the tracing process")
            wait_until(lambda: name in listed(KEPT | {"sys_admin"})[1], "ps to list the tracer")
            errors = listed(KEPT - {"sys_admin"})[2]
            self.assertEqual(tracer.stop(), 0)
        self.assertIn("CAP_SYS_ADMIN", errors)

    def test_open_needs_sys_ptrace_for_other_users_processes(self):
        with self.traced() as program:
            self.assertIn("its requests are not recorded", self.run_nopspan({"sys_ptrace"}, "open", "--pid", str(program.pid))[2])
            self.assertIn("needs CAP_SYS_PTRACE", self.run_nopspan(set(), "open", "--pid", str(program.pid))[2])

    def test_watching_open_spans_needs_what_tracing_needs(self):
        with self.traced() as program:
            with self.start(TRACING, "open", "--watch", "--pid", str(program.pid)) as process:
                try:
                    wait_until(lambda: program.gate() & GATE_BATCH, "the gate to go up")
                finally:
                    process.send_signal(signal.SIGINT)
                    process.communicate(timeout=PATIENCE_S)
            self.assertIn("cannot attach", self.run_nopspan({"sys_ptrace"}, "open", "--watch", "--count", "1", "--pid",
                                                            str(program.pid))[2])

    def test_root_keeps_what_tracing_needs(self):
        for command in (*LIVE, ["open", "--watch"]):
            with self.subTest(command=command), \
                    subprocess.Popen([NOPSPAN, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL) as process:
                try:
                    wait_until(lambda: "nopspan-reader" in family(process.pid), "the reader to start")
                    wait_until(lambda: family(process.pid)["nopspan-reader"]["Seccomp_filters"] == "2",
                               "the reader to limit itself")
                    kept = {"nopspan": set(), "nopspan-tracer": KEPT}
                    for name, status in family(process.pid).items():
                        for key in ("CapEff", "CapPrm"):
                            self.assertEqual(capability_names(status[key]), kept.get(name, READER), name)
                        for key in ("CapInh", "CapBnd", "CapAmb"):
                            self.assertEqual(capability_names(status[key]), set(), name)
                        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), name)
                finally:
                    process.send_signal(signal.SIGINT)

    def test_root_keeps_nothing_to_read_a_recording(self):
        for command in (["replay", "-"], ["top", "--from", "-"], ["trace", "--from", "-"], ["hist", "--from", "-"]):
            with self.subTest(command=command), \
                    subprocess.Popen([NOPSPAN, *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL) as process:
                wait_until(lambda: status_of(process.pid)["Seccomp"] == "2", "the command to limit itself")
                status = status_of(process.pid)
                self.assertEqual([capability_names(status["Cap" + each]) for each in ("Eff", "Prm", "Bnd")], [set()] * 3)
                process.stdin.close()
                process.wait(PATIENCE_S)

    def test_root_writes_into_a_folder_of_another_user(self):
        home = os.path.join(self.folder, "home")
        os.mkdir(home, 0o700)
        path, metrics = os.path.join(home, "spans.rec"), os.path.join(home, "nopspan.prom")
        os.chown(home, int(NOBODY), int(NOBODY))
        with self.traced() as program:
            with Followed([NOPSPAN, "record", path, "--pid", str(program.pid), "--max-size", "64K", "--metrics", metrics,
                           "--max-age", "100ms"]) as recorder:
                recorder.wait_until_it_says("Recording\\.")
                self.assertEqual(capability_names(status_of(recorder.pid)["CapEff"]), {"dac_override"})
                self.assertEqual(capability_names(status_of(recorder.tracer())["CapEff"]), KEPT)

                def rotated():
                    program.ask("span recorded 500")
                    return os.path.exists(path + ".1")
                wait_until(rotated, "the recorder to begin another file")
                self.assertEqual(recorder.stop(), 0)
        for each in (path, path + ".1", metrics):
            self.assertGreater(os.path.getsize(each), 0)
        # Also a recording that nobody else may read.
        os.chown(path, int(NOBODY), int(NOBODY))
        self.assertEqual(nopspan("replay", path).returncode, 0)

    def test_root_sends_to_a_socket_in_a_folder_of_another_user(self):
        home = os.path.join(self.folder, "home")
        os.mkdir(home, 0o700)
        address = os.path.join(home, "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            for path in (home, address):
                os.chown(path, int(NOBODY), int(NOBODY))
            with Followed([NOPSPAN, "record", "unix:" + address]) as recorder:
                recorder.wait_until_it_says("Recording\\.")
                listener.settimeout(PATIENCE_S)
                with listener.accept()[0] as sent:
                    self.assertNotEqual(sent.recv(1), b"")
                    recorder.process.send_signal(signal.SIGINT)
                    while sent.recv(1 << 16):
                        pass
                self.assertEqual(recorder.end(), 0)


if __name__ == "__main__":
    harness.main("setpriv")
