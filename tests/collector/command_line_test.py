#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program's command line: help, mistakes, completion in real shells. Nothing here traces.

By hand: NOPSPAN_PROGRAM=build/dev/nopspan python3 tests/collector/command_line_test.py -v
"""
import contextlib
import http.client
import json
import os
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from waiting import wait_until  # pylint: disable=wrong-import-position

PROGRAM = os.path.abspath(os.environ["NOPSPAN_PROGRAM"])
SOURCE = Path(__file__).resolve().parents[2]


def run(*words, **options):
    return subprocess.run([PROGRAM, *words], text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
                          **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})


def help_of(*command):
    return run(*command, "--help").stdout


def commands():
    listed = re.search(r"\nCommands:\n((?:  .*\n)+)", help_of())
    return re.findall(r"(?m)^  (\w\S*)", listed[1]) if listed else []


def options_in(text):
    """{"--help", "-h", ...}: the options that --help prints."""
    rows = re.findall(r"(?m)^  (-.*?)(?:  |$)", text)
    return {word for row in rows for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)}


class Help(unittest.TestCase):
    def test_every_command_has_help_with_examples(self):
        self.assertTrue(commands())
        for command in [(), *((name,) for name in commands())]:
            with self.subTest(command=command):
                done = run(*command, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertRegex(done.stdout, r"(?m)^Usage: " + " ".join(["nopspan", *command]) + r" \[OPTIONS\]")
                self.assertRegex(done.stdout, r"(?m)^Examples:\n  nopspan " + " ".join(command))
                # The completions of shells read a list of values from one line.
                self.assertLessEqual(max(len(line) for line in done.stdout.splitlines() if "{" not in line), 80)
                self.assertNotRegex(done.stdout, r"(?m)^  -.*(\n .*)*\n[^ \n]", "an option's text left its column")
                self.assertEqual(run(*command, "-h").stdout, done.stdout)

    def test_every_command_understands_the_programs_options(self):
        for command in commands():
            self.assertLessEqual({"--json", "--no-color", "--help"}, options_in(help_of(command)), command)

    def test_filters_are_the_same_in_every_command(self):
        filters = {}
        for command in ("trace", "top", "hist", "record", "replay"):
            group = re.search(r"\nFilters:\n((?:  .*\n)+)", help_of(command))[1]
            filters[command] = re.findall(r"(?m)^  (--[a-z-]+(?: [A-Z=]+)?)", group)
        self.assertIn("--where KEY=VALUE", filters["trace"])
        self.assertEqual({command: filters["trace"] for command in filters}, filters)

    def test_the_version_is_that_of_the_header(self):
        header = (SOURCE / "include/nopspan/version.h").read_text(encoding="utf-8")
        version = ".".join(re.search(rf"NOPSPAN_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))
        self.assertEqual(run("--version").stdout, f"nopspan {version}\n")


class Mistakes(unittest.TestCase):
    def assert_usage_error(self, words, *parts):
        done = run(*words)
        self.assertEqual((done.returncode, done.stdout), (2, ""), words)
        self.assertEqual(done.stderr.count("\n"), 1, f"one line: {done.stderr}")
        for part in parts:
            self.assertIn(part, done.stderr)

    def test_an_unknown_option_is_named(self):
        self.assert_usage_error(["--jsno"], "nopspan: ", "not expected: --jsno", "see nopspan --help")
        for command in commands():
            self.assert_usage_error([command, "--frobnicate=3"], "--frobnicate", f"nopspan {command}: ")

    def test_an_unknown_command_is_named(self):
        for words in (["trcae"], ["trcae", "--help"]):
            self.assert_usage_error(words, "not expected: trcae", "commands are " + " ".join(commands()))

    def test_all_that_a_command_needs_is_named_at_once(self):
        self.assert_usage_error(["convert", "a.rec", "b.rec"], "; usage: nopspan convert FILE... --to FORMAT --out FILE; see")
        self.assert_usage_error(["record", "-o", "a.rec"], "not expected: -o", "; usage: nopspan record FILE; see")
        self.assert_usage_error(["doctor", "--pid", "1"], "not expected: --pid", "; usage: nopspan doctor [PID]; see")
        self.assert_usage_error(["ps", "--pid", "1"], "; usage: nopspan ps [PID...]; see")

    def test_unexpected_words_are_named_in_their_order(self):
        self.assert_usage_error(["replay", "spans.rec", "b", "c"], "not expected: b c")

    def test_two_commands_are_one_too_many(self):
        self.assert_usage_error(["top", "trace"], "nopspan top: ", "not expected: trace")

    def test_a_wrong_value_is_shown_with_what_would_be_right(self):
        self.assert_usage_error(["trace", "--slower-than", "soon"], '--slower-than: "soon" is not a time', "(ns, us, ms, s, m, h, d)")
        self.assert_usage_error(["trace", "--slower-than", "104167d"], '--slower-than: "104167d" is not between 0s and 104166d')
        self.assert_usage_error(["trace", "--buffer", "many"], '--buffer: "many" is not a size', "(K, M, G, T)")
        self.assert_usage_error(["trace", "--slower", "1s"], "not expected: --slower 1s (did you mean --slower-than?)")
        self.assert_usage_error(["trace", "--name", "a", "--name", "b"], "trace: --name can be given only once; see")
        self.assert_usage_error(["trace", "--memory", "9999999T"], '--memory: "9999999T" is not between 4K and 4194304T')
        for size in ("0", "1", "4095"):
            self.assert_usage_error(["trace", "--memory", size], f'--memory: "{size}" is not between 4K and')
            self.assert_usage_error(["record", "x", "--max-size", size], f'--max-size: "{size}" is not between 4K and')
        self.assert_usage_error(["top", "--ro=5"], "(did you mean --rows-max or --rows?)")
        for size in ("-1", "1", "100T"):
            self.assert_usage_error(["trace", "--buffer", size], '--buffer: "%s" is not between 4K and 1G' % size)
        for time in ("0", "1500ms", "61", "2m"):
            self.assert_usage_error(["top", "--window", time], "--window: must be a whole number of seconds from 1s to 60s")
        for time in ("0s", "1ms"):
            self.assert_usage_error(["top", "--interval", time], "--interval: must be at least 100ms")
        self.assert_usage_error(["top", "--from", "x", "--since", "noon"], '--since: "noon" is not a time: use a date', "such as 14:05")
        self.assert_usage_error(["top", "--rows-max", "0"], '--rows-max: "0" is not')
        self.assert_usage_error(["trace", "--pid", "0"], '--pid: "0" is not a positive whole number')
        self.assert_usage_error(["trace", "--pid"], "--pid needs a value")
        self.assert_usage_error(["trace", "--with-peers"], "--with-peers requires --pid or --cgroup")
        self.assert_usage_error(["trace", "--filter-early"], "--filter-early requires --name, --model, --errors or --error")
        for pids in ("1,,2", ",", ",1", "1,x"):
            self.assert_usage_error(["trace", "--pid", pids, "--errors"], '--pid: "', '" is not a positive whole number')
        self.assert_usage_error(["hist", "--by", "name,errors"], '--by name,errors: "errors" is not a key')
        self.assert_usage_error(["top", "--by", "route", "--sort", "rout"], "--sort: there is no column rout")
        self.assert_usage_error(["replay", "x", "--where", "route"], '--where: "route" is not KEY=VALUE')
        self.assert_usage_error(["hist", "--of", "retry", "--error", "timeout"], "--error cannot be used with --of retry")
        self.assert_usage_error(["record", "x", "--keep", "2"], "--keep requires --max-size")
        self.assert_usage_error(["record", "x", "--keep-total", "2G"], "--keep-total requires --max-size")
        self.assert_usage_error(["record", "x", "--max-size", "513M", "--keep-total", "1G"], "--keep-total: must be at least twice")
        self.assert_usage_error(["record", "x", "--from", "y", "--max-size", "1M", "--keep-total", "1G"], "excludes")
        for option in ("--interval", "--count", "--duration"):
            self.assert_usage_error(["open", option, "1"], f"{option} requires --watch")
        self.assert_usage_error(["open", "--watch", "--interval", "99ms"], "--interval must be at least 100ms")
        self.assert_usage_error(["open", "core", "--watch"], "excludes")
        self.assert_usage_error(["open", "core", "--pid", "1"], "excludes")
        self.assert_usage_error(["record", "x", "--from", "y", "--duration", "1s"], "--from excludes --duration")

    def test_a_number_is_whole_and_not_negative(self):
        for wrong in ("-1", "1.5", "1x", "0x1", "one", "99999999999"):
            self.assert_usage_error(["trace", f"--limit={wrong}"], f'--limit: "{wrong}" is not a ', "whole number")
        for command, option in (("trace", "--max-spans"), ("trace", "--sample"), ("top", "--rows"), ("top", "--count"),
                                ("hist", "--rows"), ("hist", "--rows-max"), ("ps", None), ("open", "--pid"), ("doctor", None)):
            words = [command, f"{option}=-1"] if option else [command, "--", "-1"]
            self.assert_usage_error(words, f'{option or "PID"}: "-1" is not a ', "whole number")

    def test_a_number_that_is_too_large_is_shown_with_the_limit(self):
        for pid in ("4294967296", "99999999999999999999"):
            self.assert_usage_error(["ps", pid], f'PID: "{pid}" is not a whole number from 1 to 4294967295')

    def test_an_option_takes_no_argument_that_follows_its_own(self):
        for option in (["--pid", "1"], ["--where", "a=b"], ["--host", "a.example"]):
            self.assert_usage_error(["serve", *option, "127.0.0.1:0", "more"], "more", "not expected")

    def test_a_pid_without_a_process_is_an_error(self):
        none = "4194305"  # a pid has 22 bits
        path = os.path.join(tempfile.gettempdir(), "nopspan-never-written")
        for words in (["ps", none], ["open", "--pid", none], ["doctor", none], ["hist", "--pid", none], ["trace", "--pid", none],
                      ["top", "--pid", none], ["record", path, "--pid", none]):
            self.assert_usage_error(words, f"there is no process {none} in this pid namespace")
        self.assertFalse(os.path.exists(path))

    def test_processes_of_another_pid_namespace_in_proc_are_an_error(self):
        command = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
        if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("this kernel gives users no namespaces")
        for word in ("ps", "doctor"):
            done = subprocess.run([*command, PROGRAM, word], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  check=False, timeout=60)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("/proc is not mounted, or belongs to another pid namespace", done.stderr)

    def test_a_core_file_whose_memory_is_damaged_is_a_failure(self):
        core = (SOURCE / "tests/fuzz/seeds/open_spans/core").read_bytes()[1:]
        slabs_at = core.index(b"NSPNGATE") + 8
        with tempfile.NamedTemporaryFile() as file:
            file.write(core)
            file.flush()
            whole = run("open", file.name)
            self.assertEqual((whole.returncode, whole.stderr), (0, ""))
            self.assertIn("request > step", whole.stdout)
            file.seek(slabs_at)
            file.write((1).to_bytes(8, "little"))
            file.flush()
            damaged = run("open", file.name)
        self.assertEqual((damaged.returncode, damaged.stdout), (1, ""))
        self.assertIn(f"nopspan: {file.name}: its memory is damaged\n", damaged.stderr)

    def test_an_empty_list_is_not_called_complete_if_requests_may_be_unknown(self):
        core = bytearray((SOURCE / "tests/fuzz/seeds/open_spans/core").read_bytes()[1:])
        raised_at = core.index(b"NSPNGATE") + 40
        free_at = core.index((0x5000).to_bytes(8, "little") + (~3 & (1 << 64) - 1).to_bytes(8, "little")) + 8
        core[free_at] = 0xff  # no span is open
        gate_at = core.index(b"NSPNGATE") - 72
        raised = core[gate_at:gate_at + 8]
        for gate, raised_ns, text in ((raised, 1, "No request is in flight.\n"), (raised, 1000, "No known request is in flight.\n"),
                                      (bytes(8), 1, "its requests are not recorded. Start it with NOPSPAN_KEEP_OPEN=1, or "
                                                    "attach to it with nopspan open --watch\n")):
            core[gate_at:gate_at + 8] = gate
            core[raised_at:raised_at + 8] = raised_ns.to_bytes(8, "little")
            with self.subTest(text), tempfile.NamedTemporaryFile() as file:
                file.write(core)
                file.flush()
                done = run("open", file.name)
                self.assertEqual((done.returncode, done.stdout), (0, ""))
                self.assertTrue(done.stderr.endswith(text), done.stderr)

    def test_the_id_of_a_thread_is_an_error(self):
        ends, ids = threading.Event(), queue.Queue()

        def wait():
            ids.put(str(threading.get_native_id()))
            ends.wait()
        thread = threading.Thread(target=wait)
        thread.start()
        try:
            number = ids.get(timeout=60)
            for words in (["ps", number], ["doctor", number], ["hist", "--pid", number], ["trace", "--pid", number]):
                self.assert_usage_error(words, f"{number} is a thread of process {os.getpid()}")
        finally:
            ends.set()
            thread.join()

    def test_an_empty_value_is_not_taken_for_none(self):
        for option in ("--request", "--name", "--model", "--tenant", "--error", "--cgroup", "--from", "--binary", "--metrics"):
            self.assert_usage_error(["trace", option, ""], f"{option}: the value must not be empty")
        for command in ("record", "replay", "open"):
            self.assert_usage_error([command, ""], "FILE: the value must not be empty")
        for command, option in (("trace", "--duration"), ("hist", "--interval")):
            for none in ("0s", "0.1ns"):
                self.assert_usage_error([command, option, none], f"{option}: must be greater than 0")

    def test_no_file_gets_the_number_of_a_standard_output_that_is_closed(self):
        command = ["sh", "-c", 'exec "$0" replay - >&- 2>&-', PROGRAM]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            def files():
                with contextlib.suppress(FileNotFoundError):
                    return [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (1, 2)]
            wait_until(lambda: files() == ["/dev/null"] * 2, "both to be /dev/null", seen=files)
            process.stdin.close()
            self.assertNotEqual(process.wait(60), 0)

    def test_the_end_of_its_terminal_does_not_end_it_under_nohup(self):
        for ignored in (True, False):
            def ignore(wanted=ignored):
                signal.signal(signal.SIGHUP, signal.SIG_IGN if wanted else signal.SIG_DFL)
            with self.subTest(ignored), subprocess.Popen([PROGRAM, "replay", "-"], stdin=subprocess.PIPE, text=True,
                                                         stderr=subprocess.PIPE, preexec_fn=ignore) as process:
                last = signal.SIGTERM if ignored else signal.SIGHUP  # the last handler that the program sets

                def handles(number=last):
                    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                    return int(re.search(r"SigCgt:\t(\w+)", status)[1], 16) >> (number - 1) & 1
                wait_until(handles, "a handler")
                process.send_signal(signal.SIGHUP)
                if not ignored:
                    process.wait(60)
                said = process.communicate(timeout=60)[1]
                self.assertIn("the file is empty" if ignored else "stopped before anything was read", said)

    def test_what_was_typed_is_printed_as_plain_text(self):
        self.assert_usage_error(["trace", "--x\x1b[31m"], r"--x\x1b[31m")
        self.assert_usage_error(["trace", "--slower-than", "\x1b]0;x\x07"], r"\x1b]0;x\x07")
        for words in (["replay"], ["open"], ["trace", "--from"], ["trace", "--binary"]):
            self.assert_usage_error([*words, "/\x1b[31m"], r"/\x1b[31m: No such file or directory")

    def test_no_command_gets_the_help(self):
        done = run()
        self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", help_of()))

    def test_output_that_does_not_arrive_is_a_failure(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = run("--help", stdout=full)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "nopspan: stdout: No space left on device\n")

    def test_a_file_that_may_not_grow_is_a_failure(self):
        with tempfile.TemporaryFile() as file:
            done = run("--help", stdout=file, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
        self.assertEqual((done.returncode, done.stderr), (1, "nopspan: stdout: File too large\n"))

    def test_a_closed_stdout_is_a_failure(self):
        done = subprocess.run(["sh", "-c", '"$0" --help >&-', PROGRAM], stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (1, "nopspan: stdout: Bad file descriptor\n"))

    def test_output_needs_no_thread(self):
        # Root may have more threads than the limit says.
        options = {"user": 65534, "cwd": "/"} if os.geteuid() == 0 else {}
        if os.geteuid() == 0 and not self.may_run(65534):
            self.skipTest("another user cannot run the program")
        # A sanitizer's leak checker would need a process.
        options["env"] = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        done = run("--version", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)), **options)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, run("--version").stdout, ""))

    @staticmethod
    def may_run(user):
        return subprocess.run(["test", "-x", PROGRAM], user=user, cwd="/", check=False).returncode == 0

    def test_a_reader_that_goes_away_ends_it_quietly(self):
        reader, writer = os.pipe()
        os.close(reader)
        done = run("--help", stdout=writer)
        os.close(writer)
        self.assertEqual((done.returncode, done.stderr), (-13, ""))


class Shell(unittest.TestCase):
    """Completion in one shell. The working folder has some files, and the program is on the shell's PATH as
    `nopspan`."""

    shell = None

    def setUp(self):
        if self.shell is None or shutil.which(self.shell) is None:
            self.skipTest(f"{self.shell} is not installed")
        self.folder = tempfile.mkdtemp(prefix="nopspan-completion-")
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("spans.rec", "spans two.rec", "other"):
            Path(self.folder, name).touch()
        self.script = Path(self.folder, ".script")
        shutil.copy(SOURCE / "packaging" / f"completion.{self.shell}", self.script)
        self.programs = tempfile.mkdtemp(prefix="nopspan-program-")
        self.addCleanup(shutil.rmtree, self.programs)
        os.symlink(PROGRAM, os.path.join(self.programs, "nopspan"))

    def run_shell(self, code, *arguments):
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": self.folder, "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        done = subprocess.run([self.shell, "-c", code, *arguments], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, text=True, check=False, timeout=60, env=environment)
        self.assertEqual(done.stderr, "")
        return done.stdout.splitlines()


class Completes:
    """Tests for every shell. `complete(words)` returns what the shell offers for the last word."""

    def test_commands(self):
        self.assertLessEqual(set(commands()), set(self.complete("")))
        self.assertEqual(self.complete("tra"), ["trace"])

    def test_every_option_of_every_command(self):
        for command in commands():
            with self.subTest(command=command):
                offered = {word for word in self.complete(command, "--") if word.startswith("--")}
                wanted = {word for word in options_in(help_of(command)) if word.startswith("--")}
                self.assertLessEqual(wanted, {word.rstrip("=") for word in offered})

    def test_files(self):
        self.assertEqual(sorted(self.complete("trace", "--from", "sp")), ["spans two.rec", "spans.rec"])
        for command in ("replay", "open"):
            self.assertEqual(self.complete(command, "ot"), ["other"])

    def test_nothing_where_nothing_is_known(self):
        self.assertEqual(self.complete("trace", "--name", ""), [])

    def test_values_that_help_lists(self):
        listed = re.search(r"(?m)^  --of .*\{(.*)\}", help_of("hist"))[1].split(",")
        self.assertEqual(sorted(self.complete("hist", "--of", "")), sorted(listed))
        self.assertEqual(self.complete("hist", "--of", listed[0][:-1]), listed[:1])


class Bash(Completes, Shell):
    shell = "bash"

    def complete(self, *words):
        # Readline makes each = a word of its own, and calls the function that `complete` registered.
        code = r"""source ./.script
