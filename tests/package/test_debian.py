# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built, installed by apt on a Debian without any other file of nopspan, used there, removed and
purged. A real systemd runs the services.

NOPSPAN_LONG=1 NOPSPAN_BUILD_DIR=build/dev python3 tests/package/test_debian.py -v
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import unittest
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("NOPSPAN_BUILD_DIR", os.path.join(SOURCE, "build", "dev")))
WORK = os.path.join(BUILD, "tests", "package")
sys.path.insert(0, os.path.join(SOURCE, "tests", "support"))
import ability
import debian
from container import Container, wait_until
from otlp_receiver import OK, Answer, HttpReceiver, Received

PACKAGES = ("libnopspan0.3", "libnopspan-dev", "nopspan")
# The container's own packages: systemd, and the packages that build a user's program.
BARE = ["systemd", "g++", "make", "cmake", "pkg-config"]
RECORDINGS = "/var/lib/nopspan"
METRICS = "/run/nopspan/nopspan.prom"
STREAM_METRICS = "/run/nopspan-stream/nopspan.prom"
RECEIVER = "/etc/default/nopspan-export"
PROJECT = """\
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES CXX)
find_package(nopspan REQUIRED)
add_executable(by-cmake spans.cpp)
target_link_libraries(by-cmake PRIVATE nopspan::nopspan)
"""
# Files in which apt, dpkg and systemd record their actions.
NOTES = r"/(var/(log|cache|lib/(dpkg|apt|systemd))|run|tmp|var/tmp|root|srv|proc|sys|dev)"


def built_packages():
    """Builds the packages of this source tree as in docs/install.md. Returns their paths."""
    folder = os.path.join(SOURCE, "build", "package")
    for old in glob.glob(os.path.join(folder, "*.deb")):
        os.remove(old)
    subprocess.run(["cmake", "--workflow", "--preset", "package"], cwd=SOURCE, stdout=subprocess.DEVNULL, check=True)
    found = sorted(glob.glob(os.path.join(folder, "*.deb")))
    assert sorted(os.path.basename(path).split("_")[0] for path in found) == sorted(PACKAGES), found
    return found


