# SPDX-License-Identifier: Apache-2.0
"""The examples in README.md and scripts/README.md have the form of today's output: of each kind of line in an example, this
run printed one too. With NOPSPAN_WRITE_EXAMPLES=1 the tests write this run's output there instead; for the picture they
need Debian's python3-rich. And the scripts that other tests run by attach.sh alone run as they are."""

import contextlib
import html
import os
import re
import subprocess
import sys

import example_service
import installed
from example_service import Agent, Server
from harness import (BUILD, INSTALLED, NOPSPAN, SOURCE, Program, Test, among_own_processes, is_among_own_processes,
                     nopspan)
from project_script import Script

README = os.path.join(SOURCE, "scripts", "README.md")
WRITE = os.environ.get("NOPSPAN_WRITE_EXAMPLES") == "1"
PICTURE = "nopspan trace --name llm.tool --limit 1"
COLUMNS = 100
TERMINAL = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm"}
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
# Rich's own format loads a font from the network.
SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
LEFT_OUT = "..."
# How many rows an example keeps of a map: the last ones, which have the largest values.
MOST_ROWS = 4


def totals(lines):
    """What spans.bt prints at its end: the last rows of each map, and the first histogram."""
    begin = max(number for number, line in enumerate(lines) if line.startswith("Totals of "))
    kept, rows, bars = [], {}, 0
    for line in filter(None, map(str.rstrip, lines[begin:])):
        name = re.match(r"@\w+", line)
        if name and not line.endswith(":"):
            rows.setdefault(name[0], []).append(line)
        elif name or line.startswith(("[", "(")):
            bars += bool(name)
            if bars == 1:
                kept.append(line)
        else:
            kept.append(line)
    for of in rows.values():
        kept += [LEFT_OUT] * (len(of) > MOST_ROWS) + of[-MOST_ROWS:]
    return kept


def by_request(lines, pattern):
    """{request id: its lines}; the first group of the pattern is the id."""
    found = {}
    for line in lines:
        row = re.match(pattern, line)
        if row:
            found.setdefault(row[1], []).append(line)
    return found


def caption(lines):
    return [line for line in lines if "REQUEST_ID" in line][:1]


def one_request(lines):
    """The request with a retry and the fewest other lines."""
    whole = [rows for rows in by_request(lines, r" *\d+ +\d+ (\S+) ").values() if " + llm.chat" in rows[0] and
             " - llm.chat" in rows[-1]]
    return caption(lines) + min(whole, key=lambda rows: ("retry" not in "".join(rows), len(rows)))


def slow_request(lines):
    found = by_request(lines, r" *\d+ +\d+ (\S+) ").values()
    return caption(lines) + max((rows for rows in found if len(rows) <= 12), key=len)


def most_open(lines):
    blocks = "\n".join(lines).strip().split("\n\n")
    return max((block for block in blocks if "open requests" in block), key=lambda block: block.count("@")).strip().split("\n")[:6]


# The scripts with an example: their arguments, and which part of the output to show.
EXAMPLES = {"spans.bt": ((), totals), "trace.bt": ((), one_request), "slow.bt": ((50,), slow_request),
            "inflight.bt": ((), most_open)}


def form(line):
    """A line without its numbers, ids and names."""
    entry = re.match(r"(@\w+)(?:\[(.*)\])?:", line)
    if entry:
        return "%s[%d]" % (entry[1], entry[2].count(", ") + 1 if entry[2] is not None else 0)
    if re.match(r"[\[(].*\|[@ ]*\|$", line):
        return "histogram"
    if re.match(r" *\d+ ", line):
        kind = re.search(r" ([-+.]|. (?:first token|retry)) |\*", line)
        return "row " + (kind[0].strip() if kind else "")
    return re.sub(r"\d+", "N", line)


class Examples(Test):
    def test_each_is_of_the_form_of_this_run(self):
        with contextlib.ExitStack() as stack:
            scripts = {name: stack.enter_context(Script(name, *arguments, library=None)) for name, (arguments, _) in EXAMPLES.items()}
            with Server(self.temporary_folder(), "--fail-rate", "0.1", "--cut-rate", "0.05", "--seed", "7",
                        "--token-delay-us", "1000") as server:
                for organization in ("acme", "globex"):
                    Agent(server.url, "--organization", organization, "--requests", "40", "--concurrency", "4",
                          "--max-attempts", "12")
                scripts["inflight.bt"].wait_for(lambda: Agent(server.url, "--requests", "8", "--concurrency", "4"), ["^@open_ms"])
            printed = {name: script.stop() for name, script in scripts.items()}
        with open(README, encoding="utf-8") as file:
            text = file.read()
        for name, lines in printed.items():
            example = re.search(r"(?ms)^### %s\n(?:(?!^### ).)*?^```text\n(.*?)^```$" % re.escape(name), text)
            if WRITE:
                new = "".join(line.rstrip() + "\n" for line in EXAMPLES[name][1](lines))
                text = text[:example.start(1)] + new + text[example.end(1):]
                continue
            shown = {form(line): line for line in example[1].splitlines() if line != LEFT_OUT}
            self.assertTrue(shown, name)
            forms = {form(line) for line in lines}
            self.assertEqual([line for key, line in shown.items() if key not in forms], [], "no longer printed by " + name)
        with open(README, "w", encoding="utf-8") as file:
            file.write(text)


