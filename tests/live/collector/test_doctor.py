# SPDX-License-Identifier: Apache-2.0
"""nopspan doctor reports everything that prevents an attach, and nothing else."""

import ctypes
import json
import os
import platform
import shutil
import struct
import subprocess

import harness
from contained import Container
from harness import LIBRARY, NOPSPAN, Program, nopspan, program_path


def refuse_system_calls(*numbers):
    """Makes these system calls of this process fail with EPERM, as the seccomp filters of container engines do."""
    def instruction(code, yes, no, value):
        return struct.pack("HBBI", code, yes, no, value)
    program = instruction(0x20, 0, 0, 0)  # load the number of the system call
    for left, number in zip(range(len(numbers), 0, -1), numbers):
        program += instruction(0x15, left, 0, number)  # if it is this number, jump to the last instruction
    program += instruction(0x06, 0, 0, 0x7fff0000) + instruction(0x06, 0, 0, 0x00050000 | 1)
    buffer = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filters, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Doctor(harness.Test):
    def doctor(self, *arguments, command=(), status, **options):
        """The checks, by result and name."""
        done = nopspan("doctor", "--json", *arguments, command=command, **options)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        document = json.loads(done.stdout)
        self.assertEqual(document["would_attach"], status == 0)
        checks = document["checks"]
        for check in checks:
            if check["result"] == "failed":
                self.assertNotEqual(check["advice"], "", check)
        return {result: {c["name"]: c["found"] + ": " + c["advice"] for c in checks if c["result"] == result}
                for result in ("ok", "warning", "failed")}

    def test_an_attach_works_here(self):
        found = self.doctor(status=0)
        for name in ("kernel", "uprobes", "attach", "ring buffer", "nopspan's programs", "lockdown", "BTF",
                     "perf_event_paranoid", "unprivileged_bpf_disabled", "RLIMIT_MEMLOCK", "seccomp", "deleted files"):
            self.assertIn(name, found["ok"])
        self.assertIn(os.uname().release, found["ok"]["kernel"])
        # A warning on kernels with private stacks that preempt BPF programs.
        self.assertIn("private BPF stacks", {**found["ok"], **found["warning"]})

    def test_a_program_with_the_shared_library(self):
        with Program("traced") as program:
            found = self.doctor(program.pid, status=0)
            self.assertIn("12 probe sites", found["ok"]["probes of " + LIBRARY])
            self.assertIn("alone in its page", found["ok"]["gate page of " + LIBRARY])
            self.assertIn("works", found["ok"]["attach to " + LIBRARY])
            self.assertEqual(found["failed"], {})

    def test_trying_raises_no_gate(self):
        with Program("traced") as program:
            words = set()
            doctor = subprocess.Popen([NOPSPAN, "doctor", str(program.pid)], stdout=subprocess.DEVNULL)
            while doctor.poll() is None:
                words.add(program.gate() & harness.GATE_SPANS)
            self.assertEqual(words, {0})

    def test_a_program_in_a_container(self):
        root = os.path.join(self.temporary_folder(), "root")
        with Container(root) as container:
            found = self.doctor(container.host_pid, status=0)
            self.assertIn("another mount namespace", str(found["ok"]["process %d" % container.host_pid]))

    def test_a_program_without_its_notes(self):
        path = os.path.join(self.temporary_folder(), "stripped")
        shutil.copy(program_path("traced_static"), path)
        subprocess.run(["llvm-strip", path], check=True)
        with Program("", command=[path]) as program:
            self.assertIn("--keep-section=.note.stapsdt", self.doctor(program.pid, status=1)["failed"]["probes of " + path])

    def test_a_program_without_the_batch_probe(self):
        path = os.path.join(self.temporary_folder(), "other")
        with open(program_path("traced_static"), "rb") as file:
            program = file.read()
        self.assertEqual(program.count(b"nopspan_batch\0batch\0"), 1)
        with open(path, "wb") as file:
            file.write(program.replace(b"nopspan_batch\0batch\0", b"nopspan_batch\0other\0"))
        os.chmod(path, 0o755)
        with Program("", command=[path]) as program:
            self.assertIn("not the batch probe", self.doctor(program.pid, status=1)["failed"]["probes of " + path])
            listed, traced = nopspan("ps", program.pid), nopspan("trace", "--duration", "100ms", "--pid", program.pid)
        self.assertEqual((listed.returncode, traced.returncode), (0, 1))
        self.assertIn(" 11,no-batch ", listed.stdout)
        self.assertRegex(traced.stderr, "cannot attach to %s.*: it has nopspan probes, but not the batch probe" % path)

    def test_a_program_with_another_nop(self):
        if platform.machine() != "x86_64":
            self.skipTest("there is but one nop here")
        path = os.path.join(self.temporary_folder(), "five")
        shutil.copy(program_path("traced_static"), path)
        with Program("", command=[path]) as program:
            copy = json.loads(nopspan("ps", "--json", program.pid).stdout)["processes"][0]["copies"][0]
            offset = next(p["offset"] for p in copy["probes"] if p["name"] == "retry")
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(b"\x0f\x1f\x44\x00\x00\xc3")
        with Program("", command=[path]) as program:
            self.assertIn("5-byte nop", self.doctor(program.pid, status=1)["failed"]["probes of " + path])

    def test_a_program_with_nopspan_disabled(self):
        with Program("traced", env={"NOPSPAN_DISABLE": "1"}) as program:
            failed = self.doctor(program.pid, status=1)["failed"]
            self.assertIn("NOPSPAN_DISABLE=1", failed["process %d" % program.pid])

    def test_a_program_without_probes(self):
        with Program("plugin_host") as program:
            failed = self.doctor(program.pid, status=1)["failed"]
            self.assertIn("maps no file with nopspan probes", failed["process %d" % program.pid])

    def test_a_library_that_was_replaced(self):
        path = os.path.join(self.temporary_folder(), "libnopspan.so.0.3")
        shutil.copy(LIBRARY, path)
        with Program("traced", env={"LD_LIBRARY_PATH": os.path.dirname(path)}) as program:
            shutil.copy(LIBRARY, path + ".new")
            os.rename(path + ".new", path)
            found = self.doctor(program.pid, status=0)
            self.assertIn("deleted or replaced", found["warning"]["file " + path])
            self.assertIn("works", found["ok"]["attach to " + path])

    def test_a_program_that_has_moved_its_text(self):
        path = program_path("traced_static")
        with Program("traced_static") as program:
            self.assertEqual(program.ask("move_text"), "moved")
            self.assertIn("its text is not mapped from the file",
                          self.doctor(program.pid, status=1)["failed"]["file " + path])
            listed = nopspan("ps", program.pid, check=True)
            traced = nopspan("trace", "--duration", "100ms", "--pid", program.pid)
        self.assertIn(path + " (text moved)", listed.stdout)
        self.assertEqual(traced.returncode, 1)
        self.assertIn("not attached to %s in process %d (traced_static): it has moved its text" % (path, program.pid),
                      traced.stderr)

    def test_several_copies_in_one_process(self):
        with Program("traced_static") as program:
            program.ask("load " + program_path("plugin_static.so"))
            found = self.doctor(program.pid, status=0)
            self.assertIn("2 copies", found["warning"]["process %d" % program.pid])

    def test_in_a_container_whose_filter_refuses_bpf(self):
        numbers = (321, 298) if platform.machine() == "x86_64" else (280, 241)
        failed = self.doctor(preexec_fn=lambda: refuse_system_calls(*numbers), status=1)["failed"]
        self.assertIn("seccomp filter of this container", failed["BPF program"])

    def test_without_sys(self):
        """The kernel's BPF interface needs no file in /sys."""
        hidden = [*harness.own_mounts(), "sh", "-c", 'mount -t tmpfs tmpfs /sys; exec "$@"', "sh"]
        with Program("traced") as program:
            found = self.doctor(program.pid, command=hidden, status=0)
        self.assertIn("not known, because /sys is not mounted", found["warning"]["uprobes"])
        self.assertIn("works", found["ok"]["attach"])

    def test_in_a_user_namespace(self):
        if harness.in_chroot():
            self.skipTest("a program in a chroot may not make a user namespace")
        found = self.doctor(command=["unshare", "--user", "--map-root-user"], status=1)
        self.assertIn("user namespace", found["warning"])
        self.assertIn("on the host", found["failed"]["BPF program"])


if __name__ == "__main__":
    harness.main("unshare", "chroot", "ldd", "llvm-strip")
