# SPDX-License-Identifier: Apache-2.0
"""The example service under spans.bt and trace.bt. The counts are the agent's own, and one trace crosses both
processes."""

import collections
import shutil
import tempfile

import example_service
import installed
from example_service import PROMPTS, Agent, Server
from harness import Test


class ChatService(Test):
    """One run under both scripts. Each test checks one thing."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        with installed.SpansScript() as spans, installed.TraceScript() as trace:
            with Server(folder, "--fail-rate", "0.3", "--seed", "7") as server:
                agent = Agent(server.url, *PROMPTS * 6, "--concurrency", "4",
                              "--max-attempts", "12", "--retry-delay-ms", "5")
            trace.stop()
            spans.stop()
        cls.agent_pid, cls.server_pid, cls.agent_status = agent.pid, server.pid, agent.status
        cls.summary = agent.summary
        cls.totals = spans.totals()
        cls.rows = trace.rows()

    def total(self, name, table="total"):
        return self.totals[table].get(name, 0)

    def test_the_agent_had_its_answers_though_the_server_failed(self):
        self.assertEqual(self.agent_status, 0)
        self.assertEqual((self.summary["requests"], self.summary["failed"]), (len(PROMPTS) * 6, 0))
        self.assertGreater(self.summary["retries"], 0)
        self.assertGreater(self.summary["tool_calls"], 0)

    def test_counts_are_the_agents_own(self):
        summary = self.summary
        self.assertEqual(self.total("llm.chat"), summary["requests"])
        self.assertEqual(self.total("llm.step"), summary["steps"])
        self.assertEqual(self.total("llm.tool"), summary["tool_calls"])
        self.assertEqual(self.total("llm.tool", "total_errors"), summary["tool_errors"])
        self.assertEqual(self.total("engine.request"), summary["steps"] + summary["retries"])
        self.assertEqual(self.total("engine.request", "total_errors"), summary["retries"])

    def test_the_live_trace_has_every_retry_and_tool_call(self):
        said = collections.Counter(text.split()[0].rstrip(",") + " " + mark
                                   for pid, _, _, mark, text in self.rows if pid == self.agent_pid)
        self.assertEqual(said["retry ."], self.summary["retries"])
        self.assertEqual(said["tool ."], self.summary["tool_calls"])
        self.assertEqual((said["llm.chat +"], said["llm.chat -"]), (self.summary["requests"],) * 2)

    def test_one_trace_crosses_both_processes(self):
        lines = collections.defaultdict(list)
        for pid, request_id, depth, mark, text in self.rows:
            if mark == "+":
                lines[request_id].append((pid, depth, text.split()[0]))
        ids = [answer["request_id"] for answer in self.summary["answers"]]
        self.assertEqual(len(set(ids)), self.summary["requests"])
        for request_id in ids:
            spans = set(lines[request_id])
            self.assertIn((self.agent_pid, 0, "llm.chat"), spans)
            self.assertIn((self.agent_pid, 1, "agent.operator.iteration"), spans)
            self.assertIn((self.agent_pid, 2, "llm.step"), spans)
            self.assertIn((self.server_pid, 3, "engine.request"), spans, "below the agent's step, in the server")
            self.assertIn((self.server_pid, 4, "engine.decode"), spans)


if __name__ == "__main__":
    example_service.need()
    installed.main()
