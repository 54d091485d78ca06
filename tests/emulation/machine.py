# SPDX-License-Identifier: Apache-2.0
"""A machine with another kernel: a Debian suite with a choice of packages, booted in emulation (KVM is not needed).

    machine = Machine("bookworm", ["linux-image-amd64", "libstdc++6"])
    run = machine.boot("uname -r; cp FILE /results", {"/usr/local/bin/tool": "build/tool"})
    run.status, run.output, run.result("FILE")

The first use of a suite with its packages takes minutes, because it downloads them from where this machine's apt gets
Debian. They are kept in ${XDG_CACHE_HOME:-/var/cache}/nopspan-tests. Delete that folder to get newer packages.
"""

import fcntl
import glob
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import ability
import debian

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DISK_BYTES = 4 << 30
RESULTS_BYTES = 64 << 20
# A boot takes 20 s on a busy machine. These limits make a machine that hangs fail its test.
BOOT_PATIENCE_S = 300
SCRIPT_PATIENCE_S = 300

# The first process, on the first disk. The second disk has a tar archive of the script and its files. The third
# receives the archive of results, which keeps messages of the kernel on the console out of it.
START = """#!/bin/sh
tar -xf /dev/vdb -C /
exec bash /first-process
"""
FIRST_PROCESS = """
export PATH=%s HOME=/root LANG=C.UTF-8
trap 'sync; echo o > /proc/sysrq-trigger; sleep 60' EXIT
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
mount -t tmpfs tmp /tmp
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
mkdir /results
cd /root
timeout --signal=KILL %d bash /script > /results/output 2>&1 < /dev/null
echo $? > /results/status
dmesg > /results/kernel
tar -cf /dev/vdc -C /results .
"""

def need_long():
    """For tests that take minutes: skips unless long tests are requested, and then calls need()."""
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    need()


def need():
    """Skips unless this machine has everything that an emulated one needs."""
    if platform.machine() != "x86_64":
        ability.unable("emulation here is of x86-64 only")
    if os.geteuid() != 0:
        ability.unable("not root: debootstrap needs it")
    ability.need("debootstrap", "qemu-system-x86_64", "mke2fs", "apt-get")


def by_version(path):
    return [int(number) for number in re.findall(r"\d+", path)]


class Run:
    """The outcome of a script: its exit status, its output, the kernel's log, and the files that it left in
    /results."""

    def __init__(self, archive, console):
        self.console = console
        self.files = {}
        try:
            with tarfile.open(archive) as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    self.files[member.name.removeprefix("./")] = tar.extractfile(member).read()
        except tarfile.ReadError as error:
            raise AssertionError("the machine left no results: " + console[-4000:]) from error
        if "status" not in self.files:  # the disk is still empty, without even the end of an archive
            raise AssertionError("the machine went down before it left results: " + console[-4000:])
        self.status = int(self.files["status"])
        self.output = self.result("output")
        self.kernel = self.result("kernel")

    def result(self, name):
        return self.files[name].decode("utf-8", "replace")


