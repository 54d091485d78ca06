#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the source tree must not contain: names of machines, second copies of the version, and the like."""
import os
import re
import unittest
from pathlib import Path

import surroundings

SOURCES = (".h", ".cpp", ".c", ".S", ".py", ".sh", ".bt", ".stp")
# The patterns are written such that this file does not match them. /tmp belongs to a developer only where the text
# presents it as theirs.
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+|mn[t]/\w+)/")
TEMPORARY_PATHS = re.compile(r"(?<![\w.$}:-])/tm[p]/\w")
REGISTRIES = re.compile(r"https?://[^\s/\"'`)]*(?:artifactor[y]|nexu[s]|registr[y]|pypi-?prox[y]|goprox[y]|mirro[r]|/simpl[e])")
# Paths that every machine has. They reveal nothing about this one.
PUBLIC = re.compile(r"(^|\.)(debian\.org|ubuntu\.com|pypi\.org|pythonhosted\.org|npmjs\.org|golang\.org|github\.com|crates\.io|"
                    r"nodesource\.com|google\.com|kernel\.org)$")
SAYS_NOTHING = re.compile(r"(?i)^(utils?|commons?|helpers?|misc)([._-]|$)|[._-](utils?|commons?|helpers?|misc)([._-]|$)")


def configured_hosts():
    """The hosts from which this machine gets its packages, except public ones."""
    texts = [value for name, value in os.environ.items() if re.search(r"(?i)index_url|find_links|registry|goproxy", name)]
    home = Path.home()
    for folder, pattern in ((Path("/etc"), "apt/sources.list"), (Path("/etc"), "apt/sources.list.d/*"), (Path("/etc"), "pip.conf"),
                            (home, ".pip/pip.conf"), (home, ".config/pip/pip.conf"), (home, ".npmrc")):
        for path in folder.glob(pattern):
            try:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
            except OSError:
                continue  # not readable by this user, so its contents cannot have come into the tree
    hosts = set(re.findall(r"https?://(?:[^\s/@]+@)?([\w.-]+)", "\n".join(texts)))
    return {host for host in hosts if "." in host and not PUBLIC.search(host)}


# Functions whose result depends on the locale, which the application chooses for the library, and the user for the program.
OF_LETTERS = re.compile(r"<(?:cctype|ctype\.h|cwctype|wctype\.h|strings\.h|locale|regex)>|\bstrn?casecmp\b|"
                        r"\b(?:tolower|toupper|is(?:alpha|alnum|digit|xdigit|space|print|punct|upper|lower|cntrl|graph|blank))\s*\(")
OF_NUMBERS = re.compile(r"\b(?:strto(?:d|f|ld)|sto[df]|stold|atof)\s*\(|\"[^\"\n]*%[-+#0-9.*]*[lL]?[aefgAEFG]")


class Tree(unittest.TestCase):
    def test_the_locale_decides_on_no_word_and_no_number(self):
        """In Turkish, "I" is not the capital letter of "i", and in German a number has a comma. The program leaves
        LC_NUMERIC as it is, "C"."""
        found = []
        for path in surroundings.files(".h", ".c", ".cpp"):
            if path.parts[0] in ("src", "include"):
                patterns = [OF_LETTERS] + ([OF_NUMBERS] if path.parts[:2] != ("src", "collector") else [])
                found += [f"{path}: {match[0]}" for pattern in patterns for match in pattern.finditer(surroundings.read(path))]
            if "setlocale" in surroundings.read(path) and path.parts[0] == "src":
                self.assertEqual(re.findall(r"setlocale\(.*", surroundings.read(path)),
                                 ['setlocale(LC_CTYPE, "");  // for wide characters on a terminal; LC_NUMERIC stays "C"'], path)
        self.assertEqual(found, [])

    def test_every_source_has_its_licence(self):
        without = [str(path) for path in surroundings.files(*SOURCES)
                   if "SPDX-License-Identifier:" not in "\n".join(surroundings.read(path).splitlines()[:4])]
        self.assertEqual(without, [])

    def test_no_file_has_a_meaningless_name(self):
        named = [path for path in surroundings.tree() if path.parts[:3] not in surroundings.PUBLISHED]
        self.assertEqual([str(path) for path in named if any(map(SAYS_NOTHING.search, path.parts))], [])

    def test_the_tree_names_no_developers_machine(self):
        named = []
        hosts = configured_hosts()
        for path, text in surroundings.texts():
            patterns = [MACHINE_PATHS, REGISTRIES] + ([TEMPORARY_PATHS] if path.suffix == ".md" else [])
            named += [f"{path}: {match[0]}" for pattern in patterns for match in pattern.finditer(text)]
            named += [f"{path}: {host}" for host in hosts if host in text]
        self.assertEqual(named, [])

    def test_the_history_names_no_developers_machine(self):
        log = surroundings.git("log", "--format=%H %s%n%b")
        named = [match[0] for pattern in (MACHINE_PATHS, TEMPORARY_PATHS, REGISTRIES) for match in pattern.finditer(log)]
        self.assertEqual(named + [host for host in configured_hosts() if host in log], [])

    def test_the_commits_are_as_contributing_asks(self):
        """Those since this test exists."""
        log = surroundings.git("log", "--no-merges", "--since=2026-11-28T02:00:00Z", "--format=%h%x00%s%x00%b%x01")
        wrong = []
        for commit in filter(None, (text.strip() for text in log.split("\x01"))):
            name, subject, body = commit.split("\0")
            if not body:
                wrong.append(f"{name}: the body gives the reason")
            wrong += [f"{name}: over 72 columns: {line}" for line in (subject, *body.splitlines()) if len(line) > 72]
        self.assertEqual(wrong, [])

    def test_no_byte_code_is_in_git(self):
        self.assertEqual([str(path) for path in surroundings.tree() if path.suffix == ".pyc" or "__pycache__" in path.parts], [])

    def test_the_version_stands_in_one_place(self):
        header = surroundings.read("include/nopspan/version.h")
        version = ".".join(re.search(rf"NOPSPAN_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))
        # Documents may name versions. All other files take the version from the header.
        elsewhere = [str(path) for path, text in surroundings.texts()
                     if path.suffix not in (".md", ".json") and re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", text)]
        self.assertEqual(elsewhere, [])
        others = [str(path) for path, text in surroundings.texts() if re.search(r"(?m)^\s*#\s*define NOPSPAN_VERSION_MAJOR", text)]
        self.assertEqual(others, ["include/nopspan/version.h"])

    def test_programs_are_executable(self):
        scripts = [path for path in surroundings.tree() if path.parts[0] in ("scripts", ".ci")
                   and surroundings.read(path).startswith("#!")]
        self.assertEqual([str(path) for path in scripts if not os.access(surroundings.SOURCE / path, os.X_OK)], [])

    def test_text_ends_with_a_newline_and_has_no_trailing_blanks(self):
        wrong = [str(path) for path, text in surroundings.texts() if text and path.parts[0] != "LICENSE"
                 and path.parts[:3] not in surroundings.PUBLISHED and (not text.endswith("\n") or re.search(r"[ \t]+$", text, re.M)) and path.suffix not in (".json", ".md")]
        self.assertEqual(wrong, [])


if not surroundings.git("--version") and (surroundings.SOURCE / ".git").exists():
    surroundings.unable("git does not run")
surroundings.main()
