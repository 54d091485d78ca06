# SPDX-License-Identifier: Apache-2.0
"""Plug-ins: a library that dlopen() loads after the attach, and static copies, each with its own gate."""

import harness
from harness import GATE_SPANS, LIBRARY, Program, Tracer, canary_program, program_path

SHARED = program_path("plugin_shared.so")
STATIC = program_path("plugin_static.so")


class Plugin(harness.Test):
    def test_the_library_comes_with_a_plugin_after_the_attach(self):
        with Program("plugin_host") as host:
            with Tracer() as tracer:
                self.assertEqual(host.ask("load " + SHARED), "loaded")
                self.assertNotEqual(int(host.ask("plugin_gate")) & GATE_SPANS, 0)
                host.ask("plugin_span first")
                # The plug-in is unloaded, and the library remains (-z nodelete).
                self.assertEqual(host.ask("unload"), "unloaded")
                self.assertEqual(host.ask("load " + SHARED), "loaded")
                host.ask("plugin_span second")
                tracer.stop()
            self.assertEqual(tracer.names(pid=host.pid), {"first": 1, "second": 1})
            self.assertEqual(int(host.ask("plugin_gate")), 0)

    def test_unloaded_while_attached_and_detached_while_unloaded(self):
        with Program("plugin_host") as host:
            self.assertEqual(host.ask("load " + SHARED), "loaded")
            with Tracer() as tracer:
                host.ask("plugin_span seen")
                host.ask("unload")
                tracer.stop()
            self.assertEqual(tracer.names(pid=host.pid), {"seen": 1})
            self.assertEqual(host.ask("load " + SHARED), "loaded")
            self.assertEqual(int(host.ask("plugin_gate")), 0)

    def test_a_program_and_its_plugin_share_one_library(self):
        with Program("traced") as program:
            self.assertEqual(program.ask("load " + SHARED), "loaded")
            with Tracer() as tracer:
                program.ask("begin program")
                program.ask("plugin_span plugin")
                program.ask("end")
                tracer.stop()
            by_name = {e.name: e for e in tracer.events(pid=program.pid)}
            self.assertEqual(by_name["plugin"].parent_id, by_name["program"].span_id)

    def test_static_copies_are_two_and_both_are_seen_when_both_files_are_attached(self):
        binary = program_path("traced_static")
        with Program("traced_static") as program:
            self.assertEqual(program.ask("load " + STATIC), "loaded")
            canary = canary_program("traced_static")
            with Tracer(libraries=[binary], canary=canary) as half:
                self.assertEqual(int(program.ask("plugin_gate")), 0, "the plug-in has a gate of its own")
                program.ask("span program")
                program.ask("plugin_span plugin")
                half.stop()
            self.assertEqual(half.names(pid=program.pid), {"program": 1})
            with Tracer(libraries=[binary, STATIC], canary=canary) as both:
                program.ask("span program")
                program.ask("plugin_span plugin")
                both.stop()
            self.assertEqual(both.names(pid=program.pid), {"program": 1, "plugin": 1})
            self.assertEqual((program.gate(), int(program.ask("plugin_gate"))), (0, 0))

    def test_a_plugin_with_a_static_copy_in_a_program_without_nopspan(self):
        with Program("plugin_host") as host:
            self.assertEqual(host.ask("load " + STATIC), "loaded")
            with Tracer(libraries=[STATIC, LIBRARY]) as tracer:
                host.ask("plugin_span seen")
                tracer.stop()
            self.assertEqual(tracer.names(pid=host.pid), {"seen": 1})
            # Static copies are not nodelete. The traced copy is unloaded, and returns with its gate down.
            self.assertEqual(host.ask("unload"), "unloaded")
            self.assertEqual(host.ask("load " + STATIC), "loaded")
            self.assertEqual(int(host.ask("plugin_gate")), 0)


if __name__ == "__main__":
    harness.main(own_processes=False)