class Machine:
    """A suite with packages: a file tree to build in, and a disk to boot from."""

    def __init__(self, suite, packages, kernel="vmlinuz-*"):
        self.suite = suite
        self.packages = sorted({*packages, "iproute2", "kmod"})
        key = hashlib.sha256("\n".join([suite, *self.packages, START]).encode()).hexdigest()[:12]
        self.folder = os.path.join(debian.CACHE, "%s-%s" % (suite, key))
        self.tree = os.path.join(self.folder, "tree")
        self.disk = os.path.join(self.folder, "disk")
        os.makedirs(self.folder, exist_ok=True)
        # One test at a time, because inside() puts files into the tree.
        self.lock = open(os.path.join(self.folder, "lock"), "w", encoding="ascii")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.placed = os.path.join(self.folder, "placed")
        self._take_away()
        if not os.path.exists(self.disk):
            self._make()
        kernels = sorted(glob.glob(os.path.join(self.tree, "boot", kernel)), key=by_version)
        assert kernels, "no kernel %s in %s: name its package" % (kernel, self.tree)
        self.kernel = kernels[-1]
        self.release = os.path.basename(self.kernel).removeprefix("vmlinuz-")

    def close(self):
        self.lock.close()

    def _make(self):
        debian.bootstrap(self.suite, self.packages, self.tree)
        with open(os.path.join(self.tree, "usr/local/sbin/nopspan-start"), "w", encoding="utf-8") as file:
            file.write(START)
        os.chmod(file.name, 0o755)
        with open(self.disk + ".new", "wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", self.tree, self.disk + ".new"], check=True)
        os.rename(self.disk + ".new", self.disk)

    def _take_away(self):
        """Removes the files that inside() has put into the tree, also in a run that was killed."""
        if os.path.exists(self.placed):
            with open(self.placed, encoding="utf-8") as file:
                for path in file.read().splitlines():
                    if os.path.isdir(path):
                        shutil.rmtree(path)
                    elif os.path.lexists(path):
                        os.remove(path)
            os.remove(self.placed)

    def inside(self, command, files=None, results=()):
        """Runs a command in the tree, natively, in a folder that contains only these files and is removed afterwards.
        Returns the exit status, the output, and the named results: {name: bytes}."""
        folder = tempfile.mkdtemp(dir=os.path.join(self.tree, "tmp"))
        targets = {self.tree + path: source for path, source in (files or {}).items()}
        assert not any(map(os.path.lexists, targets)), "a file of the suite's own would be replaced: %s" % list(targets)
        with open(self.placed, "w", encoding="utf-8") as file:
            file.write("\n".join([folder, *targets]))
        try:
            for target, source in targets.items():
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy(source, target)
            done = subprocess.run(
                ["chroot", self.tree, "/usr/bin/env", "-i", "PATH=" + PATH, "HOME=/root", "LANG=C.UTF-8",
                 "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", folder.removeprefix(self.tree), *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            found = {}
            for name in results:
                if os.path.exists(os.path.join(folder, name)):
                    with open(os.path.join(folder, name), "rb") as file:
                        found[name] = file.read()
            return done.returncode, done.stdout, found
        finally:
            self._take_away()

    def boot(self, script, files=None, patience_s=SCRIPT_PATIENCE_S, kernel_options=""):
        """Boots a copy of the disk with these files ({path there: path here, or bytes}) and these options of the
        kernel, runs a bash script as root, and powers off. Returns the Run. A script that takes too long is killed,
        with status 137."""
        first = FIRST_PROCESS % (PATH, patience_s)
        files = {**(files or {}), "/script": script.encode(), "/first-process": first.encode()}
        with tempfile.TemporaryDirectory() as folder:
            sent, received = os.path.join(folder, "sent"), os.path.join(folder, "received")
            with tarfile.open(sent, "w") as tar:
                for path, source in files.items():
                    if isinstance(source, bytes):
                        entry = tarfile.TarInfo(path.lstrip("/"))
                        entry.size, entry.mode = len(source), 0o755
                        tar.addfile(entry, io.BytesIO(source))
                    else:
                        tar.add(os.path.realpath(source), path.lstrip("/"))
            with open(received, "wb") as file:
                file.truncate(RESULTS_BYTES)
            initrd = self.kernel.replace("vmlinuz-", "initrd.img-")
            disks = []
            for path, options in ((self.disk, ",snapshot=on"), (sent, ",read-only=on"), (received, "")):
                disks += ["-drive", "file=%s,if=virtio,format=raw%s" % (path, options)]
            console = subprocess.run(
                ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-kernel",
                 self.kernel, "-initrd", initrd, *disks, "-nographic", "-no-reboot", "-nic", "none", "-append",
                 "console=ttyS0 root=/dev/vda rw init=/usr/local/sbin/nopspan-start panic=-1 quiet " + kernel_options],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=BOOT_PATIENCE_S + patience_s, env={**os.environ, "TMPDIR": folder}, check=False).stdout
            return Run(received, console.decode("utf-8", "replace"))
