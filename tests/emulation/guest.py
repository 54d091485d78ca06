# SPDX-License-Identifier: Apache-2.0
"""The collector of this build on other kernels. It runs with programs/traced on machines with several Debian suites."""

import contextlib
import os
import re
import subprocess
import sys
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, folder) for folder in ("live", "support")]
import ability
import harness
import machine

PROGRAMS = {"/opt/nopspan": harness.NOPSPAN, "/opt/traced": os.path.join(harness.PROGRAMS, "traced_static")}

# Each suite has its own kernel: 5.10, 6.1, 6.12, and the newest.
SUITES = ("bullseye", "bookworm", "trixie", "sid")

# The beginning of each script. The programs are this machine's and use its libraries, because a suite's own libraries
# may be older.
SHELL = """
loaded="/opt/lib/ld-linux-x86-64.so.2 --library-path /opt/lib"
# begin [WRAPPER]: starts a program that takes commands (programs/commands.h). $pid is its pid in its pid namespace, and
# $program what was started.
begin() {
  mkfifo in out
  "$@" $loaded /opt/traced <in >out &
  program=$!
  exec 3>in 4<out
  read -r -u 4 _ pid
}
send() {
  echo "$1" >&3
  read -r -u 4 _
}
# collect OPTIONS: starts the collector in the background as $collector. The file `said` has its stderr.
collect() {
  $loaded /opt/nopspan --json "$@" 2>said &
  collector=$!
}
# until_it COMMAND: repeats the command until it succeeds. Fails if the collector ends before.
until_it() {
  until "$@"; do
    kill -0 $collector || { cat said; exit 1; }
    sleep 0.1
  done
}
is_traced() {
  $loaded /opt/nopspan ps --json $pid | grep -qE '"(batch|spans)": [1-9]'
}
# record RESULT OPTIONS: records to /tmp/RESULT.rec. Returns when the program's gate is raised.
record() {
  local result=$1
  shift
  collect record --force --binary /opt/traced "$@" /tmp/$result.rec >/results/$result
  until_it is_traced
}
# Ends the collector, and then the program.
end() {
  kill -INT $collector
  wait $collector || { cat said; exit 1; }
  exec 3>&- 4<&-
  rm in out
  wait
}
"""


def with_libraries(programs):
    """The files that a machine needs to run these programs: the programs and the libraries that they load."""
    files = dict(programs)
    for program in programs.values():
        for line in subprocess.check_output(["ldd", program], text=True).splitlines():
            library = re.search(r"(/\S+\.so\S*)", line)
            if library:
                files["/opt/lib/" + os.path.basename(library[1])] = library[1]
    return files


class GuestTest(unittest.TestCase):
    def run_in(self, suite, script, packages=(), programs=None, **options):
        """Runs SHELL and a script on a machine with further packages and programs. Returns the machine.Run, after
        checking the exit status and the kernel's log."""
        with contextlib.closing(machine.Machine(suite, ["linux-image-amd64", *packages])) as computer:
            print(suite, computer.release, file=sys.stderr, flush=True)
            run = computer.boot(SHELL + script, with_libraries({**PROGRAMS, **(programs or {})}), **options)
        self.assertEqual(run.status, 0, run.output + run.kernel[-2000:])
        self.assertNotRegex(run.kernel, "BUG:|WARNING:|Oops")
        return run


def main():
    """Runs the tests of the calling file, if this machine can."""
    machine.need_long()
    for program in PROGRAMS.values():
        if not os.path.exists(program):
            ability.unable("not built: " + program)
    unittest.main()
