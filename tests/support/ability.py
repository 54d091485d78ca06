# SPDX-License-Identifier: Apache-2.0
"""What a test needs of the machine that it runs on. Where that is missing it is skipped, with exit status 77; with
CI=true, where everything is there, it fails."""
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
    # BEGIN is a uprobe on bpftrace itself: where this works, ours do.
    tried = subprocess.run(["bpftrace", "-e", "BEGIN { exit(); }"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, check=False)
    if tried.returncode != 0:
        unable("bpftrace cannot trace here: " + tried.stdout.strip())
