#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`nopspan top` with spans that the test invents. On a terminal, tmux types the keys and reads the screen back. Without
a terminal, the tests read stdout."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import unicodedata
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import ability
import tmux

PROGRAM = os.environ.get("NOPSPAN_TOP_PROGRAM", "build/dev/tests/collector/top_program")


class Driven:
    """The program, with a pipe on which the test sends it spans."""

    def __init__(self, *arguments):
        self.command = [os.path.abspath(PROGRAM), "--window", "60", *arguments]
        self.folder = tempfile.TemporaryDirectory()
        paths = [os.path.join(self.folder.name, name) for name in ("commands", "answers")]
        for path in paths:
            os.mkfifo(path)
        # Opening both ends, so that open() does not block.
        self.commands = os.open(paths[0], os.O_RDWR)
        self.answers = os.open(paths[1], os.O_RDWR)
        self.environment = {"NOPSPAN_TEST_COMMANDS": paths[0], "NOPSPAN_TEST_ANSWERS": paths[1], "TZ": "UTC",
                            "LC_ALL": "C.UTF-8"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.commands)
        os.close(self.answers)
        self.folder.cleanup()

    def send(self, *commands):
        for command in commands:
            os.write(self.commands, (command + "\n").encode())
            if not select.select([self.answers], [], [], tmux.PATIENCE_S)[0]:
                raise AssertionError("no answer to " + command)
            assert os.read(self.answers, 5) == b"done\n"

    def tell_last(self, command):
        """Sends a command that the program may not answer before it ends."""
        os.write(self.commands, (command + "\n").encode())


class Top(Driven):
    """The program on a terminal."""

    def __init__(self, *arguments, width=160, height=30, env=None):
        super().__init__(*arguments)
        environment = {**self.environment, "TERM": "screen-256color", **(env or {})}
        self.terminal = tmux.Terminal(self.command, width, height, environment)

    def __enter__(self):
        self.terminal.__enter__()
        return self

    def __exit__(self, *failure):
        self.terminal.__exit__(*failure)
        super().__exit__(*failure)

    def names(self, lines=None):
        """The first word of each row of the table."""
        lines = self.terminal.screen() if lines is None else lines
        heads = [i for i, line in enumerate(lines) if re.match(r"(NAME|MODEL|TENANT|PROCESS|ENGINE)\b", line)]
        found = []
        for line in lines[heads[0] + 1:] if heads else []:
            if not line or line.startswith(("< > sort", "other ", "/")):
                break
            found.append(line.split()[0])
        return found

    def wait_for_names(self, *names):
        self.terminal.wait_for(lambda lines: self.names(lines) == list(names), "rows " + " ".join(names))

    def program(self):
        pid = self.terminal.pid()
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as children:
            return int(children.read().split()[0])


THREE = ("span slow m 1 9000000", "span usual m 5 2000000", "span quick other-model 20 1000 error", "pass 10")


