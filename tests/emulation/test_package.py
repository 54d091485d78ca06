# SPDX-License-Identifier: Apache-2.0
"""The Debian packages on a machine that has nothing but Debian and what they say they depend on: they install, the
program sees a program of the library's spans, and the systemd unit records them. With NOPSPAN_LONG=1 only: it builds the
packages, and boots Debian 12 in emulation.

By hand: NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/emulation/test_package.py -v
"""
import glob
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(SOURCE, "tests", "support"))
import ability
import machine

BUILD = os.path.abspath(os.environ.get("NOPSPAN_BUILD_DIR", os.path.join(SOURCE, "build", "dev")))
PACKAGES = ("libnopspan0", "libnopspan-dev", "nopspan")
# Beside what the packages depend on: a kernel, what an operator's host has, and a compiler for libnopspan-dev.
DEBIAN = ("linux-image-amd64", "systemd-sysv", "g++", "pkg-config", "man-db", "bash-completion", "jq", "util-linux")

TRACED = b"""
#include <nopspan/span.h>
#include <unistd.h>
int main() {
  for (;;) {
    { nopspan::Span span{"packaged.span"}; }
    usleep(1000);
  }
}
"""
# Where a command fails, the script ends, and its last line tells which one it was.
HEAD = """set -euxo pipefail
apt-get() { echo "nothing is fetched here" >&2; return 1; }
dpkg -i /packages/libnopspan0.deb /packages/libnopspan-dev.deb /packages/nopspan.deb
g++ -std=c++17 -O2 /packages/traced.cpp $(pkg-config --cflags --libs nopspan) -o /usr/local/bin/traced
# Somebody else's program.
setpriv --reuid 4711 --regid 4711 --clear-groups /usr/local/bin/traced > /dev/null 2>&1 &
"""


def build_packages():
    """{name: path} of the packages, made as a user makes them."""
    folder = os.path.join(BUILD, "packages")
    commands = (["cmake", "-S", SOURCE, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                 "-DCMAKE_INSTALL_PREFIX=/usr", "-DNOPSPAN_TESTS=OFF", "-DNOPSPAN_BENCH=OFF", "-DNOPSPAN_EXAMPLES=OFF"],
                ["cmake", "--build", folder],
                ["cpack", "-G", "DEB", "--config", os.path.join(folder, "CPackConfig.cmake"), "-B", folder])
    for path in glob.glob(os.path.join(folder, "*.deb")):
        os.remove(path)
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError("%s:\n%s" % (" ".join(command), done.stdout[-4000:]))
    return {name: glob.glob(os.path.join(folder, name + "_*.deb"))[0] for name in PACKAGES}


def field(package, name):
    return subprocess.run(["dpkg-deb", "-f", package, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.packages = build_packages()
        depends = ", ".join(field(path, "Depends") for path in cls.packages.values())
        needed = set(re.findall(r"(?:^|, )([a-z0-9.+-]+)", depends)) - set(PACKAGES)
        cls.machine = machine.Machine("bookworm", [*DEBIAN, *needed])
        cls.addClassCleanup(cls.machine.close)

    def boot(self, script):
        files = {"/packages/%s.deb" % name: path for name, path in self.packages.items()}
        run = self.machine.boot(HEAD + script, {**files, "/packages/traced.cpp": TRACED}, systemd=True)
        self.assertEqual(run.status, 0, run.output[-6000:])
        return run

    def test_they_depend_on_what_their_files_need(self):
        self.assertRegex(field(self.packages["nopspan"], "Depends"), r"libbpf1 .*libelf1 .*libncursesw6 ")
        self.assertNotIn("bpf", field(self.packages["libnopspan0"], "Depends"))
        self.assertEqual(field(self.packages["libnopspan-dev"], "Depends"),
                         "libnopspan0 (= %s)" % field(self.packages["libnopspan0"], "Version"))

    def test_the_library_keeps_its_notes(self):
        listed = subprocess.run("dpkg-deb --fsys-tarfile %s | tar -xO --wildcards './usr/lib/*/libnopspan.so.0.*' | readelf -nW -"
                                % self.packages["libnopspan0"], shell=True, stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertIn("Name: span_stop", listed)

    def test_the_program_sees_spans_and_the_unit_records_them(self):
        run = self.boot("""
nopspan --version
man -P cat nopspan | grep -q 'nopspan trace'
bash -c 'source /usr/share/bash-completion/bash_completion; _completion_loader nopspan; complete -p nopspan'
nopspan ps --json > /results/ps
nopspan trace --name packaged.span --limit 1 --duration 60s
systemctl is-enabled nopspan && exit 1
systemctl enable --now nopspan
until [ -n "$(find /var/lib/nopspan/ -name '*.rec' -size +8k)" ]; do
  systemctl is-active nopspan
  sleep 0.5
done
systemctl show nopspan -p User -p MainPID
grep Cap /proc/$(systemctl show --value -p MainPID nopspan)/status
systemctl stop nopspan
journalctl -u nopspan --no-pager
test "$(systemctl show --value -p Result nopspan)" = success
stat -c '%a %n' /var/lib/nopspan/*.rec
nopspan trace --from "$(echo /var/lib/nopspan/*.rec)" --limit 3
systemctl start nopspan
dpkg -r nopspan
test -z "$(systemctl is-active nopspan | grep -x active)"
test -n "$(ls /var/lib/private/nopspan/*.rec)"
dpkg -P nopspan
test ! -e /var/lib/private/nopspan
test ! -e /usr/share/nopspan
""")
        self.assertIn("packaged.span", run.output)


if __name__ == "__main__":
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: with NOPSPAN_LONG=1 only: it builds packages and boots an emulated machine", file=sys.stderr)
        sys.exit(77)
    machine.need()
    ability.need("dpkg-deb", "cpack", "ninja", "readelf")
    unittest.main()
