# SPDX-License-Identifier: Apache-2.0
"""scripts/inflight.bt: the open requests, the span in which each is, and the requests of killed processes."""

import os
import subprocess

import bpftrace_output
import example_service
import harness
from example_service import AGENT, Server, lines_of, with_events
from harness import PATIENCE_S, SOURCE, Program, Test, wait_until
from project_script import Script

# More than the script has slots.
NEVER_ENDING = 700
SLOTS = 500


class Inflight(Script):
    def __init__(self, pid=0, tenant=""):
        super().__init__("inflight.bt", pid, tenant)

    def shown(self):
        """Everything that it printed: {(request id, pid, span, latest span): age} once per interval."""
        blocks = []
        for line in list(self.lines):
            if "open requests, in ms" in line:
                blocks.append([])
            elif blocks:
                blocks[-1].append(line)
        found = []
        for lines in blocks:
            rows = [(*key.split(", "), age) for key, age in bpftrace_output.maps(lines)["open_ms"].items()]
            found.append({(request, int(pid), span, latest): age for request, pid, span, latest, age in rows})
        return found

    def wait_for_rows(self, expected, pids):
        """Waits until it shows exactly these rows of these processes."""
        def found():
            return [rows for rows in self.shown() if {key for key in rows if key[1] in pids} == expected]
        return self.wait_while_it_runs(found, "%s in %s" % (expected, self.lines[-60:]))[-1]


def begin(program, request_id, *names):
    program.ask("attach " + request_id)
    for name in names:
        program.ask("begin " + name)


class Commands(Test):
    """Programs that make spans on command."""

    def program(self):
        program = Program("traced")
        self.addCleanup(program.kill)
        return program

    def test_open_requests_and_those_of_a_killed_process(self):
        with Program("traced") as program, Program("traced") as other:
            program.ask("begin before")
            with Inflight() as script, Inflight(program.pid) as one_process:
                killed = self.program()
                pids = {program.pid, other.pid, killed.pid}
                program.ask("begin within_before")
                begin(program, "first", "outer", "inner")
                program.ask("span brief 3")
                begin(other, "second", "alone")
                other.ask("points")  # ends everything
                begin(killed, "third", "a", "b")
                begin(killed, "fourth", "c")
                first, second = ("first", program.pid, "outer", "brief"), ("second", other.pid, "alone", "engine.request")
                rows = script.wait_for_rows({first, second, ("third", killed.pid, "a", "b"),
                                             ("fourth", killed.pid, "c", "c")}, pids)
                self.assertGreaterEqual(rows[first], rows["fourth", killed.pid, "c", "c"])
                self.assertEqual(list(rows.values()), sorted(rows.values()))

                killed_pid = killed.pid
                killed.kill()
                script.wait_for_rows({first, second}, pids)
                one_process.wait_for_rows({first}, pids)
                program.ask("end")
                program.ask("end")
                script.wait_for_rows({second}, pids)
                for each in (script, one_process):
                    each.stop()
        self.assertEqual(script.maps()["open_when_the_process_ended"], {str(killed_pid): 2})
        names = {key[2] for rows in script.shown() for key in rows}
        self.assertFalse(names & {"before", "within_before", "brief"})

    def test_more_than_there_are_slots(self):
        with Program("traced") as program, Inflight() as script:
            stuck = self.program()
            for number in range(NEVER_ENDING):
                begin(stuck, "stuck-%d" % number, "never_ends")
            wait_until(lambda: any(len(rows) == 20 for rows in script.shown()), "the oldest")
            stuck.kill()
            begin(program, "after", "outer", "inner")
            script.wait_for_rows({("after", program.pid, "outer", "inner")}, {program.pid, stuck.pid})
            script.stop()
        maps = script.maps()
        ended = maps["open_when_the_process_ended"][str(stuck.pid)]
        self.assertEqual(ended + maps["no_room"][""], NEVER_ENDING)
        self.assertLessEqual(ended, SLOTS)


class Service(Test):
    """A server that is far too slow for its agent."""

    def test_where_each_request_is(self):
        folder = self.temporary_folder()
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
                pids = {agent.pid, server.pid}

                def all_there(of):
                    return [rows for rows in of.shown() if sum(key[1] in pids for key in rows) == 10 and
                            {key[3] for key in rows if key[1] in pids} == {"llm.step", "engine.prefill", "engine.queue"}]
                found = [wait_until(lambda of=of: all_there(of), "all requests in %s" % of.lines[-40:])[0]
                         for of in (script, tenant)]
            agent.wait(PATIENCE_S)
            for each in (script, tenant, other):
                each.stop()
        roots = {(event["request_id"], event["pid"], event["event"].rpartition(".")[0]) for file in files
                 for event in lines_of(file) if event["event"] in ("llm.chat.start", "engine.request.start")}
        self.assertEqual(len(roots), 10)
        for rows in found:
            self.assertEqual({key[:3] for key in rows if key[1] in pids}, roots)
        self.assertFalse([key for rows in other.shown() for key in rows if key[1] in pids])


if __name__ == "__main__":
    example_service.need()
    harness.main("unshare", "readelf", own_processes=False)