complete -p nopspan >/dev/null || exit 1
COMP_WORDS=(nopspan "$@") COMP_CWORD=$#
_nopspan nopspan "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""
        return [word for word in self.run_shell(code, "bash", *words) if word]

    def test_a_value_behind_an_equals_sign(self):
        self.assertEqual(sorted(self.complete("trace", "--from", "=", "sp")), ["spans two.rec", "spans.rec"])
        self.assertLessEqual({"spans.rec", "spans two.rec", "other"}, set(self.complete("trace", "--from", "=")))

    def test_a_key_pressed_in_a_real_terminal(self):
        """Interactive bash in a pseudo terminal: the test types words and TAB, and checks the completed command
        line."""
        import pty  # pylint: disable=import-outside-toplevel
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.folder)
            os.environ.update({"PATH": f"{self.programs}:{os.environ['PATH']}", "PS1": "$ ", "HOME": self.folder, "TERM": "dumb"})
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        os.write(terminal, b"source ./.script; nopspan() { printf '<%s>' \"$@\"; echo; }\n")
        os.write(terminal, b"nopspan tra\t--slower-th\t2s --from oth\t\nexit\n")
        seen = b""
        try:
            while chunk := os.read(terminal, 4096):
                seen += chunk
        except OSError:
            pass  # bash has ended and closed its side of the terminal
        os.waitpid(child, 0)
        os.close(terminal)
        self.assertIn(b"<trace><--slower-than><2s><--from><other>", seen)


