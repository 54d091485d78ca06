# SPDX-License-Identifier: Apache-2.0
"""Processes start and end while the collector runs, execute other programs, and load the library late. Each is traced,
exactly once."""

import ctypes
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import time

import harness
from collector import Collector, CollectorTest
from contained import Container
from followed import Followed, children_of
from harness import LIBRARY, NOPSPAN, Program, nopspan, program_path, run, text_of, wait_until
from hostile import NOBODY, as_user
from test_collector_overload import state_of

SPANS = 100
BETWEEN_SIGNALS_S = 0.12  # two signals that are closer count as one
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


def ptrace(request, thread):
    if ctypes.CDLL(None, use_errno=True).ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


class Processes(CollectorTest):
    def test_a_short_lived_process_is_reported_with_its_name(self):
        with Collector() as tracer:
            pids = []
            for _ in range(20):
                process = subprocess.Popen([program_path("traced"), "canary", "short"])
                self.assertEqual(process.wait(harness.PATIENCE_S), 0)
                pids.append(process.pid)
            ledger = tracer.stop()
        self.assert_balanced(ledger)
        names = [tracer.names(pid) for pid in pids]
        self.assertEqual(names, [names[0]] * len(pids))
        self.assertGreater(names[0]["canary"], 0)
        for pid in pids:
            self.assert_nothing_lost(tracer.counts(pid))
            self.assertEqual({row["comm"] for row in tracer.entries(pid)}, {"traced"})
            self.assertEqual(tracer.counts(pid)["comm"], "traced")

    def test_both_sides_of_a_fork_report_their_own_spans(self):
        with Collector() as tracer:
            sides = {line.split()[0]: int(line.split()[1]) for line in run("forker").splitlines()}
            ledger = tracer.stop()
        self.assertEqual(tracer.names(sides["parent"]),
                         {"fork.outer": 1, "fork.before": 1, "fork.parent": SPANS, "fork.parent_root": SPANS})
        self.assertEqual(tracer.names(sides["child"]), {"fork.child": SPANS, "fork.child_root": SPANS})
        self.assert_balanced(ledger)
        for pid in sides.values():
            self.assert_nothing_lost(tracer.counts(pid))

    def test_one_that_gets_the_pid_of_another_misses_nothing(self):
        with Collector() as tracer:
            pid = int(run("reused"))
            ledger = tracer.stop()
        self.assertEqual(tracer.names(pid), {"reused.first": 1, "reused.second": 400})
        self.assert_balanced(ledger)
        rows = [row for row in ledger["processes"] if row["pid"] == pid]
        self.assertEqual(sum(row["emitted"] for row in rows), 401, rows)

    def test_an_attach_that_takes_long_is_said(self):
        why = "attaching took longer than 2 s: what programs emitted before they were attached to is in no count"

        def is_said():
            said, rest, _ = self.attached_long(returns=True)
            if "nopspan: at" in said:
                self.assertIn(why, rest)
            return "nopspan: at" in said
        wait_until(is_said, "the thread to be stopped before it has attached")

    def test_an_attach_that_does_not_return_is_an_error(self):
        wait_until(lambda: self.attached_long(returns=False)[2] == 1, "the thread to be stopped before it has attached")

    def attached_long(self, returns):
        """Stops the thread that attaches. Returns the first lines of stderr, the rest of it, and the exit status."""
        with Program("traced"), subprocess.Popen([NOPSPAN, "record", "/dev/null", "--force"], stdin=subprocess.DEVNULL,
                                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
            self.addCleanup(tracer.kill)
            # The thread that attaches is stopped as soon as it is there.
            process, = wait_until(lambda: children_of(tracer.pid), "the tracing process")
            thread = None
            while thread is None:
                thread = next((int(path.split("/")[4]) for path in glob.glob("/proc/%d/task/*/comm" % process)
                               if text_of(path) == "nopspan-host\n"), None)
            ptrace(PTRACE_SEIZE, thread)
            ptrace(PTRACE_INTERRUPT, thread)
            os.waitpid(thread, 0x40000000)  # __WALL
            said = []
            while "Recording. " not in said[-1:]:
                said.append(tracer.stderr.readline()[:len("Recording. ")])
                self.assertTrue(said[-1], said)
            if returns:
                ptrace(PTRACE_DETACH, thread)
            tracer.send_signal(signal.SIGINT)
            if not returns:
                os.waitpid(thread, 0x40000000)  # the end of the process
            rest = tracer.stderr.read()
            status = tracer.wait(harness.PATIENCE_S)
            self.assertIn(status, (0,) if returns else (0, 1), rest)
            return said, rest, status

    def test_what_a_process_held_is_delivered_when_it_executes_another_program(self):
        with Collector("--max-age", "1h") as tracer:
            with Program("traced") as program:
                program.ask("begin before_exec")
                program.ask("span inside 3")
                self.assertEqual(program.ask("exec"), "ready %d" % program.pid)
                program.ask("span after_exec")
            ledger = tracer.stop()
        self.assertEqual(tracer.names(program.pid), {"inside": 3, "after_exec": 1})
        self.assert_balanced(ledger)
        self.assert_nothing_lost(tracer.counts(program.pid))


class Files(CollectorTest):
    def test_a_library_that_is_loaded_late_is_found(self):
        for plugin, binary in (("plugin_shared", LIBRARY), ("plugin_static", None)):
            with self.subTest(plugin):
                with Collector(binary=binary) as tracer:
                    with Program("plugin_host") as program:
                        program.ask("load " + program_path(plugin + ".so"))
                        tracer.wait_until_it_sees(program, "plugin_span canary")
                        program.ask("plugin_span late")
                    tracer.stop()
                self.assertEqual(tracer.names_but_canaries(program.pid), {"late": 1})
                self.assert_nothing_lost(tracer.counts(program.pid))

    def test_a_static_program_is_found_by_itself_and_when_it_is_named(self):
        for binary in (None, program_path("traced_static")):
            with self.subTest(binary):
                with Collector(binary=binary) as tracer:
                    with Program("traced_static") as program:
                        tracer.wait_until_it_sees(program)
                        program.ask("span static 3")
                    tracer.stop()
                self.assertEqual(tracer.names_but_canaries(program.pid), {"static": 3})

    def test_a_process_that_executes_a_program_in_another_root_maps_the_named_file(self):
        root = self.temporary_folder()
        Container.build_root(root)
        library = os.path.join(root, "usr/local/lib", os.path.basename(LIBRARY))
        command = ["bash", "-c", 'echo ready $$; read -r; exec chroot "$0" /app/traced', root]
        with Program("traced", command=command, env={"LD_LIBRARY_PATH": "/usr/local/lib"}) as program:
            with Collector("--pid", program.pid, binary=library) as tracer:
                self.assertEqual(program.ask("go"), "ready %d" % program.pid)
                tracer.wait_until_it_sees(program)
                program.ask("span later 3")
                tracer.stop()
        self.assertEqual(tracer.names_but_canaries(program.pid), {"later": 3})

    def program_of_its_own(self, folder):
        """(path, program): a static program whose file is nobody else's."""
        path = shutil.copy(program_path("traced_static"), folder)
        return path, lambda: Program("traced_static", command=[path])

    def test_a_program_that_is_written_over_a_traced_one_is_not_changed(self):
        path, start = self.program_of_its_own(self.temporary_folder())
        with open(path, "rb") as file:
            untraced = file.read().replace(b"nopspan_batch\0", b"another_probe\0")
        with Collector(binary=None) as tracer:
            with start() as program:
                tracer.wait_until_it_sees(program)
            with open(path, "r+b") as file:
                file.write(untraced)
            with start() as program:
                with open("/proc/%d/maps" % program.pid, encoding="utf-8") as maps:
                    text = next(line.split() for line in maps if path in line and "r-xp" in line)
                begin, end = (int(address, 16) for address in text[0].split("-"))
                with open("/proc/%d/mem" % program.pid, "rb") as memory:
                    memory.seek(begin)
                    in_memory = memory.read(end - begin)
            offset = int(text[2], 16)
            in_file = untraced[offset:offset + len(in_memory)].ljust(len(in_memory), b"\0")
            self.assertEqual([at for at, byte in enumerate(in_memory) if byte != in_file[at]], [])
            tracer.stop()

    def test_a_process_that_starts_while_its_library_is_open_for_writing_is_named(self):
        folder, env = self.library_of_its_own()
        path = os.path.join(folder, "libnopspan.so.0.3")
        with Collector(binary=None) as tracer:
            with Program("traced", env=env) as before:
                tracer.wait_until_it_sees(before)
                with open(path, "r+b"), Program("traced", env=env) as program:
                    tracer.wait_until_it_says("process %d .* a program opened the file for writing" % program.pid)
            tracer.stop()

    def test_a_file_system_with_a_program_that_was_traced_can_be_unmounted(self):
        folder = self.temporary_folder()
        subprocess.run(["mount", "-t", "tmpfs", "nopspan", folder], check=True)
        try:
            _, start = self.program_of_its_own(folder)
            with Collector(binary=None) as tracer:
                with start() as program:
                    tracer.wait_until_it_sees(program)
                wait_until(lambda: subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode == 0,
                           "the file system to be free")
                tracer.stop()
        finally:
            if os.path.ismount(folder):
                subprocess.run(["umount", "--lazy", folder], check=True)

    def library_of_its_own(self):
        """(folder, environment): a copy of the library that programs load in place of the build's."""
        folder = self.temporary_folder()
        shutil.copy(LIBRARY, os.path.join(folder, "libnopspan.so.0.3"))
        return folder, {"LD_LIBRARY_PATH": folder}

    def test_a_second_signal_during_the_detach_loses_no_result_and_leaves_no_gate_raised(self):
        copies = 400  # the detach takes 0.5 s
        with as_user(NOBODY, program_path("file_churn"), "FOLDER", program_path("sites_1.so"), str(copies)) as program:
            self.assertEqual(program.stdout.readline(), "ready\n")

            def raised():
                program.stdin.write("\n")
                program.stdin.flush()
                return int(program.stdout.readline())

            for pause_s in (BETWEEN_SIGNALS_S, 2 * BETWEEN_SIGNALS_S):
                with Followed([NOPSPAN, "record", "/dev/null", "--force", "--json"]) as recorder:
                    recorder.wait_while_it_runs(lambda: raised() == copies, "the gates to be raised")
                    recorder.process.send_signal(signal.SIGINT)
                    time.sleep(pause_s)
                    self.assertIn(recorder.stop(), (0, 1), recorder.said)  # 1: the tracer still detaches
                    self.assertTrue(json.loads(recorder.lines[-1])["ledger"]["total"]["balanced"])
                wait_until(lambda: raised() == 0, "the tracer to detach")

    def test_a_second_signal_while_the_tracer_is_stopped(self):
        with Program("traced") as program:
            command = [NOPSPAN, "hist", "--json", "--pid", str(program.pid)]
            with Followed(command) as hist:
                hist.wait_until_it_says("Press Ctrl-C")
                tracer, = children_of(hist.process.pid)
                os.kill(tracer, signal.SIGSTOP)
                hist.process.send_signal(signal.SIGINT)
                time.sleep(BETWEEN_SIGNALS_S)
                hist.process.send_signal(signal.SIGINT)
                self.assertEqual(hist.process.wait(harness.PATIENCE_S), 1)
                os.kill(tracer, signal.SIGCONT)
                hist.end()
            self.assertIn("kill -CONT %d lets it end" % tracer, "\n".join(hist.said))
            self.assertIn("ledger", json.loads("\n".join(hist.lines)))
            program.wait_for_gate(lambda gate: gate == 0, "the tracer to detach")

    def test_a_second_signal_after_the_tracer_has_ended_loses_no_result(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        with Program("traced") as program, open(writer, "wb") as full:  # so that the command waits at its end
            os.write(writer, b"\n" * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096))
            with subprocess.Popen([NOPSPAN, "record", "/dev/null", "--force", "--json", "--pid", str(program.pid)],
                                  stdout=subprocess.PIPE, stderr=full) as recorder:
                program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
                recorder.send_signal(signal.SIGINT)
                result = json.loads(recorder.stdout.readline())
                wait_until(lambda: not children_of(recorder.pid), "the tracer to end")
                time.sleep(BETWEEN_SIGNALS_S)
                recorder.send_signal(signal.SIGINT)
            self.assertEqual(recorder.returncode, 0)
        self.assertTrue(result["ledger"]["total"]["balanced"])


class TwoProcesses(CollectorTest):
    COMMANDS = (["record", "/dev/null", "--force"], ["trace", "--incomplete"], ["hist"], ["top", "--plain"])

    def test_a_tracer_that_is_killed_is_a_counted_end(self):
        started = []
        for command in self.COMMANDS:
            program = self.enterContext(Program("traced"))
            followed = self.enterContext(Followed([NOPSPAN, *command, "--pid", str(program.pid), "--max-age", "50ms"]))
            program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
            for _ in range(3):
                program.ask("thread_span seen")
            started.append((program, followed))
        time.sleep(1)  # not all of them show when they have received the spans
        for program, followed in started:
            with self.subTest(followed.command_line):
                os.kill(followed.tracer(), signal.SIGKILL)
                self.assertEqual(followed.end(), 1)
                program.wait_for_gate(lambda gate: gate == 0, "the gate to fall")
                said = "\n".join(followed.said)
                self.assertIn("the tracing process was killed (Killed)", said)
                self.assertIn(" 3 delivered", said)
                self.assertIn("there is no end", said)

    def test_a_tracer_whose_command_is_killed_detaches(self):
        for command in self.COMMANDS:
            with self.subTest(command), Program("traced") as program:
                with Followed([NOPSPAN, *command, "--pid", str(program.pid)]) as followed:
                    program.wait_for_gate(lambda gate: gate != 0, "the gate to be raised")
                    followed.kill()
                program.wait_for_gate(lambda gate: gate == 0, "the gate to fall")

    def test_a_signal_before_the_start_attaches_to_nothing(self):
        for command in self.COMMANDS:
            with self.subTest(command), Program("traced") as program:
                with Followed([NOPSPAN, *command, "--pid", str(program.pid)]) as followed:
                    tracer = wait_until(followed.tracer, "the tracing process")
                    os.kill(tracer, signal.SIGSTOP)
                    followed.process.send_signal(signal.SIGINT)
                    os.kill(tracer, signal.SIGCONT)
                    program.ask("span unseen 5")
                    self.assertEqual(followed.end(), 0, followed.said)
                self.assertIn("\n0 entries from 0 processes", "\n" + "\n".join(followed.said))


class MainThreadEnded(CollectorTest):
    """main() calls pthread_exit(), and other threads go on."""

    def leave(self, program):
        self.assertEqual(program.ask("leave"), "left")
        wait_until(lambda: state_of(program.pid) == "Z", "the end of the main thread")

    def check(self, program, tracer, name):
        """Spans that are flushed, and one that is fetched or read at the thread's end."""
        program.ask("thread_span %s" % name)
        program.ask("span %s 2" % name)
        tracer.wait_for_names(program.pid, {name: 3})

    def test_processes_are_traced_after_that(self):
        for options in ([], ["--pid"]):
            with self.subTest(options=options), Program("traced") as before, Program("traced") as program:
                self.leave(before)
                options = options and ["--pid", before.pid, "--pid", program.pid]
                with Collector("--max-age", "200ms", *options) as tracer, Program("traced") as other:
                    self.check(before, tracer, "gone")
                    self.check(program, tracer, "first")
                    self.leave(program)
                    other.ask("span other")
                    # It answers at its ticks, so meanwhile it looks at the processes again.
                    for _ in range(30):
                        tracer.ledger_now()
                    self.check(program, tracer, "then")
                    # Another thread than the main one executes a program, which gets the pid.
                    self.assertEqual(program.ask("exec"), "ready %d" % program.pid)
                    tracer.wait_until_it_sees(program)
                    self.check(program, tracer, "replaced")
                    ledger = tracer.stop()
                for each, names in ((before, {"gone": 3}), (program, {"first": 3, "then": 3, "replaced": 3})):
                    self.assertEqual(tracer.names_but_canaries(each.pid), names)
                    self.assert_nothing_lost(tracer.counts(each.pid))
                    comms = {row["comm"] for row in tracer.entries(each.pid) if row["name"] != "canary"}
                    self.assertEqual(comms, {"traced"} if each is before else {"traced", "exe"})
                self.assert_balanced(ledger)
                self.assertEqual(bool(tracer.names(other.pid)), not options)

    def test_commands_find_it(self):
        with Program("traced", env={"NOPSPAN_KEEP_OPEN": "1", "OTEL_SERVICE_NAME": "left"}) as program:
            self.leave(program)
            program.ask("begin asked")

            def run_on_it(*command):
                return nopspan(*command, program.pid, check=True).stdout
            process, = json.loads(run_on_it("ps", "--json"))["processes"]
            self.assertEqual((process["comm"], process["executable"]), ("traced", program_path("traced")))
            self.assertEqual(process["copies"][0]["path"], LIBRARY)
            self.assertIn("its main thread has ended", run_on_it("doctor"))
            self.assertIn("asked", run_on_it("open", "--pid"))


if __name__ == "__main__":
    harness.main()