class Packages(unittest.TestCase):
    """The tests run in the order of their names. Each continues where the previous one ended."""

    @classmethod
    def setUpClass(cls):
        cls.debs = built_packages()
        cls.there = cls.enterClassContext(Container(BARE, os.path.join(WORK, "container")))
        cls.files_before = cls.files()

    @classmethod
    def files(cls):
        """All paths in the container, except the records of apt, dpkg and systemd."""
        found = cls.there.output("find", "/", "-xdev", "-regextype", "posix-extended", "-regex", NOTES, "-prune", "-o",
                                 "-print")
        return set(found.splitlines())

    def place(self, name, text):
        with open(os.path.join(self.there.tree, "srv", name), "w", encoding="utf-8") as file:
            file.write(text)

    def recordings(self):
        return self.there.output("find", RECORDINGS + "/", "-name", "*.rec").split()

    def replayed(self, path):
        """The ledger's counts and the number of spans per name, from a recording of packaged programs."""
        summary = json.loads(self.there.output("nopspan", "--json", "replay", path))
        names = {row["name"]: row["spans"] for row in summary["names"]}
        return summary["ledger"]["total"], names

    def unit(self, name, unit="nopspan"):
        return self.there.output("systemctl", "show", "--value", "--property", name, unit + ".service").strip()

    def metrics_of(self, path=METRICS, name="delivered", label=""):
        """The entries that the service delivered, as another user reads them."""
        status, text = self.there.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "cat", path,
                                      check=False)
        return re.findall(r"(?m)^nopspan_entries_%s_total%s (\d+)$" % (name, label), text if status == 0 else "")

    def said(self, unit):
        return self.there.output("journalctl", "--quiet", "--output", "cat", "--unit", unit + ".service")

    def wait_for_recorder(self, times, unit="nopspan"):
        """Waits until the service has begun to record this many times since its first start."""
        def begun():
            if self.unit("ActiveState", unit) == "failed":
                raise AssertionError("the service failed: " + self.said(unit))
            return self.said(unit).count("Recording.") >= times
        wait_until(begun, unit + ".service to record")

    def test_1_have_no_errors_for_lintian(self):
        if shutil.which("lintian") is None:
            self.skipTest("lintian is not installed")
        # Without CPACK_PACKAGE_CONTACT the packages have no valid address. A real packager sets it.
        allowed = "bogus-mail-host,bogus-mail-host-in-debian-changelog"
        done = subprocess.run(["lintian", "--fail-on", "error", "--allow-root", "--suppress-tags", allowed, *self.debs],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_2_are_installed_with_what_they_need(self):
        for path in self.debs:
            shutil.copy(path, os.path.join(self.there.tree, "srv"))
        self.there.run("apt-get", "-q", "update")
        self.there.run("apt-get", "-q", "install", "-y", "--no-install-recommends",
                       *["/srv/" + os.path.basename(path) for path in self.debs])
        self.assertRegex(self.there.output("nopspan", "--version"), r"^nopspan \d+\.\d+\.\d+$")
        status, said = self.there.run("nopspan", "doctor", check=False)
        self.assertEqual(status, 0, said)
        for path in ("/usr/share/man/man1/nopspan.1.gz", "/usr/share/man/man1/nopspan-top.1.gz",
                     "/usr/share/bash-completion/completions/nopspan",
                     "/usr/share/zsh/vendor-completions/_nopspan", "/usr/share/fish/vendor_completions.d/nopspan.fish",
                     "/usr/share/doc/nopspan/changelog.gz", "/usr/share/nopspan/grafana/nopspan.json",
                     "/usr/share/nopspan/prometheus/nopspan-rules.yml"):
            self.there.run("test", "-s", path)
        self.assertEqual(self.unit("UnitFileState"), "disabled")
        self.assertEqual(self.unit("ActiveState"), "inactive")

    def test_3_programs_are_built_and_recorded(self):
        with open(os.path.join(HERE, "spans.cpp"), encoding="utf-8") as file:
            self.place("spans.cpp", file.read())
        self.place("CMakeLists.txt", PROJECT)
        flags = self.there.output("pkg-config", "--cflags", "--libs", "nopspan").split()
        self.there.run("g++", "-std=c++17", "-o", "/srv/by-pkg-config", "/srv/spans.cpp", *flags)
        self.there.run("cmake", "-S", "/srv", "-B", "/srv/build")
        self.there.run("cmake", "--build", "/srv/build")
        for program in ("/srv/by-pkg-config", "/srv/build/by-cmake"):
            with self.subTest(program), self.there.start(program) as traced:
                traced.wait_for_line("ready")
                path = "/srv/%s.rec" % os.path.basename(program)
                with self.there.start("nopspan", "--json", "record", path, "--pid", str(traced.pid)) as recorder:
                    recorder.wait_for_line("Recording.")
                    self.assertEqual(traced.ask("1000"), "done")
                    status, said = recorder.interrupt()
                self.assertEqual(status, 0, said)
                ledger = json.loads(said[-1])["ledger"]["total"]
                self.assertEqual((ledger["emitted"], ledger["delivered"], ledger["balanced"]), (1000, 1000, True))
                self.assertEqual(self.replayed(path)[1], {"packaged.work": 1000})

    def test_4_the_service_is_what_systemd_expects(self):
        # The exposure is at most 20 of 100, where an unprotected service has 96. The units explain the remaining
        # permissions.
        for unit in ("nopspan", "nopspan-stream", "nopspan-export"):
            status, said = self.there.run("systemd-analyze", "verify", "--man=no", unit + ".service", check=False)
            self.assertEqual((status, said), (0, ""))
            status, said = self.there.run("systemd-analyze", "security", "--no-pager", "--threshold=20",
                                          unit + ".service", check=False)
            self.assertEqual(status, 0, said)
        # A child that cannot be killed must not delay the end of the service, or its restart, by systemd's 90 s or more.
        # If nopspan-keeper is killed, all forks may stop.
        self.assertEqual((self.unit("KillMode"), self.unit("TimeoutStopUSec")), ("process", "5s"))

    def test_5_the_service_records_over_restarts_and_kills(self):
        with self.there.start("/srv/by-pkg-config") as traced:
            traced.wait_for_line("ready")
            self.there.run("systemctl", "start", "nopspan")
            self.wait_for_recorder(1)
            self.assertEqual(traced.ask("1000"), "done")
            wait_until(lambda: self.metrics_of() == ["1000"], "metrics of what was recorded")
            self.there.run("systemctl", "restart", "nopspan")
            self.wait_for_recorder(2)
            self.assertEqual(traced.ask("200"), "done")
            before = self.recordings()
            # A killed recorder leaves what it has written. It writes once a second.
            wait_until(lambda: any(self.replayed(path)[1] == {"packaged.work": 200} for path in self.recordings()),
                       "the recording to have what was traced")
            self.there.run("systemctl", "kill", "--signal=KILL", "nopspan")
            self.wait_for_recorder(3)
            self.assertEqual(self.unit("NRestarts"), "1")
            self.assertEqual(traced.ask("30"), "done")
            self.there.run("systemctl", "stop", "nopspan")
        self.assertEqual(self.unit("ActiveState"), "inactive")
        self.assertEqual(self.unit("Result"), "success")
        self.assertNotEqual(self.there.run("test", "-e", METRICS, check=False)[0], 0)
        paths = self.recordings()
        self.assertEqual((len(before), len(paths)), (2, 3))
        recorded = {}
        for path in paths:
            ledger, names = self.replayed(path)
            self.assertTrue(ledger["balanced"], (path, ledger))
            self.assertEqual(ledger["lost"], 0, (path, ledger))
            recorded[names["packaged.work"]] = ledger["delivered"]
        self.assertEqual(recorded, {1000: 1000, 200: 200, 30: 30})
        modes = {self.there.output("stat", "-c", "%a", path).strip() for path in paths}
        self.assertEqual(modes, {"600"})

    def test_6_the_services_export_and_serve(self):
        # The container has the network of this machine.
        options = "NOPSPAN_SERVE=127.0.0.1:0\nNOPSPAN_EXPORT_OPTIONS=--host packaged --otlp-file /var/lib/nopspan-export\n"
        with open(self.there.tree + RECEIVER, "w", encoding="ascii") as file:
            file.write(options)
        # The program runs before the units start. Otherwise it could make its spans before the reader has found it.
        with self.there.start("/srv/by-pkg-config") as traced:
            traced.wait_for_line("ready")
            self.there.run("systemctl", "enable", "--now", "nopspan-export", "nopspan-stream")
            address = wait_until(lambda: re.search(r"http://127\.0\.0\.1:\d+/metrics", self.said("nopspan-export")),
                                 "nopspan-export.service to serve")[0]
            self.wait_for_recorder(1, "nopspan-stream")

            def served():
                with urllib.request.urlopen(address, timeout=10) as answer:
                    return re.search(r'(?m)^traces_span_metrics_calls_total\{.*span_name="packaged.work".*\} 1000$',
                                     answer.read().decode())
            self.assertEqual(traced.ask("1000"), "done")
            wait_until(served, "the metrics of what was traced")
        self.there.run("systemctl", "disable", "--now", "nopspan-stream", "nopspan-export")
        for unit in ("nopspan-stream", "nopspan-export"):
            self.assertEqual(self.unit("Result", unit), "success")
        self.assertRegex(self.said("nopspan-export"), r"traces: 1000 taken = 1000 accepted")
        os.remove(self.there.tree + RECEIVER)

    def test_7_an_image_root_is_made_of_them(self):
        root = os.path.join(WORK, "image")
        subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)
        build = os.path.join(SOURCE, "packaging", "container", "build-root.sh")
        packages = [path for path in self.debs if "-dev" not in os.path.basename(path)]
        subprocess.run([build, root, *packages], check=True, env={**os.environ, "MIRROR": debian.mirror()})
        size = int(subprocess.run(["du", "-sm", root], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[0])
        self.assertLess(size, 64)
        # The containers run there, with the capabilities that the DaemonSet gives them.
        live = os.path.join(SOURCE, "tests", "live")
        path = os.pathsep.join([live, os.path.join(live, "collector"), os.path.join(SOURCE, "tests", "support")])
        subprocess.run([sys.executable, os.path.join(live, "collector", "test_container.py"), "-v"], check=True,
                       env={**os.environ, "NOPSPAN_IMAGE_ROOT": root, "PYTHONPATH": path})

    def test_7_the_service_can_have_other_options(self):
        self.place("options", "[Service]\nExecStart=\nExecStart=/usr/bin/nopspan record --keep 2 /srv/chosen.rec\n")
        # An editor that writes these options. systemctl starts an editor only on a terminal, which script(1) makes.
        self.there.run("env", "SYSTEMD_EDITOR=cp /srv/options", "script", "--quiet", "--return", "--command",
                       "systemctl edit nopspan", "/dev/null")
        self.assertIn("nopspan record --keep 2 /srv/chosen.rec", self.unit("ExecStart"))
        self.there.run("systemctl", "revert", "nopspan")

    def test_7_spans_are_exported_over_restarts_and_outages(self):
        """The container has the host's network, and the receiver is on the host."""
        answers = {True: OK, False: Answer(503)}
        accepts, received = True, Received(lambda number, ids: answers[accepts])

        def waiting():
            """How many spans the exporter has that were not accepted."""
            with urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=10) as answer:
                return sum(map(int, re.findall(r'(?m)^nopspan_export_waiting\{.*signal="traces".*\} (\d+)$',
                                               answer.read().decode())))

        with HttpReceiver(received) as receiver, self.there.start("/srv/by-pkg-config") as traced:
            traced.wait_for_line("ready")
            with open(self.there.tree + RECEIVER, "w", encoding="ascii") as file:
                file.write("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:%d\n" % receiver.port)
            asked = 0

            def ask(spans):
                nonlocal asked
                self.assertEqual(traced.ask(str(spans)), "done")
                asked += spans

            def lost():
                return sum(map(int, self.metrics_of(STREAM_METRICS, "lost", '{reason="export_dropped"}')))

            def wait_for_all(what):
                wait_until(lambda: len(received.stored) >= asked, what,
                           seen=lambda: "%d of %d\n" % (len(received.stored), asked) + self.said("nopspan-export") +
                           self.said("nopspan-stream"))
                self.assertEqual((len(received.stored), len(set(received.stored))), (asked, asked))

            self.there.run("systemctl", "start", "nopspan-export", "nopspan-stream")
            self.wait_for_recorder(2, "nopspan-stream")
            ask(1000)
            wait_for_all("spans in the receiver")

            # The reader stops in order: it fetches what the traced program holds, and the exporter sends it.
            ask(200)
            self.there.run("systemctl", "restart", "nopspan-stream")
            wait_for_all("spans of before the reader's restart")
            self.wait_for_recorder(3, "nopspan-stream")

            # The receiver is down when the exporter is restarted. The spool has what was in memory.
            accepts = False
            ask(300)
            wait_until(lambda: waiting() == 300, "all spans to reach the exporter")
            self.there.run("systemctl", "restart", "nopspan-export")
            accepts = True
            wait_for_all("spans of before the exporter's restart")

            # While the exporter does not run, entries are counted as lost.
            self.there.run("systemctl", "stop", "nopspan-export")
            ask(50)
            wait_until(lambda: lost() == 50, "50 lost entries in the metrics")
            asked -= 50
            self.there.run("systemctl", "start", "nopspan-export")

            # The reader connects again. Until then, further spans are lost and counted.
            def comes_again():
                ask(1)
                return len(received.stored) > arrived
            arrived = len(received.stored)
            wait_until(comes_again, "a span after the exporter's start")

            # Both stop while the receiver is down, and a later run sends the rest.
            wait_until(lambda: len(received.stored) + lost() - 50 == asked, "each span to arrive or to be counted",
                       seen=lambda: "%d arrived, %d lost of %d" % (len(received.stored), lost(), asked))
            asked = len(received.stored)
            accepts = False
            ask(400)
            wait_until(lambda: waiting() == 400, "all spans to reach the exporter")
            self.there.run("systemctl", "stop", "nopspan-stream", "nopspan-export")
            accepts = True
            self.there.run("systemctl", "start", "nopspan-export")
            wait_for_all("spans of the spool")
            self.there.run("systemctl", "stop", "nopspan-export")
        # The reader lost entries while the exporter did not run, so its exit status is 1.
        for unit, state in (("nopspan-export", ("inactive", "success", "0")), ("nopspan-stream", ("failed", "exit-code", "0"))):
            self.assertEqual((self.unit("ActiveState", unit), self.unit("Result", unit), self.unit("NRestarts", unit)),
                             state, self.said(unit))
        self.there.run("systemctl", "reset-failed", "nopspan-stream")
        os.remove(self.there.tree + RECEIVER)

    def test_8_removal_ends_the_service_and_keeps_recordings(self):
        self.there.run("systemctl", "enable", "--now", "nopspan")
        self.wait_for_recorder(4)
        self.there.run("apt-get", "-q", "remove", "-y", "nopspan")
        self.assertEqual(self.there.run("systemctl", "is-active", "nopspan", check=False)[1].strip(), "inactive")
        self.assertEqual(self.unit("LoadState"), "not-found")
        self.assertEqual(self.there.output("find", "/etc/systemd/system", "-name", "nopspan*"), "")
        self.assertEqual(len(self.recordings()), 4)

    def test_9_purging_leaves_nothing(self):
        self.there.run("apt-get", "-q", "purge", "-y", *PACKAGES)
        self.there.run("apt-get", "-q", "autoremove", "--purge", "-y")
        self.assertEqual(self.files() - self.files_before, set())


if __name__ == "__main__":
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    if os.geteuid() != 0:
        ability.unable("not root: a container needs it")
    ability.need("debootstrap", "systemd-nspawn", "nsenter", "setpriv", "cpack", "dpkg-shlibdeps")
    unittest.main()
