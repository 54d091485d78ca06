# SPDX-License-Identifier: Apache-2.0
"""scripts/inflight.bt: the open requests, the span in which each is, and the requests of killed processes."""

import collections
import os
import re
import shutil
import subprocess
import tempfile

import bpftrace_output
import example_service
import installed
from example_service import AGENT, Server, lines_of, with_events
from harness import PATIENCE_S, SOURCE, Program, Test, wait_until

# More than the script can hold.
NEVER_ENDING = 6000
# The spans in which five requests are, in the agent and in a server that works on one of them.
WHERE = {"llm.step": 5, "engine.prefill": 1, "engine.queue": 4}


class Inflight(installed.Script):
    def __init__(self, pid=0, tenant=""):
        super().__init__("inflight.bt", pid, tenant, 1)

    def shown(self):
        """Everything that it printed: (number of open requests, {(request id, pid, span, innermost span): age}, maps),
        once per interval."""
        blocks = []
        for line in list(self.lines):
            head = re.match(r"\d\d:\d\d:\d\d (\d+) requests open", line)
            if head:
                blocks.append((int(head[1]), []))
            elif line.startswith("Totals of "):
                break
            elif blocks:
                blocks[-1][1].append(line)
        return [(count, *self.rows(lines)) for count, lines in blocks]

    @staticmethod
    def rows(lines):
        maps = bpftrace_output.maps(lines)
        rows = {}
        for key, age in maps["oldest_ms"].items():
            request_id, pid, span, within = key.split(", ")
            rows[request_id, int(pid), span, within] = age
        return rows, maps

    def wait_for_rows(self, expected, pids, died=None):
        """Waits until it shows exactly these rows of these processes, and these numbers of died requests per
        process."""
        def found():
            for _, rows, maps in self.shown():
                if ({key for key in rows if key[1] in pids} == expected and
                        (died or {}) == {int(pid): n for pid, n in maps["died"].items() if int(pid) in pids}):
                    return rows, maps
            return None
        return self.wait_while_it_runs(found, "%s in %s" % (expected, self.lines[-60:]))


def begin(program, request_id, *names):
    program.ask("attach " + request_id)
    for name in names:
        program.ask("begin " + name)


class Commands(Test):
    """Programs that make spans on command."""

    def program(self):
        program = Program("traced")
        self.addCleanup(installed.kill, program)
        return program

    def test_open_requests_and_those_of_processes_that_ended(self):
        with Program("traced") as program, Program("traced") as other:
            program.ask("begin before")
            with Inflight() as script, Inflight(program.pid) as one_process, Inflight(0, "acme") as tenant:
                killed, replaced = self.program(), self.program()
                pids = {program.pid, other.pid, killed.pid, replaced.pid}
                program.ask("begin within_before")
                begin(program, "first", "outer", "inner", "innermost")
                program.ask("end")
                program.ask("span brief 3")
                begin(other, "second", "alone")
                other.ask("points")  # ends everything
                begin(killed, "third", "a", "b")
                begin(killed, "fourth", "c")
                begin(replaced, "fifth", "d", "e")
                open_now = {("first", program.pid, "outer", "inner"), ("second", other.pid, "alone", "alone"),
                            ("third", killed.pid, "a", "b"), ("fourth", killed.pid, "c", "c"),
                            ("fifth", replaced.pid, "d", "e")}
                rows, _ = script.wait_for_rows(open_now, pids)
                self.assertGreaterEqual(rows["first", program.pid, "outer", "inner"],
                                        rows["fifth", replaced.pid, "d", "e"])

                installed.kill(killed)
                replaced.ask("exec")
                begin(replaced, "sixth", "f")
                program.ask("end")
                left = {("first", program.pid, "outer", "outer"), ("second", other.pid, "alone", "alone"),
                        ("sixth", replaced.pid, "f", "f")}
                died = {killed.pid: 2, replaced.pid: 1}
                script.wait_for_rows(left, pids, died)
                one_process.wait_for_rows({("first", program.pid, "outer", "outer")}, pids)
                program.ask("end")
                script.wait_for_rows(left - {("first", program.pid, "outer", "outer")}, pids, died)
                for each in (script, one_process, tenant):
                    each.stop()
        self.assertEqual({key[1] for _, rows, _ in one_process.shown() for key in rows}, {program.pid})
        self.assertFalse([key for _, rows, _ in tenant.shown() for key in rows if key[1] in pids])
        names = {key[2] for _, rows, _ in script.shown() for key in rows}
        self.assertFalse(names & {"before", "within_before", "brief"})
        self.assertTrue(any("began before this script are not known" in line for line in script.lines))

    def test_more_than_there_are_slots(self):
        with Program("traced") as program:
            with Inflight() as script:
                stuck = self.program()
                for number in range(NEVER_ENDING):
                    begin(stuck, "stuck-%d" % number, "never_ends")
                wait_until(lambda: any(count > 2000 and maps["no_room"] for count, _, maps in script.shown()[:-1]),
                           "full slots")
                count, rows, maps = script.shown()[-2]
                self.assertEqual(len(rows), 20)
                self.assertLessEqual(max(rows.values()), max(maps["age_ms"][""]) * 2)
                installed.kill(stuck)
                wait_until(lambda: script.shown()[-2][2]["died"].get(str(stuck.pid)), "the requests that died")
                begin(program, "after", "outer", "inner")
                script.wait_for_rows({("after", program.pid, "outer", "inner")}, {program.pid})
                script.stop()
            maps = script.maps()
            self.assertEqual(maps["died"][str(stuck.pid)] + maps["no_room"].get("", 0), NEVER_ENDING)
            self.assertLessEqual(maps["died"][str(stuck.pid)], 4096)


