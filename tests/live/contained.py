# SPDX-License-Identifier: Apache-2.0
"""A traced program in a container, with its own copies of all files."""

import os
import re
import shutil
import subprocess

import harness
from followed import children_of
from harness import LIBRARY, Program, program_path


class Container(Program):
    """`traced` in its own mount and pid namespaces, with a root folder that has copies of all its files."""

    def __init__(self, root):
        self.build_root(root)
        super().__init__("traced", command=[
            *harness.own_mounts("--pid", "--fork", "--kill-child", "--mount-proc=" + os.path.join(root, "proc")),
            "chroot", root, "/app/traced"], env={"LD_LIBRARY_PATH": "/usr/local/lib"})
        self.host_pid = children_of(self.process.pid)[0]

    @staticmethod
    def build_root(root):
        for folder in ("app", "proc", "usr/local/lib"):
            os.makedirs(os.path.join(root, folder))
        shutil.copy(program_path("traced"), os.path.join(root, "app"))
        shutil.copy(LIBRARY, os.path.join(root, "usr/local/lib", os.path.basename(LIBRARY)))
        needed = subprocess.run(["ldd", program_path("traced")], check=True, stdout=subprocess.PIPE, text=True).stdout
        for path in re.findall(r"(/\S+) \(0x", needed):
            if "libnopspan" not in path:
                target = root + path
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy(path, target)
