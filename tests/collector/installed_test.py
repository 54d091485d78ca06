#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files installed with the program: shell completion, man pages and systemd unit, in the folders where they are
searched.

By hand: NOPSPAN_STAGE=build/dev/stage python3 tests/collector/installed_test.py -v
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import ability

STAGE = Path(os.environ["NOPSPAN_STAGE"]).resolve()
PROGRAM = STAGE / "bin" / "nopspan"
SOURCE = Path(__file__).resolve().parents[2]
COMPLETION = {"bash": "share/bash-completion/completions/nopspan", "zsh": "share/zsh/site-functions/_nopspan",
              "fish": "share/fish/vendor_completions.d/nopspan.fish"}
PAGES = STAGE / "share/man/man1"
UNIT = STAGE / "lib/systemd/system/nopspan.service"
EXPORT_UNIT, STREAM_UNIT = (UNIT.with_name(f"nopspan-{name}.service") for name in ("export", "stream"))
GENERATOR = STAGE / "lib/systemd/system-generators/nopspan-generator"


OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def help_of(*command):
    return subprocess.run([PROGRAM, *command, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout


class Installed(unittest.TestCase):
    def test_completion_is_where_the_shells_look(self):
        for shell, path in COMPLETION.items():
            self.assertEqual((STAGE / path).read_bytes(), (SOURCE / "packaging" / f"completion.{shell}").read_bytes())

    def test_the_dashboard_and_the_rules(self):
        for path in ("grafana/nopspan.json", "prometheus/nopspan-rules.yml"):
            self.assertEqual((STAGE / "share/nopspan" / path).read_bytes(), (SOURCE / "packaging" / path).read_bytes())

    def test_each_command_has_a_man_page_with_its_options(self):
        listed = re.search(r"\nCommands:\n((?:  .*\n)+)", help_of())[1]
        pages = {"nopspan.1": []}
        pages.update({f"nopspan-{command}.1": [command] for command in re.findall(r"(?m)^  (\w+)", listed)})
        self.assertGreater(len(pages), 1)
        self.assertEqual(sorted(path.name for path in PAGES.iterdir()), sorted(pages))
        for name, command in pages.items():
            page = re.sub(r"\\f[BIR]", "", (PAGES / name).read_text(encoding="utf-8")).replace("\\-", "-")
            described = {word for row in re.findall(r"(?m)^\.TP\n(-.*)", page) for word in OPTION.findall(row)}
            rows = re.findall(r"(?m)^  (-.*?)(?:  |$)", help_of(*command))
            self.assertEqual(described, {word for row in rows for word in OPTION.findall(row)}, name)
            self.assertRegex(page, rf"(?m)^\.TH {name[:-2].upper()} ")
            self.assertRegex(page, rf"(?m)^\.SH NAME\n{name[:-2]} - \w")
            self.assertRegex(page, r"(?m)^\.SH EXAMPLES\n")
            # Each example begins a line.
            printed = subprocess.run(["groff", "-man", "-rLL=200n", "-Kutf8", "-Tascii", "-P-c", PAGES / name], stdout=subprocess.PIPE,
                                     text=True, check=True).stdout
            lines = {re.sub("   *.*", "", line.strip()) for line in printed.splitlines()}
            self.assertLessEqual(set(re.findall(r"(?m)^  (nopspan .*?)(?:   *.*)?$", help_of(*command))), lines, name)

    def test_the_man_page_says_what_help_does_not(self):
        page = (PAGES / "nopspan.1").read_text(encoding="utf-8")
        sections = re.findall(r'(?m)^\.SH "?([A-Z ]+)"?$', page)
        self.assertLessEqual({"PRIVILEGES", "LEDGER", "FILES", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"}, set(sections))
        # The pages that it refers to are there.
        for other in re.findall(r"(nopspan-\w+) \(1\)", page):
            self.assertTrue((PAGES / f"{other}.1").exists(), other)

    def test_a_failure_of_help2man_is_not_hidden(self):
        """The first page is made. help2man fails at the page of a command."""
        with tempfile.TemporaryDirectory() as folder:
            tool = Path(folder, "help2man")
            tool.write_text('#!/bin/sh\ncase "$*" in *--help-option*) exit 1 ;; esac\n', encoding="utf-8")
            tool.chmod(0o755)
            done = subprocess.run([SOURCE / "packaging/man-pages.sh", PROGRAM, "0", folder, "ps"], check=False,
                                  env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})
            self.assertNotEqual(done.returncode, 0)

    def test_a_package_build_warns_that_there_are_no_man_pages(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["cmake", "--preset", "package", "-B", folder, "-DNOPSPAN_HELP2MAN=OFF"], cwd=SOURCE,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
        self.assertRegex(done.stderr, r"CMake Warning .*\n +nopspan: no man pages, because help2man")

    def test_groff_has_nothing_to_say_against_the_man_pages(self):
        for path in PAGES.iterdir():
            done = subprocess.run(["groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z", path], stderr=subprocess.PIPE, text=True, check=True)
            self.assertEqual(done.stderr, "", path)

    def test_systemd_understands_the_units(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("systemd-analyze is not installed")
        for installed in (UNIT, EXPORT_UNIT, STREAM_UNIT):
            with self.subTest(unit=installed.name):
                self.check_unit(installed)

    def check_unit(self, installed):
        with tempfile.TemporaryDirectory() as folder:
            unit = Path(folder, installed.name)
            # Without this line systemd-analyze would look for the manual on this machine, where it is not installed.
            unit.write_text(re.sub("(?m)^Documentation=.*\n", "", installed.read_text(encoding="utf-8")), encoding="utf-8")
            done = subprocess.run(["systemd-analyze", "verify", unit], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  check=False, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"})
            # systemd-analyze also complains about other units of this machine.
            self.assertEqual([line for line in done.stdout.splitlines() if "nopspan" in line], [])
            rated = subprocess.run(["systemd-analyze", "security", "--offline=yes", unit], stdout=subprocess.PIPE, text=True,
                                   check=True).stdout
        self.assertLess(float(re.search(r"exposure level for \S+: ([\d.]+)", rated)[1]), 2.5)

    def test_the_exporter_has_no_capability_and_the_reader_no_network(self):
        self.assertIn("\nCapabilityBoundingSet=\n", EXPORT_UNIT.read_text(encoding="utf-8"))
        self.assertNotIn("AmbientCapabilities", EXPORT_UNIT.read_text(encoding="utf-8"))
        text = STREAM_UNIT.read_text(encoding="utf-8")
        for line in ("PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX"):
            self.assertIn(f"\n{line}\n", text)
        # It has what nopspan.service has, from the capabilities on.
        self.assertEqual(text[text.index("\nCapabilityBoundingSet="):].replace("writes to the socket", "writes its recordings"),
                         (whole := UNIT.read_text(encoding="utf-8"))[whole.index("\nCapabilityBoundingSet="):])

    def test_the_unit_says_why_of_each_capability(self):
        text = UNIT.read_text(encoding="utf-8")
        given = re.search(r"(?m)^CapabilityBoundingSet=(.*)", text)[1].split()
        self.assertEqual(given, re.search(r"(?m)^AmbientCapabilities=(.*)", text)[1].split())
        self.assertEqual([*given, "CAP_SYS_ADMIN"], re.findall(r"(?m)^#   (CAP_\w+) +\w", text))

    def test_the_unit_bounds_what_the_recorder_takes_from_the_host(self):
        text = UNIT.read_text(encoding="utf-8")
        self.assertRegex(text, r"(?m)^ExecStart=.* --max-size \d+M --keep-total \d+G ")
        for name in ("MemoryHigh", "MemoryMax", "CPUQuota", "CPUWeight", "IOWeight", "LimitNOFILE", "TasksMax", "OOMScoreAdjust"):
            self.assertRegex(text, rf"(?m)^{name}=\d+[M%]?$")
        self.assertIn("\nOOMPolicy=continue\n", text)

    def test_only_older_kernels_get_cap_sys_admin(self):
        for release, gets in (("5.10.0-33-amd64", True), ("6.1.0-40-amd64", True), ("6.5.13", True), ("6.6.0", False),
                              ("6.12+", False), ("7.0-rc1", False)):
            with tempfile.TemporaryDirectory() as folder, self.subTest(release=release):
                subprocess.run([GENERATOR, folder, folder, folder], check=True,
                               env={**os.environ, "NOPSPAN_KERNEL_RELEASE": release})
                for unit in (UNIT, STREAM_UNIT):
                    path = Path(folder, f"{unit.name}.d", "perf-events.conf")
                    self.assertEqual(path.exists(), gets)
                    if gets:
                        self.assertEqual(path.read_text(encoding="utf-8").count("=CAP_SYS_ADMIN\n"), 2)

    def test_the_exporter_serves_and_exports(self):
        """The unit's command, with the variables of systemd and of /etc/default/nopspan-export."""
        text = EXPORT_UNIT.read_text(encoding="utf-8")
        shell = re.search(r"(?m)^ExecStart=/bin/sh -c '(.*)'$", text)[1]
        defaults = dict(each.split("=", 1) for each in re.search(r"(?m)^Environment=(.*)$", text)[1].split())
        self.assertEqual(defaults["NOPSPAN_SERVE"], "127.0.0.1:9464")
        for variables, message in (({}, "No receiver is set, so metrics are served only."),
                                   ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "Exporting to http://127.0.0.1:9."),
                                   ({"NOPSPAN_EXPORT_OPTIONS": "--sample 10 --otlp http://[::1]:9"}, "Exporting to http://[::1]:9.")):
            with tempfile.TemporaryDirectory() as folder, self.subTest(message=message):
                environment = {**defaults, "NOPSPAN_SERVE": "127.0.0.1:0", "RUNTIME_DIRECTORY": folder, "STATE_DIRECTORY": folder,
                               "PATH": f"{STAGE / 'bin'}:/usr/bin", **variables}
                with subprocess.Popen(["/bin/sh", "-c", shell], env=environment, stderr=subprocess.PIPE, text=True) as process:
                    said = process.stderr.readline()
                    process.terminate()
                    process.communicate(timeout=60)
                self.assertTrue(said.startswith(f"{message} Metrics are at http://127.0.0.1:"), said)

    def test_the_files_for_containers_are_installed(self):
        for path in ("kubernetes/nopspan.yaml", "kubernetes/pod-monitor.yaml", "compose/compose.yaml", "container/build-root.sh"):
            installed, source = STAGE / "share/nopspan" / path, SOURCE / "packaging" / path
            self.assertEqual(installed.read_bytes(), source.read_bytes())
            self.assertEqual(os.access(installed, os.X_OK), os.access(source, os.X_OK), path)

    def test_the_units_use_options_that_their_commands_have(self):
        for unit, name in ((UNIT, "record"), (STREAM_UNIT, "record"), (EXPORT_UNIT, "export")):
            command = re.search(r"(?m)^ExecStart=.*nopspan (\w+) (.*)$", unit.read_text(encoding="utf-8"))
            text = subprocess.run([PROGRAM, command[1], "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertRegex(text, f"(?m)^Usage: nopspan {name} ")
            for option in re.findall(r"--[a-z-]+", command[2]):
                self.assertRegex(text, rf"(?m)^ +(-\w, )?{option}\b")


if __name__ == "__main__":
    ability.need("groff")
    unittest.main()
