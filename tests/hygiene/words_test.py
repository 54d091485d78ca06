#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One word for one thing: the glossary of docs/architecture.md, and the words that it has replaced."""
import re
import unittest

import surroundings

MOST_LINES = 43
# What a term has replaced: a pattern that must not occur in the tree, and what to write instead.
REPLACED = {
    r"(?i)\boutermost_?\s?spans?\b": "root span",
    r"(?i)\bshared_?\s?spans?\b": "linked span",
    r"(?i)\bhand(s|ed|ing)?[ _-]over\b": "flush, forward, deliver",
    r"\b(told|tells|un-?told)\b|\b[Tt]ell(s|ing)? of\b|\b(?i:tells_)": "report, show, state",
    r"\b[Ww]ho listens\b|\bsomebody (looks|listens)\b": "tracer",
    r"\bmended\b": "repair",
    r"\bcloses\(\)|\"closes\"|ledgers? (does not )?close": "balanced",
    r"\bnot_wanted\b|\bhanded_over\b|\"(circles|shared|unwanted)\":": "filtered, assembled, cycles, linked",
    r"StreamLedger|nopspan\.stream\b|\br->stream\b": "sequence_id",
    r"nopspan_record\b|NOPSPAN_RECORD_": "message",
    r"nopspan\.command\b": "nopspan.comm",
    r"(?i)frame_?(reader|writer|kind)": "chunk",
    r"nopspan::Attached|\battach_context\b": "ContextScope",
    r"(?<![a-z-])(batch|engine-steps)\.bt\b": "engine.bt",
    r"--per-event\b": "nothing: batches are the only transport",
    # Words of another century.
    r"(?i)\b(anew|whoever|lest|thereby|dearer|hitherto|for want of|by half|besides)\b": "today's English",
}


class Words(unittest.TestCase):
    def test_the_glossary_has_each_term_once(self):
        text = surroundings.read("docs/architecture.md")
        glossary = re.search(r"(?ms)^## Glossary\n(.*?)^## ", text)[1].strip().splitlines()
        self.assertLessEqual(len(glossary), MOST_LINES)
        terms = [term for row in glossary[2:] for term in re.split(r", ", row.split("|")[1].strip())]
        self.assertGreater(len(terms), 30)
        self.assertEqual(sorted({term for term in terms if terms.count(term) > 1}), [])

    def test_types_with_ambiguous_words_are_in_the_glossary(self):
        """What a recorder, a member, a part, a share and a feed is, in the code as in the glossary."""
        text = surroundings.read("docs/architecture.md")
        known = set(re.findall(r"`(\w+)`", re.search(r"(?ms)^## Glossary\n(.*?)^## ", text)[1]))
        found = set()
        for path, text in surroundings.texts():
            # testing::Recorder is of the public interface, and keeps events.
            if path.parts[0] in ("src", "include") and path.name != "testing.h":
                found.update(re.findall(r"\b(?:class|struct) (?!On)(?=\w*(?:Recorder|Member|Part|Share|Feed)s?(?:[A-Z]|\b))"
                                        r"(\w+?)(?:Options)?\b", text))
        self.assertLessEqual({"Recorder", "Member", "EntryShare", "TopFeed"}, found)
        self.assertEqual(found - known, set())

    def test_the_tree_uses_the_terms(self):
        found = []
        for path, text in surroundings.texts():
            # Cases are data of others.
            if path.name == "words_test.py" or path.parts[:3] in (*surroundings.PUBLISHED, ("tests", "cases", "run")):
                continue
            for pattern, instead in REPLACED.items():
                found += ["%s:%d: %s: write %s" % (path, text.count("\n", 0, match.start()) + 1, match[0], instead)
                          for match in re.finditer(pattern, text)]
        self.assertEqual(found, [])


surroundings.main()