def place(line):
    """Where the line of a tree stands, and its name, without ids, times and numbers."""
    if re.match(r"[\w-]{22} ", line):
        return "request"
    return re.sub(r"\d+", "N", re.split(r"(?<=\w)  |,", line.rpartition("▏")[2].strip())[0])


def svg_of(printed):
    # pylint: disable=import-outside-toplevel,import-error
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text("# " + PICTURE, style="bold"))
        console.print(Text.from_ansi(printed.replace("\r\n", "\n").rstrip()))
    svg = console.export_svg(title="", theme=MONOKAI, code_format=SVG, unique_id="trace")
    return "\n".join(filter(None, map(str.strip, svg.splitlines()))) + "\n"


class Readme(Test):
    def example(self, name, printed, is_picture=False):
        """The places of the lines of the tree in a file."""
        path = os.path.join(SOURCE, name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if WRITE:
            text = svg_of(printed) if is_picture else re.sub("(?ms)(?<=^```text\n).*?(?=^```$)", lambda _: printed, text)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        if is_picture:
            rows = re.findall(r'<text [^>]* y="([\d.]+)"[^>]*>(.*?)</text>', text)
            texts = {y: "".join(html.unescape(part) for at, part in rows if at == y).replace("\xa0", " ") for y, _ in rows}
            lines = [line for line in texts.values() if "▕" in line]
        else:
            lines = re.search("(?ms)^```text\n(.*?)^```$", text)[1].splitlines()
        return [place(line) for line in lines]

    def test_the_first_program(self):
        """Traced, and without any capability by its own recording."""
        hello, recording = os.path.join(BUILD, "examples", "hello"), os.path.join(self.temporary_folder(), "hello.rec")
        subprocess.run([*UNPRIVILEGED, hello, "1", recording], stdout=subprocess.DEVNULL, check=True)
        recorded = nopspan("trace", "--attributes", "--from", recording, command=UNPRIVILEGED, env=TERMINAL).stdout
        with subprocess.Popen([hello], stdout=subprocess.DEVNULL) as program:
            traced = nopspan("trace", "--attributes", "--limit", "1", "--pid", program.pid, env=TERMINAL).stdout
            program.kill()
        shown = self.example("README.md", traced)
        for printed in (traced, recorded):
            self.assertEqual([place(line) for line in printed.splitlines()], shown, printed)

    def test_the_picture(self):
        """The command traces all processes: those of other tests must neither be shown nor have their gates raised."""
        if not is_among_own_processes():
            subprocess.run(among_own_processes(sys.executable, "-m", "unittest", "test_examples.Readme.test_the_picture"),
                           cwd=os.path.dirname(os.path.abspath(__file__)), check=True)
            return
        # script makes a terminal.
        command = ["script", "-qec", "stty cols %d rows 40; exec %s" % (COLUMNS, PICTURE.replace("nopspan", NOPSPAN, 1)), os.devnull]
        with Server(self.temporary_folder(), "--token-delay-us", "500", "--seed", "7") as server:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=TERMINAL) as trace:
                while trace.poll() is None:
                    Agent(server.url, "--organization", "acme", "What is 6 * 7?")
                printed = trace.stdout.read()
        shown = set(self.example("docs/trace.svg", printed, is_picture=True))
        self.assertGreater(len(shown), 10)
        self.assertLessEqual(shown, {place(re.sub("\x1b\\[[0-9;]*m", "", line)) for line in printed.splitlines()}, printed)


class AsTheyAre(Test):
    def test_engine_and_offcpu_find_the_installed_library(self):
        """The other tests of these two run them by attach.sh, which replaces the path in their probes."""
        with Program("traced") as engine, Program("waiting") as sleeper:
            with Script("engine.bt", engine.pid, library=None) as steps, Script("offcpu.bt", sleeper.pid, library=None) as sleeps:
                engine.ask("step model 5 6 7 0")
                for command in ("open asleep", "sleep 20", "close"):
                    sleeper.ask(command)
                steps.stop()
                sleeps.stop()
        self.assertEqual(steps.maps()["steps"], {"model, 5": 1})
        self.assertIn("asleep", sleeps.maps()["asleep_us"])

    def said_of(self, body, failure):
        """What bpftrace says of a script that must not start."""
        path = os.path.join(self.temporary_folder(), "faulty.bt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("usdt:%s:nopspan:span_stop %s\n" % (INSTALLED, body))
        script = Script(path, library=None)
        with self.assertRaisesRegex(AssertionError, failure), script:
            script.stop()
        script.end()
        return "\n".join(script.said)

    def test_a_script_with_an_error_is_seen(self):
        self.assertIn("conut", self.said_of("{ @n = conut(); }", " ended: "))

    def test_a_script_with_a_warning_is_seen(self):
        self.assertIn("different signs", self.said_of("/ (int64)arg2 < (uint64)arg4 / { @n = count(); }", "WARNING"))


if __name__ == "__main__":
    example_service.need()
    installed.main()
