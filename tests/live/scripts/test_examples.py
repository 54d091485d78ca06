# SPDX-License-Identifier: Apache-2.0
"""Each script's example in scripts/README.md has the form of today's output, and contains every map and caption. The
example in the script's head is the beginning of it.

With NOPSPAN_WRITE_EXAMPLES=1 it writes this run's output there instead.
"""

import contextlib
import os
import re
import shutil
import tempfile

import example_service
import installed
from example_service import Agent, Server
from harness import SOURCE, Test

WRITE = os.environ.get("NOPSPAN_WRITE_EXAMPLES") == "1"
# Which lines an example keeps. Of a map: the last rows, which have the largest values, and the first histograms. Of
# other lines: the first ones.
MOST_ROWS, MOST_STACKS, MOST_HISTOGRAMS, MOST_LINES = 4, 1, 1, 60
LEFT_OUT = "..."


class Example:
    """How to run a script for its example, and which part of its output to use: from the last line that `begins`
    matches to the end. Maps that match `by_chance` are missing in some runs."""

    def __init__(self, *arguments, begins=r"Totals of \d+ s", choose=None, by_chance=r"(?!)"):
        self.arguments, self.begins, self.choose, self.by_chance = arguments, begins, choose, by_chance

    def part(self, lines):
        if self.choose:
            return self.choose(lines)
        begins = [number for number, line in enumerate(lines) if re.match(self.begins, line)]
        if not begins:
            raise AssertionError("no line matches %r in:\n%s" % (self.begins, "\n".join(lines[-50:])))
        return lines[begins[-1]:]


def one_request(lines):
    """The caption of trace.bt's columns, and one request: the one with the most kinds of lines, but not with too many
    lines."""
    by_request = {}
    for line in lines:
        row = re.match(r" *[\d.]+ +\d+ (\S+) ", line)
        if row:
            by_request.setdefault(row[1], []).append(line)

    def kinds(rows):
        return len({form(row) for row in rows}), "retry" in "".join(rows), -len(rows)
    whole = [rows for rows in by_request.values() if len(rows) < MOST_LINES and " + llm.chat" in rows[0]
             and " - llm.chat" in rows[-1]]
    chosen = max(whole, key=kinds)
    return [line for line in lines if "TIME_MS" in line][:1] + sorted(chosen, key=lambda row: float(row.split()[0]))


def block_of(begin, score):
    """Chooses a block of lines, which begins with a line that `begin` matches and ends at an empty line: the one with
    the highest score."""
    def choose(lines):
        blocks = []
        for line in lines:
            if re.match(begin, line):
                blocks.append([line])
            elif blocks and blocks[-1][-1] != "":
                blocks[-1].append(line)
        return max(blocks, key=score)
    return choose


def repeated(begin, score):
    """The same for blocks that follow each other and may contain empty lines."""
    def choose(lines):
        blocks = []
        for line in lines:
            if re.match(begin, line):
                blocks.append([line])
            elif blocks:
                blocks[-1].append(line)
        return max(blocks[:-1], key=score)
    return choose


def variety(block):
    return "retry" in "".join(block) or " error " in "".join(block), -abs(len(block) - 20)


EXAMPLES = {
    "spans.bt": Example(),
    "latency.bt": Example("engine.request"),
    "trace.bt": Example(choose=one_request),
    "slow.bt": Example(100, choose=block_of(r"\d\d:\d\d:\d\d \S{22} \S+ [\d.]+ ms", variety)),
    "ttft.bt": Example(),
    "tokens.bt": Example(),
    "errors.bt": Example(),
    "retries.bt": Example(),
    "tools.bt": Example(),
    "inflight.bt": Example(0, "", 1, choose=repeated(r"\d\d:\d\d:\d\d \d+ requests open", lambda block: int(block[0].split()[1]))),
    "queue.bt": Example(),
    "engine-steps.bt": Example(by_chance=r"@without_tokens"),
    "engine.bt": Example(),
    "cancelled.bt": Example(),
    "gauges.bt": Example(),
    "top.bt": Example(),
    "agents.bt": Example(),
    "offcpu.bt": Example(by_chance=r"@unsure|@runnable"),
}


def kind_of(value):
    if re.fullmatch(r"-?\d+", value):
        return "N"
    return re.sub(r"-?\d+", "N", value) if value.startswith("count ") else "TEXT"


def form(line):
    """The form of a line: the line without its numbers, ids and names."""
    if re.match(r"[\[(]\S+?(, \S+)?[\])] +\d+ \|[@ ]*\|$", line):
        return "BAR"
    entry = re.match(r"(@\w+)(?:\[(.*)\])?: ?(.*)$", line)
    if "\n" in line:
        return line[:line.index("[")] + "[STACKS]: N"
    if entry:
        keys = entry[2].count(", ") + 1 if entry[2] is not None else 0
        return "%s[%d]: %s" % (entry[1], keys, kind_of(entry[3]) if entry[3] else "HISTOGRAM")
    line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line)
    is_row = re.match(r"\s*[\d.:]+\s", line) or re.search(r"\b[A-Za-z0-9_-]{21}[AQgw]\b", line)
    line = re.sub(r"(?<![\w-])[A-Za-z0-9_-]{21}[AQgw](?![\w-])", "ID", line)
    line = re.sub(r"-?\b\d+(\.\d+)*(:\d+)*\b", "N", line)
    if is_row:
        line = re.sub(r"(\|  )+", "", line)
        line = re.sub(r"(?<!\S)(?!ID\b|N\b)[A-Za-z][\w.,:-]*( (?!ID\b|N\b)[A-Za-z][\w.,:-]*)*", "WORDS", line)
    return re.sub(r"\s+", " ", line).strip()