class Service(Test):
    """A server that is far too slow for its agent."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        files = [os.path.join(folder, name) for name in ("server", "agent")]
        with Inflight() as script, Inflight(0, "acme") as tenant, Inflight(0, "other") as other:
            # One request has the slot. A step processes one token of its prompt, so no request ends while the test
            # runs.
            with Server(folder, "--token-delay-us", "1000000", "--prefill-tokens", "1", "--slots", "1",
                        events=files[0]) as server:
                agent = subprocess.Popen(
                    [AGENT, "--base-url", server.url, "--json", "--requests", "5", "--concurrency", "5",
                     "--max-attempts", "1", "--organization", "acme", "--search-root", os.path.join(SOURCE, "examples")],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=with_events(files[1]))
                cls.pids = {agent.pid, server.pid}

                def all_there(of):
                    return [shown for shown in of.shown()[:-1] if collections.Counter(
                        key[3] for key in shown[1] if key[1] in cls.pids) == WHERE]
                cls.shown = [wait_until(lambda of=of: all_there(of), "all requests in %s" % of.lines[-40:])[0]
                             for of in (script, tenant)]
            agent.wait(PATIENCE_S)
            for each in (script, tenant, other):
                each.stop()
        cls.other = other.shown()
        cls.agent_pid, cls.server_pid = agent.pid, server.pid
        cls.record = [event for file in files for event in lines_of(file)]

    def expected(self):
        """The open requests, and the span of each that began last. No request made progress before the server ended."""
        root, last = {}, {}
        for event in self.record:
            name, _, what = event["event"].rpartition(".")
            if what == "start" and name in ("llm.chat", "engine.request"):
                root[event["request_id"], event["pid"]] = name
            if what == "start" and name in ("llm.step", "engine.queue", "engine.prefill"):
                last[event["request_id"], event["pid"]] = name
        return {(*key, name, last[key]) for key, name in root.items()}

    def test_where_each_request_is(self):
        expected = self.expected()
        self.assertEqual(len(expected), 10)
        for _, rows, _ in self.shown:
            self.assertEqual({key for key in rows if key[1] in self.pids}, expected)

    def test_ages(self):
        count, rows, maps = self.shown[1]
        self.assertEqual(count, len(rows), "of this tenant there are no others")
        self.assertEqual(maps["age_ms"][""], bpftrace_output.histogram(rows.values()))
        self.assertEqual(list(rows.values()), sorted(rows.values()))

    def test_another_tenant(self):
        self.assertFalse([key for _, rows, _ in self.other for key in rows if key[1] in self.pids])


if __name__ == "__main__":
    example_service.need()
    installed.main("unshare")
