# SPDX-License-Identifier: Apache-2.0
"""bpftrace accepts every script unchanged and without a warning, with all arguments and with the required ones only."""

import os
import subprocess

import harness
import installed
from harness import SOURCE, Test

# Scripts with other arguments than [PID [TENANT]], and those that need some.
NEEDED = {"slow.bt": ["100"]}
ALL = {"latency.bt": ["llm.chat", "1", "acme"], "slow.bt": ["100", "1", "acme"], "trace.bt": ["order-4711", "1", "acme"]}
HARMLESS = ("couldn't set RLIMIT_MEMLOCK", "Error while reading traceable functions")


class Parse(Test):
    def scripts(self):
        scripts = sorted(name for name in os.listdir(os.path.join(SOURCE, "scripts")) if name.endswith(".bt"))
        self.assertTrue(scripts)
        return scripts

    def parse(self, path, arguments):
        """bpftrace's output when it parses and checks a script without running it."""
        command = harness.with_tracefs(["bpftrace", "-d", path, *arguments])
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        said = [line for line in done.stdout.splitlines() if "ERROR" in line or "WARNING" in line]
        return done.returncode, [line for line in said if not any(harmless in line for harmless in HARMLESS)]

    def test_every_script(self):
        for name in self.scripts():
            for arguments in (NEEDED.get(name, []), ALL.get(name, ["1", "acme"])):
                with self.subTest(name, arguments=arguments):
                    self.assertEqual(self.parse(os.path.join(SOURCE, "scripts", name), arguments), (0, []))

    def test_it_sees_a_fault(self):
        path = os.path.join(self.temporary_folder(), "faulty.bt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("usdt:/usr/*/*/libnopspan.so.*:nopspan:span_stop { @n = conut(); }\n")
        code, said = self.parse(path, [])
        self.assertNotEqual((code, said), (0, []))


if __name__ == "__main__":
    installed.main()
