# SPDX-License-Identifier: Apache-2.0
"""A Debian in a folder, from the mirror that this machine's apt uses. Needs root and debootstrap."""

import glob
import hashlib
import os
import subprocess
import sys

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or "/var/cache", "nopspan-tests")


def mirror():
    """The URL from which this machine's apt gets Debian, in whichever format its sources are written."""
    listed = subprocess.run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)",
                             "Created-By: Packages"], check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in listed.splitlines():
        origin, label, component, uri = line.split("|")
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return uri
    raise AssertionError("apt has no source of Debian, or was never updated: apt-get update")


def bootstrap(suite, packages, tree):
    """Installs a bare Debian with these packages into a folder, which it replaces."""
    print("fetching Debian %s with %s" % (suite, " ".join(packages)), file=sys.stderr, flush=True)
    # A killed run may have left the kernel's file systems mounted in the folder.
    subprocess.run(["rm", "-rf", "--one-file-system", tree], check=False)
    done = subprocess.run(["debootstrap", "--variant=minbase", "--include=" + ",".join(packages), suite, tree, mirror()],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, "debootstrap failed: " + done.stdout[-2000:]
    for archive in glob.glob(os.path.join(tree, "var/cache/apt/archives/*.deb")):
        os.remove(archive)


def bare(suite, packages):
    """The tree of a suite with these packages. It is made once and kept."""
    key = hashlib.sha256(" ".join([suite, *sorted(packages)]).encode()).hexdigest()[:12]
    tree = os.path.join(CACHE, "bare-%s-%s" % (suite, key))
    if not os.path.exists(tree):
        os.makedirs(CACHE, exist_ok=True)
        bootstrap(suite, packages, tree + ".new")
        os.rename(tree + ".new", tree)
    return tree


def with_apt(suite, packages, backports=False):
    """The same, but apt installs the packages, because debootstrap cannot resolve all dependencies. `backports`: those
    that the suite's backports have come from there."""
    key = hashlib.sha256(" ".join([suite, str(backports), *sorted(packages)]).encode()).hexdigest()[:12]
    tree = os.path.join(CACHE, "apt-%s-%s" % (suite, key))
    if os.path.exists(tree):
        return tree
    os.makedirs(CACHE, exist_ok=True)
    new = tree + ".new"
    bootstrap(suite, ["ca-certificates"], new)
    target = []
    if backports:
        target = ["--target-release", suite + "-backports"]
        with open(new + "/etc/apt/sources.list.d/backports.list", "w", encoding="ascii") as file:
            file.write("deb %s %s-backports main\n" % (mirror(), suite))
    with open("/etc/resolv.conf", encoding="utf-8") as here, open(new + "/etc/resolv.conf", "w", encoding="utf-8") as there:
        there.write(here.read())
    for command in (["-o", "Acquire::Check-Valid-Until=false", "update"],  # a mirror may be older than the clock says
                    ["install", "--yes", "--no-install-recommends", *target, *packages]):
        done = subprocess.run(["chroot", new, "/usr/bin/env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *command],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, "apt-get failed: " + done.stdout[-2000:]
    subprocess.run(["chroot", new, "apt-get", "clean"], check=True)
    os.rename(new, tree)
    return tree
