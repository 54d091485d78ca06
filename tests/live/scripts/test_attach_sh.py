# SPDX-License-Identifier: Apache-2.0
"""Programs with copies of the library outside the installed path. attach.sh finds the copies."""

import os

import harness
from contained import Container
from harness import INSTALLED, Program, Tracer, canary_in, event_script, program_path

ATTACH = os.path.join(harness.SOURCE, "scripts", "attach.sh")
# The path in the project's own scripts.
SCRIPT = event_script(("span_stop",), [INSTALLED])


class Namespace(harness.Test):
    def container(self):
        return Container(os.path.join(self.temporary_folder(), "root"))

    def tracer(self, *arguments, canary):
        return Tracer(command=[ATTACH, *arguments], script=SCRIPT, canary=canary)

    def test_a_program_in_a_container_by_its_pid(self):
        with self.container() as container, Program("traced") as other:
            self.assertEqual(container.pid, 1, "it is in a pid namespace of its own")
            canary = canary_in(container, container.host_pid)
            with self.tracer("-p", str(container.host_pid), canary=canary) as tracer:
                self.assertEqual(container.ask("span inside 3"), "3")
                self.assertEqual(other.ask("span other 3"), "0")
                tracer.stop()
            self.assertEqual(tracer.names(), {"inside": 3})
            self.assertEqual(container.gate(), 0)

    def test_all_copies_on_the_host_each_once(self):
        with self.container() as container, Program("traced") as program, Program("traced_static") as static:
            with self.tracer("--all", canary=canary_in(program)) as tracer:
                for each, name in ((container, "contained"), (program, "plain"), (static, "static")):
                    self.assertEqual(each.ask("span %s 3" % name), "3")
                tracer.stop()
            self.assertEqual({n: c for n, c in tracer.names().items() if n in ("contained", "plain", "static")},
                             {"contained": 3, "plain": 3, "static": 3})

    def test_a_program_in_a_build_tree_by_its_file(self):
        with self.tracer(program_path("traced"), canary=None) as tracer:
            with Program("traced") as program:
                program.ask("span seen 3")
            tracer.stop()
        self.assertEqual(tracer.names(), {"seen": 3})

    def test_a_program_and_its_plugin_with_two_copies_by_pid(self):
        with Program("traced_static") as program:
            self.assertEqual(program.ask("load " + program_path("plugin_static.so")), "loaded")
            with self.tracer("-p", str(program.pid), canary=canary_in(program)) as tracer:
                program.ask("span program")
                program.ask("plugin_span plugin")
                tracer.stop()
            self.assertEqual(tracer.names(), {"program": 1, "plugin": 1})


if __name__ == "__main__":
    harness.main("unshare", "chroot", "ldd", "readelf", own_processes=False)
