# SPDX-License-Identifier: Apache-2.0
"""Old scripts with newer libraries, and the reverse. The record begins with its size, and new fields are only
appended."""

import os
import re

import harness
from harness import LIBRARY, Bpftrace, Program, program_path, run, struct_text, wait_until

NEWER = program_path("newer_library")


class RecordSize(harness.Test):
    def lines_of(self, script, canary):
        """The output of a script for one program, after it has printed `up` for a canary."""
        path = os.path.join(self.temporary_folder(), "script.bt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        tracer = Bpftrace([harness.BPFTRACE, "-B", "line", path])
        self.addCleanup(tracer.process.kill)
        wait_until(lambda: canary() or not tracer.is_running() or tracer.lines[1:], "the script to print")
        return [line for line in tracer.stop() if line.startswith("seen ")]

    def test_an_old_script_with_the_present_library(self):
        # The struct of an older version, without the later fields.
        old = re.sub(r"  unsigned long engine;.*", "};\n", struct_text("nopspan_span"), flags=re.S)
        self.assertLess(len(old), len(struct_text("nopspan_span")) - 200)
        script = old + ('usdt:%s:nopspan:span_stop { $r = (struct nopspan_span *)arg5; printf("seen %%s %%s %%d\\n", '
                        '$r->request_id, str($r->name), $r->size); }\n') % LIBRARY
        lines = self.lines_of(script, lambda: run("traced", "canary", "x"))
        for line in lines:
            self.assertRegex(line, r"^seen [A-Za-z0-9_-]{22} canary 216$")
        self.assertTrue(lines)

    def test_a_new_script_with_the_present_library(self):
        # The struct of a future version, with one more field in place of reserved. The script must check the size
        # before it reads it.
        new = struct_text("nopspan_span").replace("char reserved[40];", "unsigned long gpu_ns;\n  char reserved[32];")
        script = new + ('usdt:%s:nopspan:span_stop { $r = (struct nopspan_span *)arg5; $gpu_ns = (uint64)0;\n'
                        '  if ($r->size >= 224) { $gpu_ns = $r->gpu_ns; }\n'
                        '  printf("seen %%s %%s %%d %%d\\n", $r->request_id, str($r->name), $r->size, $gpu_ns); }\n') % LIBRARY
        lines = self.lines_of(script, lambda: run("traced", "canary", "x"))
        for line in lines:
            self.assertRegex(line, r"^seen [A-Za-z0-9_-]{22} canary 216 0$")
        self.assertTrue(lines)

    def newer(self, script):
        with Program("newer_library") as program:
            return self.lines_of(script, lambda: program.ask("span") and None)

    def test_the_present_script_with_a_newer_library(self):
        script = struct_text("nopspan_span") + (
            'usdt:%s:nopspan:span_stop { $r = (struct nopspan_span *)arg5; printf("seen %%s %%s %%d %%d %%d\\n", '
            '$r->request_id, str($r->name), $r->duration_ns, $r->size, $r->span_id); }\n') % NEWER
        lines = set(self.newer(script))
        self.assertEqual(lines, {"seen AAAAAAAAAAAAAAAAAAAAAQ newer.span 4711 384 17"})

    def test_spans_bt_with_a_newer_library(self):
        attach = os.path.join(harness.SOURCE, "scripts", "attach.sh")
        with Program("newer_library") as program:
            tracer = Bpftrace([attach, NEWER, os.path.join(harness.SOURCE, "scripts", "spans.bt")])
            self.addCleanup(tracer.process.kill)

            def shown():
                program.ask("span")
                self.assertTrue(tracer.is_running(), tracer.said)
                return any("@spans[newer.span]" in line for line in list(tracer.lines))
            wait_until(shown, "spans.bt to show the span")
            lines = tracer.stop()
        self.assertTrue(any(re.match(r"@slowest_us\[AAAAAAAAAAAAAAAAAAAAAQ, \d+, newer.span\]: 4$", line)
                            for line in lines), lines)


if __name__ == "__main__":
    harness.main("readelf")