class ScreenTest(unittest.TestCase):

    def top(self, *arguments, **options):
        top = Top(*arguments, **options)
        self.enterContext(top)
        return top

    def three_rows(self, *arguments, **options):
        top = self.top(*arguments, **options)
        top.send(*THREE)
        top.wait_for_names("quick", "usual", "slow")
        return top

    def test_shows_rates_times_and_errors_of_each_row(self):
        top = self.three_rows()
        top.terminal.wait_for(lambda lines: "22:13:30" in lines[0], "ten seconds passed")
        lines = top.terminal.screen()  # read again, because the wait may have seen a half-drawn screen
        self.assertIn("2.6 spans/s", lines[0])
        self.assertIn("2 errors/s", lines[0])
        self.assertIn("1 process", lines[0])
        self.assertIn("26 delivered, none lost, buffer 16 MiB", lines[1])
        self.assertIn("last 10.0 s; by name,model; sorted by spans; every 2.00 s; 3 rows", lines[2])
        row = next(line for line in lines if line.startswith("quick"))
        self.assertEqual(row.split()[:4], ["quick", "other-model", "2", "999"])
        self.assertRegex(row, r"quick +other-model +2 +999 ns +999 ns +1.00 us +1.00 us +2 +100 +0 +0 +0 +- +- +0$")

    def test_sorts_by_the_column_on_the_right_and_on_the_left_and_reverses(self):
        top = self.three_rows()
        top.terminal.type(">")
        top.wait_for_names("slow", "usual", "quick")
        top.terminal.wait_for_text("sorted by p50")
        top.terminal.type("r")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.type("r", "<")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.type("Left", "Left")
        top.wait_for_names("quick", "slow", "usual")
        top.terminal.type("Right")
        top.wait_for_names("slow", "usual", "quick")
        top.terminal.wait_for_text("sorted by model")

    def test_filters_by_name_and_model_while_it_is_typed(self):
        top = self.three_rows()
        top.terminal.type("/")
        top.terminal.write("USU")
        top.wait_for_names("usual")
        top.terminal.wait_for_text("1 of 3 rows")
        top.terminal.type("BSpace", "BSpace", "BSpace")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.write("other-m")
        top.terminal.type("Enter")
        top.wait_for_names("quick")
        # The keys go to the table again, not to the filter.
        top.terminal.type("r")
        top.terminal.wait_for_text("reversed")
        top.terminal.type("Escape")
        top.wait_for_names("slow", "usual", "quick")

    def test_filters_by_letters_beyond_ascii(self):
        top = self.three_rows()
        top.send("span Größe m 1 1", "span 模型 m 1 1", "pass 2")
        top.terminal.type("/")
        top.terminal.write("öß")
        top.wait_for_names("Größe")
        top.terminal.type("BSpace", "BSpace")
        top.terminal.write("模")
        top.wait_for_names("模型")

    def test_does_not_change_while_paused(self):
        top = self.three_rows()
        top.terminal.type("p")
        top.terminal.wait_for_text("PAUSED")
        top.send("span later m 100 1", "pass 10")
        # The program answers the key with the old numbers. This proves that it has processed the new spans and did not
        # show them.
        top.terminal.type("w")
        top.terminal.wait_for_text("total of 10.0 s")
        self.assertEqual(top.names(), ["quick", "usual", "slow"])
        top.terminal.type("p")
        top.wait_for_names("later", "quick", "usual", "slow")
        top.terminal.wait_without_text("PAUSED")

    def test_shows_numbers_since_the_beginning(self):
        top = self.three_rows()
        top.send("pass 100")
        top.terminal.type("i")
        top.terminal.wait_for_text("No row matches the filter.")
        top.terminal.type("w", "i")
        top.wait_for_names("quick", "usual", "slow")
        lines = top.terminal.screen()
        self.assertIn("0.236 spans/s", lines[0])
        self.assertIn("total of 1m50s", lines[2])
        self.assertIn("SPANS ", lines[3])
        self.assertRegex(next(line for line in lines if line.startswith("quick")), r"^quick +other-model +20 +999 ns")

    def test_groups_by_something_else_and_keeps_what_it_has_counted(self):
        top = self.three_rows()
        top.send("span quick other-model 4 1000 root", "pass 2")
        top.terminal.type("t")
        top.terminal.wait_for_text("by name;")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.type("t")
        top.terminal.wait_for_text("by model, root spans;")
        top.wait_for_names("other-model")
        top.terminal.type("w")
        top.terminal.wait_for(lambda lines: any(re.match(r"other-model +4 +999 ns", line) for line in lines), "its roots")
        top.terminal.type("t", "t")
        top.terminal.wait_for_text("by process, root spans;")
        top.terminal.wait_for(lambda lines: any(re.match(r"program 100 +4 ", line) for line in lines), "the process")
        top.terminal.type("t", "t")
        top.terminal.wait_for_text("by name,model;")
        top.wait_for_names("quick", "usual", "slow")

    def test_groups_by_any_key_and_back(self):
        top = self.top("--by", "route")
        top.send("span inner m 2 1", "pass 2")
        top.terminal.wait_for_text("by route, root spans;")
        top.terminal.wait_for_text("No root spans yet (see --all-spans).")
        top.terminal.type("t")
        top.terminal.wait_for_text("by name,model;")
        top.wait_for_names("inner")
        top.send("span outer m 3 1 root", "pass 2")
        top.terminal.type("w", *"tttttt")
        top.terminal.wait_for_text("by route, root spans;")
        top.terminal.wait_for(lambda lines: any(re.match(r"- +3 ", line) for line in lines), "its roots")

    def test_shows_a_rows_histogram(self):
        top = self.three_rows()
        top.send("span slow m 3 100000", "pass 2")
        top.terminal.type("Down", "Enter")
        top.terminal.wait_for_text("name usual, model m")
        top.terminal.wait_for_text("5 spans, 0 errors")
        top.terminal.wait_for(lambda lines: any(re.match(r"1\.05 ms - 2\.10 ms +5  █+$", line) for line in lines), "a bar")
        top.terminal.type("Escape")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.type("End", "Enter")
        top.terminal.wait_for_text("name slow, model m")
        top.terminal.wait_for(lambda lines: any(re.match(r"65\.5 us - 131 us +3  █+$", line) for line in lines), "a bar")
        # The histogram is updated with the table.
        top.send("span slow m 1 100000", "pass 2")
        top.terminal.wait_for(lambda lines: any(re.match(r"65\.5 us - 131 us +4  █+$", line) for line in lines), "more")

    def test_shows_gauges(self):
        top = self.three_rows()
        top.send("gauge llama.cpp kv_cache_used 12 64", "gauge llama.cpp running 3 0", "gauge vllm running 7 0", "pass 2")
        top.terminal.wait_for_text("llama.cpp program 100: kv_cache_used 12/64, running 3")
        top.send("gauge llama.cpp running 4 0", "pass 2")
        top.terminal.wait_for_text("kv_cache_used 12/64, running 4")
        top.terminal.type("g")
        top.terminal.wait_for(lambda lines: lines[3:5] == ["llama.cpp program 100: kv_cache_used 12/64, running 4",
                                                           "vllm program 100: running 7"], "all gauges")

    def test_scrolls_help_that_does_not_fit(self):
        top = self.three_rows(height=8)
        top.terminal.type("?")
        top.terminal.wait_for_text("q            quit")
        top.terminal.type("NPage", "NPage", "NPage", "NPage")
        top.terminal.wait_for_text("MAX is exact.")
        top.terminal.type("Escape")
        top.terminal.wait_without_text("MAX is exact.")

    def test_changes_the_interval(self):
        top = self.three_rows()
        for key, interval in (("+", "5.00 s"), ("-", "2.00 s"), ("-", "1.00 s"), ("-", "500 ms")):
            top.terminal.type(key)
            top.terminal.wait_for_text("every %s;" % interval)
        top.send("span later m 100 1", "pass 1")
        top.wait_for_names("later", "quick", "usual", "slow")

    def test_scrolls_rows(self):
        top = self.top(height=14)
        top.send("rows 100", "pass 10")
        top.terminal.wait_for(lambda lines: self.assert_rows(top, lines, 100, 92), "the first page")
        for keys, first, last in ((["Down"] * 10, 98, 90), (["NPage"], 89, 81), (["End"], 9, 1), (["PPage"], 10, 2),
                                  (["Home"], 100, 92)):
            top.terminal.type(*keys)
            top.terminal.wait_for(lambda lines, first=first, last=last: self.assert_rows(top, lines, first, last),
                                  "rows %d to %d" % (first, last))

    @staticmethod
    def assert_rows(top, lines, first, last):
        names = top.names(lines)
        return names[:1] == ["row-%d" % first] and names[-1:] == ["row-%d" % last]

    def test_shows_what_has_no_row(self):
        top = self.top("--rows-max", "10")
        top.send("rows 20", "pass 10")
        # Rows 11 to 20, with 155 spans in total.
        top.terminal.wait_for(lambda lines: any(re.match(r"other +15\.5 ", line) for line in lines), "other")
        top.terminal.type("w")
        top.terminal.wait_for(lambda lines: any(re.match(r"other +155 ", line) for line in lines), "other")

    def test_reports_losses_and_their_reasons(self):
        top = self.three_rows()
        top.send("lose 1234", "pass 2")
        top.terminal.wait_for_text("26 delivered, 1234 lost (1234 buffer full)")
        top.terminal.resize(20, 5)
        top.terminal.wait_for(lambda lines: lines[0].startswith("LOST 1234"), "the loss on a small screen")

    # What `nopspan top` shows while a chat service runs: long names, gauges, and numbers with many digits.
    SERVICE = ("chat agent.operator.iteration slow-model 1234 1000 200 440000000", "chat engine.request fast 99999 10 20 900",
               "span llm.tool slow-model 7 58900 error", "span engine.step \"\" 99999 307000",
               "gauge example kv_cache_total 65536 0", "gauge example kv_cache_used 209 65536", "gauge example running 12 0",
               "gauge example waiting 345 0", "pass 10")

    def test_fits_80_columns(self):
        top = self.top(width=80, height=24)
        top.send(*self.SERVICE)
        lines = top.terminal.wait_for(lambda lines: lines if any("waiting 345" in line for line in lines)
                                      and "22:13:30" in lines[0] and is_complete(lines) else None, "the whole screen")
        head = next(line for line in lines if line.startswith("NAME"))
        for title in ("SPANS/s", "P50", "P99", "ERR%", "TTFT P50", "IN TOK/s", "OUT TOK/s"):
            self.assertIn(title, head)
        self.assertNotIn("MAX", head)
        self.assertIn("(6 more columns)", lines[23])
        self.assertNotIn("…", "".join(lines[:3] + lines[20:]), lines)
        self.assertRegex("\n".join(lines), r"example program 100: kv_cache_total 65536, [^…]*\n  [^…]*waiting 345")
        self.assertIn("requests/s", lines[0])
        top.terminal.type(">", ">")
        top.terminal.wait_for(lambda lines: any(line.startswith("NAME") and "MAX" not in line and "P99" in line and "P90" in line
                                                for line in lines), "the column P90 while it is the sorted one")
        top.terminal.type("h")
        lines = top.terminal.wait_for(lambda lines: lines if any("MAX is exact" in line for line in lines) else None, "help")
        self.assertTrue(any(line.startswith("q  ") for line in lines), "all of the help is on the screen")
        self.assertNotIn("…", "\n".join(lines))

    def test_fits_a_narrow_terminal(self):
        top = self.top(width=40, height=24)
        top.send(*self.SERVICE)
        top.terminal.wait_for_text("waiting 345")
        top.terminal.type("h")
        lines = top.terminal.wait_for(lambda lines: lines if any(line.startswith("q  ") for line in lines) else None, "help")
        self.assertNotIn("…", "\n".join(lines))

    def test_follows_the_terminals_size(self):
        top = self.three_rows()
        for width, height in ((20, 5), (1, 1), (3, 2), (40, 10), (500, 200), (2, 50), (4, 20), (79, 24), (160, 30)):
            top.terminal.resize(width, height)
            top.terminal.wait_for(lambda lines, width=width, height=height: self.is_drawn_for(lines, width, height),
                                  "a screen of %d x %d" % (width, height))
        top.wait_for_names("quick", "usual", "slow")

    @staticmethod
    def is_drawn_for(lines, width, height):
        if height >= 8:
            return lines[height - 1].startswith("< > sort"[:min(width, 8) - 1])
        return lines[0] != "" and (height < 5 or lines[2].startswith("quick"))

    def test_disarms_what_a_process_wrote(self):
        top = self.top(width=120)
        for name in (r"\x1b[2J\x1b]0;title\x07", r"\xff\xfe", r"a\x0ab", "模型模型模型", "e" + "\u0301" * 40 + "z",
                     "\u202eright-to-left", "\U0001f600", "x" * 3000):
            top.send("span %s m 10 1000" % name)
        top.send("pass 10")
        rates = re.compile(r" 1 +999 ns")
        lines = top.terminal.wait_for(lambda lines: lines if len(list(filter(rates.search, lines))) == 8 else None,
                                      "eight rows, with their rates of ten seconds")
        self.assertIn(r"\x1b[2J\x1b]0;title\x07", top.names(lines))
        self.assertIn(r"\xff\xfe", top.names(lines))
        self.assertIn(r"a\x0ab", top.names(lines))
        self.assertIn("模型模型模型", top.names(lines))
        self.assertIn(r"\xe2\x80\xaeright-to-left", top.names(lines))
        # All rates are equal, and must end in the same column.
        ends = {cells(line[:rates.search(line).start()]) for line in lines if rates.search(line)}
        self.assertEqual(len(ends), 1, "\n".join(lines))

    def test_shows_question_marks_where_the_locale_has_no_such_letter(self):
        top = self.top(env={"LC_ALL": "C"})
        top.send("span Größe m 10 1000", "pass 2")
        top.wait_for_names("Gr??e")

    def test_has_color_only_if_allowed(self):
        color = re.compile(r"\x1b\[(?:[0-9;]*;)?[34][0-7][;m]")
        top = self.three_rows()
        self.assertIsNone(color.search("\n".join(top.terminal.screen("-e"))))
        top = self.three_rows("--color")
        self.assertIsNotNone(color.search("\n".join(top.terminal.screen("-e"))))

    def assert_restored(self, top, status):
        self.assertEqual(top.terminal.wait_for_end(), status)
        self.assertRegex(top.terminal.settings(), r"[ ;]icanon")
        self.assertRegex(top.terminal.settings(), r"(?m)[ ;]echo[ ;]|^echo[ ;]")
        self.assertEqual(top.terminal.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").strip(), "0 1")

    def test_restores_the_terminal_when_the_user_leaves(self):
        top = self.three_rows()
        top.terminal.type("q")
        self.assert_restored(top, 0)
        top.terminal.wait_for_text("26 entries from 0 processes: 26 delivered, none lost")

    def test_restores_the_terminal_when_its_time_is_over(self):
        top = self.top("--duration", "500ms")
        self.assert_restored(top, 0)
        top.terminal.wait_for_text("none lost")

    def test_restores_the_terminal_when_the_source_fails(self):
        top = self.three_rows()
        top.tell_last("fail misfortune")
        self.assert_restored(top, 1)
        top.terminal.wait_for_text("top: misfortune")

    def test_restores_the_terminal_after_signals(self):
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal_number):
                top = self.three_rows()
                os.kill(top.program(), signal_number)
                self.assert_restored(top, 0)

    def test_restores_the_terminal_after_control_c(self):
        top = self.three_rows()
        top.terminal.type("C-c")
        self.assert_restored(top, 0)

    def test_comes_back_after_control_z(self):
        top = self.three_rows()
        top.terminal.type("C-z")
        top.terminal.wait_for_text("it is stopped")
        self.assertEqual(top.terminal.tmux("display-message", "-p", "#{alternate_on}").strip(), "0")
        top.terminal.type("Enter")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.type("q")
        self.assert_restored(top, 0)

    def test_keeps_messages_until_the_terminal_is_restored(self):
        top = self.three_rows()
        top.send("say a-message-on-stderr", "span later m 100 1", "pass 2")
        top.wait_for_names("later", "quick", "usual", "slow")
        self.assertFalse([line for line in top.terminal.screen() if "a-message" in line])
        top.terminal.type("q")
        self.assert_restored(top, 0)
        top.terminal.wait_for_text("a-message-on-stderr")

    def test_says_that_nothing_in_a_recording_has_matched(self):
        top = self.top("--from", "recording", "--model", "nosuch")
        top.send(*THREE)
        top.tell_last("end")
        top.terminal.wait_for_text("Nothing has matched --model nosuch.")

    def test_keeps_a_recording_on_the_screen_and_groups_it(self):
        top = self.top("--from", "recording")
        top.send(*THREE)
        top.terminal.wait_for_text("Reading the recording…")
        top.tell_last("end")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.wait_for_text("end of the recording")
        top.terminal.type("Enter")
        top.terminal.wait_for_text("20 spans, 20 errors")
        top.terminal.type("Escape", "t")
        top.terminal.wait_for_text("by name;")
        top.wait_for_names("quick", "usual", "slow")
        top.terminal.type("q")
        self.assert_restored(top, 0)


