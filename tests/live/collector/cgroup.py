# SPDX-License-Identifier: Apache-2.0
"""Cgroups for tests."""

import os
import secrets

from waiting import wait_until


def removes(path):
    """Removes a cgroup. Returns whether it is gone. A cgroup that still has a process cannot be removed."""
    try:
        os.rmdir(path)
    except OSError:
        return not os.path.exists(path)
    return True


def mount_points(kind):
    """The mount points of hierarchies of this kind."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        rows = [line.split() for line in mounts]
    return [row[1] for row in rows if row[2] == kind]


class Cgroup:
    """A cgroup with another one inside, which programs are put into. A context manager. If no cgroup can be made, the
    test is skipped."""

    def __init__(self, test, name, inner="inner"):
        points = mount_points("cgroup2")
        if not points:
            test.skipTest("no cgroup2")
        self.name = "%s-%s" % (name, secrets.token_hex(4))  # pids are not unique: each test has a namespace of its own
        self._outer = os.path.join(points[0], self.name)
        self._inner = os.path.join(self._outer, inner)
        try:
            os.makedirs(self._inner)
        except OSError as error:
            test.skipTest("no cgroup can be made: %s" % error)

    @property
    def path(self):
        """Its path, with the slash that a shell's completion appends."""
        return self._outer + "/"

    @property
    def folder(self):
        """The folder of the inner one."""
        return self._inner

    def put(self, pid):
        self._move(pid, self._inner)

    def make_again(self):
        """Moves its processes out, removes it and makes it again, as a restart of a service does."""
        with open(os.path.join(self._inner, "cgroup.procs"), encoding="ascii") as file:
            for pid in file:
                self.take_out(int(pid))
        self.__exit__()
        os.makedirs(self._inner)

    def take_out(self, pid):
        """Moves a process back to the test's own cgroup."""
        with open("/proc/self/cgroup", encoding="utf-8") as own:
            path = next(line.rstrip("\n")[3:] for line in own if line.startswith("0::"))
        self._move(pid, os.path.dirname(self._outer) + path)

    @staticmethod
    def _move(pid, folder):
        with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(pid))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        wait_until(lambda: removes(self._inner) and removes(self._outer), "the cgroup to be empty")
