# SPDX-License-Identifier: Apache-2.0
"""The strings of the first event are complete, although a BPF program cannot fault a page in."""

import os

import harness
from harness import Program, Tracer

PAGE = os.sysconf("SC_PAGE_SIZE")
PAGES = 64


def name_at(offset):
    return ("cold.name_at_%d." % offset).ljust(31, "x")


class ColdStrings(harness.Test):
    def setUp(self):
        # At the start of a page, and across the boundary of two.
        self.offsets = [page * PAGE for page in range(0, PAGES, 2)] + [page * PAGE - 16 for page in range(1, PAGES, 2)]
        self.path = os.path.join(self.temporary_folder(), "names")
        with open(self.path, "wb") as file:
            for offset in self.offsets:
                file.seek(offset)
                file.write(name_at(offset).encode() + b"\0")
            file.truncate(PAGES * PAGE)

    def check(self, program, tracer):
        for offset in self.offsets:
            self.assertEqual(program.ask("span %d" % offset), "cold", "the page is not there: else this shows nothing")
        tracer.stop()
        expected = {name_at(offset): 1 for offset in self.offsets}
        self.assertEqual(tracer.names("span_start", program.pid), expected)
        self.assertEqual(tracer.names("span_stop", program.pid), expected)

    def test_a_name_in_a_page_that_nothing_has_touched(self):
        with Program("cold_names", self.path) as program:
            with Tracer(("span_start", "span_stop")) as tracer:
                self.check(program, tracer)

    def test_the_first_spans_of_a_process(self):
        with Tracer(("span_start", "span_stop")) as tracer:
            with Program("cold_names", self.path) as program:
                self.check(program, tracer)

    def test_every_string_of_the_first_event(self):
        with Tracer(("span_stop",), details=True) as tracer:
            with Program("traced") as program:
                program.ask("points")
            tracer.stop()
        first = tracer.events(pid=program.pid)[0]
        self.assertEqual((first.name, first.model, first.engine, first.tenant), ("llm.step", "tiny-2", "llama.cpp", "acme"))
        self.assertEqual(len(first.id), 22)


if __name__ == "__main__":
    harness.main(own_processes=False)
