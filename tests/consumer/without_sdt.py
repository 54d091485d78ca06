# SPDX-License-Identifier: Apache-2.0
"""Imitates a machine without <sys/sdt.h>. In the compiler's search path, each folder that contains the header is
replaced by a mirror of links without the header."""
import os
import re
import subprocess
import sys

from surroundings import expect


def search_path(compiler, language):
    done = subprocess.run([compiler, "-v", "-E", "-x", language, os.devnull], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, check=True)
    listed = re.search(r"^#include <\.\.\.> search starts here:\n(.*?)^End of search list", done.stderr, re.M | re.S)
    return [os.path.normpath(line.strip()) for line in listed[1].splitlines()]


def link_all(source, target, without):
    os.makedirs(target)
    for name in os.listdir(source):
        if name not in without:
            os.symlink(os.path.join(source, name), os.path.join(target, name))


def mirror(source, target):
    """Mirrors `source` without sys/sdt.h."""
    link_all(source, target, {"sys"})
    link_all(os.path.join(source, "sys"), os.path.join(target, "sys"), {"sdt.h"})


def flags(compiler, language, folder):
    """Compiler options that hide <sys/sdt.h> from `compiler`. The mirrors are made in `folder`."""
    result = ["-nostdinc"]
    for i, path in enumerate(search_path(compiler, language)):
        # A folder of the search path may be inside another mirrored folder. The order of the path is unchanged.
        if os.path.exists(os.path.join(path, "sys/sdt.h")):
            target = os.path.join(folder, f"{language}-{i}")
            if not os.path.exists(target):
                mirror(path, target)
            path = target
        result += ["-isystem", path]
    found = subprocess.run([compiler, *result, "-E", "-x", language, "-"], input="#include <sys/sdt.h>\n",
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    expect(found.returncode != 0 and "sys/sdt.h" in found.stderr, f"{compiler} still finds <sys/sdt.h>\n{found.stderr}")
    sane = subprocess.run([compiler, *result, "-E", "-x", language, "-"], input="#include <stdlib.h>\n",
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if sane.returncode != 0:
        sys.exit(f"{compiler} finds no headers at all\n{sane.stderr}")
    return " ".join(result)