def joined(lines):
    """Joins each entry with stacks, which is printed in many lines, into one text."""
    whole, open_entry = [], None
    for line in lines:
        if open_entry is not None:
            open_entry += "\n" + line
            if line.startswith("]: "):
                whole.append(open_entry)
                open_entry = None
        elif re.match(r"@\w+\[[^\]]*$", line):
            open_entry = line
        else:
            whole.append(line)
    return whole


def shortened(lines):
    short, rows, histograms, other, left_out = [], [], 0, 0, False

    def flush_rows():
        most = MOST_STACKS if any("\n" in row for row in rows) else MOST_ROWS
        if len(rows) > most:
            short.append(LEFT_OUT)
        short.extend(line for row in rows[-most:] for line in row.split("\n"))
        rows.clear()

    previous, skipping = None, False
    for line in filter(str.strip, joined(lines)):
        entry = re.match(r"(?s)(@\w+)(?:\[.*\])?: ?([^\n]*)$", line)
        name = entry[1] if entry else None
        if name != previous:
            flush_rows()
        if entry and entry[2]:
            rows.append(line)
            previous, skipping = name, False
            continue
        if entry:
            histograms = histograms + 1 if name == previous else 1
            previous, skipping = name, histograms > MOST_HISTOGRAMS
            if skipping and short[-1] != LEFT_OUT:
                short.append(LEFT_OUT)
        elif form(line) != "BAR":
            previous, skipping = None, False
            other += 1
            left_out = left_out or other > MOST_LINES
            if other > MOST_LINES:
                continue
        if not skipping:
            short.append(line)
    flush_rows()
    return short + [LEFT_OUT] * left_out


README = os.path.join(SOURCE, "scripts", "README.md")
# How many lines of the README's example are also in the script's head.
FEW = 6


def replaced(text, span, lines, indentation=""):
    return text[:span[0]] + "".join((indentation + line).rstrip() + "\n" for line in lines) + text[span[1]:]


class Written:
    """A script's example. In scripts/README.md it is the block ```text in the script's section. The script's head has
    its first lines, after "// Example:" and an empty line."""

    def __init__(self, script):
        self.path = os.path.join(SOURCE, "scripts", script)
        with open(README, encoding="utf-8") as file:
            self.readme = file.read()
        with open(self.path, encoding="utf-8") as file:
            self.script = file.read()
        section = r"(?m)^### %s\n(?:(?!### |```text).*\n)*```text\n((?:(?!```).*\n)+)```$" % re.escape(script)
        self.whole = re.search(section, self.readme)
        self.first = re.search(r"(?m)^// Example:[^\n]*\n//\n((?://   [^\n]*\n)+)", self.script)

    def lines(self):
        return self.whole[1].splitlines()

    def first_lines(self):
        return [line[5:] for line in self.first[1].splitlines()]

    def write(self, lines):
        with open(README, "w", encoding="utf-8") as file:
            file.write(replaced(self.readme, self.whole.span(1), lines))
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(replaced(self.script, self.first.span(1), lines[:FEW], "//   "))


class Examples(Test):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        with contextlib.ExitStack() as stack:
            scripts = {name: stack.enter_context(installed.Script(name, *example.arguments))
                       for name, example in EXAMPLES.items()}
            with Server(folder, "--fail-rate", "0.1", "--cut-rate", "0.05", "--seed", "7", "--token-delay-us",
                        "1000") as server:
                for organization in ("acme", "globex"):
                    Agent(server.url, "--organization", organization, "--requests", "40", "--concurrency", "4",
                          "--max-attempts", "12")
            cls.parts = {name: EXAMPLES[name].part(script.stop()) for name, script in scripts.items()}

    def test_each_script_has_one(self):
        scripts = [name for name in os.listdir(os.path.join(SOURCE, "scripts")) if name.endswith(".bt")]
        self.assertEqual(set(EXAMPLES), set(scripts))
        for name in scripts:
            written = Written(name)
            self.assertTrue(written.whole and written.first, name)
            self.assertEqual(written.first_lines(), [line.rstrip() for line in written.lines()[:FEW]], name)

    def test_each_is_of_the_form_of_this_run(self):
        for name, part in self.parts.items():
            with self.subTest(name):
                written = Written(name)
                if WRITE:
                    written.write(shortened(part))
                    continue
                shown = {form(line): line for line in joined(written.lines()) if line.strip() != LEFT_OUT}
                printed = {form(line): line for line in joined(part) if line.strip()}
                by_chance = re.compile(EXAMPLES[name].by_chance)
                old = [line for key, line in shown.items() if key not in printed and not by_chance.match(line)]
                self.assertEqual(old, [], "no longer printed")
                # Rows differ between runs, but maps and captions do not.
                new = [line for key, line in printed.items() if key not in shown and re.match(r"@|[A-Z][a-z]", line)
                       and not by_chance.match(line)]
                self.assertEqual(new, [], "printed, and not in the example")


if __name__ == "__main__":
    example_service.need()
    installed.main()
