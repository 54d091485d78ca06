#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shellcheck accepts all shell scripts, with and without the suffix .sh."""
import subprocess
import sys

import surroundings


def is_shell_script(path):
    with open(surroundings.SOURCE / path, "rb") as file:
        first = file.readline()
    return first.startswith(b"#!") and first.split(b"/")[-1].split()[-1] in (b"sh", b"bash", b"dash")


def main():
    scripts = [str(path) for path in surroundings.tree() if path.suffix == ".sh" or is_shell_script(path)]
    if not any(path.startswith("scripts/") for path in scripts):
        sys.exit(f"scripts/ has no shell scripts: {scripts}")
    surroundings.need("shellcheck")
    print("\n".join(scripts))
    sys.exit(subprocess.run(["shellcheck", "--external-sources", *scripts], cwd=surroundings.SOURCE, check=False).returncode)


main()
