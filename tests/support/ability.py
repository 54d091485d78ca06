# SPDX-License-Identifier: Apache-2.0
"""What a test needs from the machine that it runs on. If something is missing, the test is skipped with exit status 77.
With CI=true, where everything must be present, it fails instead."""
import os
import shutil
import subprocess
import sys


def unable(why):
    if os.environ.get("CI") == "true":
        sys.exit(f"failed, because in CI this is never skipped: {why}")
    print(f"skipped: {why}", file=sys.stderr)
    sys.exit(77)


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            unable(f"{tool} is not installed")


def need_bpftrace():
    if os.geteuid() != 0:
        unable("not root: bpftrace needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN")
    need("bpftrace")
    if not os.path.exists("/sys/bus/event_source/devices/uprobe"):
        unable("no uprobes in this kernel (CONFIG_UPROBE_EVENTS, /sys/bus/event_source/devices/uprobe)")
    # BEGIN is a uprobe on bpftrace itself. If this works, uprobes on our programs work too.
    tried = subprocess.run(["bpftrace", "-e", "BEGIN { exit(); }"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, check=False)
    if tried.returncode != 0:
        unable("bpftrace cannot trace here: " + tried.stdout.strip())


def own_mounts(*options):
    """The beginning of a command that runs the rest in a mount namespace, with these options of unshare(1)."""
    command = ["unshare", "--mount"]
    tried = subprocess.run([*command, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if tried.returncode == 0:
        return [*command, *options]
    # If "/" is not a mount (as in a chroot), its propagation cannot change. /sys may still be shared with the machine
    # outside, where nothing must be mounted or unmounted.
    return [*command, "--propagation", "unchanged", *options, "sh", "-c", 'mount --make-rprivate /sys; exec "$@"', "sh"]