class StalledTest(unittest.TestCase):
    def test_ends_while_the_terminal_takes_no_output(self):
        for signal_number in (signal.SIGINT, signal.SIGTERM, None):
            with self.subTest(signal_number), Driven("--duration", "1h" if signal_number else "1s") as top:
                screen, terminal = os.openpty()
                before = termios.tcgetattr(terminal)
                environment = {**os.environ, **top.environment, "TERM": "xterm"}
                with subprocess.Popen(top.command, env=environment, stdin=terminal, stdout=terminal,
                                      stderr=subprocess.PIPE, text=True) as program:
                    try:
                        top.send("span drawn m 1 1", "pass 10")
                        seen = b""
                        while b"drawn" not in seen:
                            seen += os.read(screen, 4096)
                        termios.tcflow(terminal, termios.TCOOFF)  # as Ctrl-S does
                        if signal_number:
                            program.send_signal(signal_number)
                        said = program.communicate(timeout=tmux.PATIENCE_S)[1]
                    finally:
                        program.kill()
                self.assertEqual((program.returncode, said), (1, "1 entry from 0 processes: 1 delivered, none lost\n"))
                self.assertEqual(termios.tcgetattr(terminal)[:4], before[:4])
                os.close(screen)
                os.close(terminal)


class Piped(Driven):
    """The program without a terminal."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.process = subprocess.Popen(self.command, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        return self.rest()

    def rest(self):
        """Its exit status, and the rest of stdout and stderr."""
        out, errors = self.process.communicate(timeout=tmux.PATIENCE_S)
        return self.process.returncode, out, errors

    def table(self):
        """The lines of one table."""
        return list(iter(lambda: self.process.stdout.readline().rstrip("\n"), ""))

    def __exit__(self, *failure):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        super().__exit__(*failure)


class PipedTest(unittest.TestCase):

    def piped(self, *arguments):
        return self.enterContext(Piped(*arguments))

    def test_prints_a_table_each_interval_and_one_at_its_end(self):
        top = self.piped()
        top.send(*THREE[:3], "pass 2")
        first = top.table()
        self.assertRegex(first[0], r"^22:13:22\.\d+  host  13 spans/s, 0 requests/s, 10 errors/s, 1 process \(2\.00 s\)$")
        self.assertEqual(first[1], "26 delivered, none lost")
        self.assertEqual([line.split()[0] for line in first[2:]], ["NAME", "quick", "usual", "slow"])
        top.send("pass 2")
        self.assertRegex(top.table()[0], r"^22:13:24\.\d+  host  6\.5 spans/s")
        top.send("span later m 1000 1")
        status, out, errors = top.stop()
        self.assertEqual(status, 0)
        self.assertEqual([line.split()[0] for line in out.splitlines()[2:] if line], ["NAME", "later", "quick", "usual", "slow"])
        self.assertEqual(errors, "1026 entries from 0 processes: 1026 delivered, none lost\n")
        self.assertNotIn("\x1b", out + errors)

    def test_ends_after_as_many_tables_as_wanted(self):
        top = self.piped("--count", "2", "--interval", "1s")
        top.send("span a m 1 1", "pass 1")
        top.tell_last("pass 100")
        status, out, _ = top.rest()
        self.assertEqual(status, 0)
        self.assertEqual(out.count("NAME"), 2)

    def test_writes_an_object_a_line(self):
        top = self.piped("--json", "--by", "model,name")
        top.send(r"chat llm.chat m\xff 10 100 20 40000000", "lose 3", "pass 2", "span db.query m 4 20 error", "pass 2")
        status, out, errors = top.stop()
        self.assertEqual(status, 0)
        self.assertEqual(errors.splitlines()[0], "17 entries from 0 processes: 14 delivered, 3 lost")
        tables = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([table["last"] for table in tables], [False, False, True])
        self.assertEqual([table["time_unix_ns"] for table in tables],
                         [1700000002 * 10**9, 1700000004 * 10**9, 1700000004 * 10**9])
        chat, query = tables[2]["rows"]
        self.assertEqual((chat["name"], query["name"]), ("llm.chat", "db.query"))
        self.assertEqual(list(chat)[:2], ["model", "name"])
        self.assertEqual(chat["total"]["input_tokens"], 1000)
        self.assertEqual(chat["window"]["output_tokens_per_s"], 50)
        self.assertEqual(query["total"]["errors"], 4)
        self.assertEqual(tables[2]["ledger"]["lost"], 3)

    def test_prints_a_recording_as_one_table(self):
        top = self.piped("--from", "recording")
        top.send(*THREE, "pass 1000")
        top.tell_last("end")
        status, out, _ = top.rest()
        self.assertEqual(status, 0)
        self.assertEqual(out.count("NAME"), 1)
        self.assertRegex(out, r"\nquick +other-model +20 ")

    def test_sorts_and_limits_rows_by_options(self):
        top = self.piped("--sort", "max", "--rows", "2", "--total")
        top.send(*THREE[:3], "pass 2")
        table = top.table()
        self.assertEqual([line.split()[0] for line in table[2:]], ["NAME", "slow", "usual", "and"])
        self.assertEqual(table[-1], "and 1 more rows")

    def test_reports_errors_and_fails_where_it_must(self):
        top = self.piped()
        top.send("span a m 1 1")
        top.tell_last("fail misfortune")
        self.assertEqual(top.rest(), (1, "", "top: misfortune\n"))

    def test_ends_when_its_reader_is_gone(self):
        top = self.piped()
        top.process.stdout.close()
        top.send("span a m 1 1")
        top.tell_last("pass 2")
        self.assertIn(top.process.wait(tmux.PATIENCE_S), (0, -signal.SIGPIPE))


class PlainTest(unittest.TestCase):

    def test_fits_a_terminal_without_a_screen(self):
        top = self.enterContext(Top(width=80, height=40, env={"TERM": "dumb"}))
        top.send(*ScreenTest.SERVICE[:-1], "pass 2")
        lines = top.terminal.wait_for(lambda lines: lines if any("waiting 345" in line for line in lines) else None, "a table")
        self.assertTrue(any(line.startswith("agent.op") and line.endswith("ms") for line in lines), lines)
        self.assertTrue(any(line.startswith("and 6 more columns") for line in lines), lines)
        head = next(line for line in lines if line.startswith("NAME"))
        # A line that the terminal breaks would continue at its left edge.
        following = lines[lines.index(head) + 1]
        self.assertRegex(following, r"^(engine|agent|llm)")

    def test_prints_text_on_a_terminal_where_that_is_wanted(self):
        for arguments, env in ((["--plain"], {}), ([], {"TERM": "dumb"}), ([], {"TERM": "no-such-terminal"})):
            with self.subTest(arguments=arguments, env=env):
                top = self.enterContext(Top(*arguments, env=env))
                top.send(*THREE[:3], "pass 2")
                top.terminal.wait_for_text("quick  other-model")
                self.assertEqual(top.terminal.tmux("display-message", "-p", "#{alternate_on}").strip(), "0")
                top.terminal.type("C-c")
                self.assertEqual(top.terminal.wait_for_end(), 0)


def is_complete(lines):
    """Whether the line with the keys, which is drawn last, is there."""
    return any(line.startswith("< > sort") for line in lines)


def cells(text):
    """The width in terminal cells, as tmux draws it."""
    wide = sum(1 for letter in text if unicodedata.east_asian_width(letter) in "WF")
    return len(text) + wide - sum(1 for letter in text if unicodedata.combining(letter))


if __name__ == "__main__":
    ability.need("tmux")
    unittest.main()