class Fish(Completes, Shell):
    shell = "fish"

    def complete(self, *words):
        line = " ".join(["nopspan", *words])
        offered = self.run_shell("source ./.script; complete -C $argv[1]", line)
        return [word.split("\t")[0].replace("\\ ", " ") for word in offered]


class Zsh(Completes, Shell):
    """zsh completes only on a terminal, so it runs in a pseudo terminal of its own zpty module."""

    shell = "zsh"

    def complete(self, *words):
        os.makedirs(os.path.join(self.folder, "functions"), exist_ok=True)
        shutil.copy(self.script, os.path.join(self.folder, "functions", "_nopspan"))
        # Every completion ends in a call of compadd. This replacement prints what would be offered.
        code = r"""
zmodload zsh/zpty
zpty inner 'PS1= zsh -f -i'
zpty -w inner 'fpath=($PWD/functions $fpath); autoload -U compinit; compinit -u -D; setopt no_beep'
zpty -w inner 'compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a offered; builtin compadd -O offered "$@"; print -l -- $offered >> '$1'
  builtin compadd "$@"
}'
zpty -w inner 'finish() { print -r -- done >> '$1'; exit; }; zle -N finish; bindkey "^X" finish; bindkey "^I" complete-word'
zpty -w -n inner "$2"$'\t\x18'
while zpty -r inner line 2>/dev/null; do :; done
zpty -d inner
"""
        found = os.path.join(self.folder, ".offered")
        Path(found).write_text("", encoding="utf-8")
        self.run_shell(code, "zsh", found, " ".join(["nopspan", *words]))
        offered = Path(found).read_text(encoding="utf-8").splitlines()
        self.assertEqual(offered[-1:], ["done"])
        seen = []
        for word in offered[:-1]:
            if word and word not in seen:
                seen.append(word)
        return seen


class Json(unittest.TestCase):
    def test_may_stand_before_and_behind_the_command(self):
        if "ps" not in commands():
            self.skipTest("there is no ps")
        for words in (["--json", "ps"], ["ps", "--json"]):
            done = run(*words)
            self.assertIsInstance(json.loads(done.stdout), (dict, list), done.stderr)


class Locale(unittest.TestCase):
    """In Turkish, "I" is not the capital letter of "i". In German, a number has a comma."""

    @classmethod
    def setUpClass(cls):
        if shutil.which("localedef") is None or not os.path.exists("/usr/share/i18n/locales/tr_TR"):
            raise unittest.SkipTest("no sources of locales (package locales)")
        cls.folder = tempfile.TemporaryDirectory(prefix="nopspan-locale-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.names = {"tr_TR.UTF-8": ("tr_TR", "UTF-8"), "tr_TR": ("tr_TR", "ISO-8859-9"), "de_DE.UTF-8": ("de_DE", "UTF-8")}
        for name, (language, characters) in cls.names.items():
            subprocess.run(["localedef", "--inputfile", language, "--charmap", characters, os.path.join(cls.folder.name, name)],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def environments(self):
        # glibc does not free the path of LOCPATH, which is a leak to the address sanitizer.
        return [{**os.environ, "LOCPATH": self.folder.name, "LC_ALL": name, "ASAN_OPTIONS": "detect_leaks=0"}
                for name in ("C.UTF-8", *self.names)]

    def test_options_and_variables_have_the_same_meaning(self):
        missing = os.path.join(self.folder.name, "missing.rec")
        for environment in self.environments():
            with self.subTest(locale=environment["LC_ALL"]):
                done = run("export", "--from", missing, "--otlp", "http://127.0.0.1:9", "--compression", "GZIP", "--protocol",
                           "HTTP/JSON", "--slower-than", "0.5s", env=environment)
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn("missing.rec: No such file", done.stderr)
                done = run("export", "--otlp", "http://127.0.0.1:9", "--header", "CONTENT-ENCODING=x", env=environment)
                self.assertIn("nopspan itself sets the header 'CONTENT-ENCODING'", done.stderr)

    def test_a_client_may_write_in_capital_letters(self):
        for environment in self.environments():
            with self.subTest(locale=environment["LC_ALL"]):
                self.check_capital_letters(environment)

    def check_capital_letters(self, environment):
        command = [PROGRAM, "serve", "127.0.0.1:0", "--host", "I.example", "--from",
                   "unix:" + os.path.join(self.folder.name, "socket")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            try:
                while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/metrics", process.stderr.readline())):
                    self.assertIsNone(process.poll())
                connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
                connection.request("GET", "/metrics", headers={
                    "Host": "i.EXAMPLE", "Accept": "APPLICATION/OPENMETRICS-TEXT", "Accept-Encoding": "GZIP"})
                answer = connection.getresponse()
                self.assertEqual((answer.status, answer.headers["Content-Encoding"]), (200, "gzip"))
                self.assertIn("application/openmetrics-text", answer.headers["Content-Type"])
                connection.close()
            finally:
                process.terminate()


if __name__ == "__main__":
    unittest.main()
