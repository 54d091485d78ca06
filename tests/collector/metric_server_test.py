#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The listener for metrics, scraped by a real Prometheus. A small program serves files that the test writes."""
import contextlib
import gzip
import json
import os
import re
import resource
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.request

import ability
import prometheus
import waiting

PROGRAM = os.environ.get("NOPSPAN_METRIC_PROGRAM", "build/dev/tests/collector/metric_program")

OPENMETRICS = """# HELP chat_requests Requests.
# TYPE chat_requests counter
chat_requests_total{model="small"} 12
# EOF
"""


class Server:
    """The program, and the files that it serves."""

    def __init__(self, address="127.0.0.1:0", **contents):
        self.folder = tempfile.TemporaryDirectory()
        for name, content in contents.items():
            self.write(name, content)
        self.process = subprocess.Popen([os.path.abspath(PROGRAM), self.folder.name, address], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise OSError("the program does not serve on " + address)
        self.port = int(self.address.rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=waiting.PATIENCE_S)
        self.process.stdout.close()
        self.folder.cleanup()

    def write(self, name, content):
        path = os.path.join(self.folder.name, name)
        with open(path + ".new", "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.rename(path + ".new", path)

    def counts(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def get(self, accept="", path="/metrics"):
        request = urllib.request.Request(f"http://{self.address}{path}", headers={"Accept": accept, "Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=waiting.PATIENCE_S) as answer:
            body = answer.read()
            return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body

    def memory(self):
        """The most memory that the program ever had, in bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024


class Scraped(unittest.TestCase):
    def test_openmetrics_over_kept_connections(self):
        with Server(openmetrics=OPENMETRICS) as server, prometheus.Prometheus(server.address) as scraper:
            scraper.wait_until_up()
            scraper.wait_for("chat_requests_total", 12)
            server.write("openmetrics", OPENMETRICS.replace("12\n", "40\n"))
            scraper.wait_for("chat_requests_total", 40)
            # Prometheus opened one, and its first scrapes may have been before the server was ready.
            self.assertLess(server.counts()["connections"], server.counts()["scrapes"])

    def test_each_address_by_which_the_server_is_reached(self):
        try:
            server = Server("[::]:0", openmetrics=OPENMETRICS)
        except OSError:
            self.skipTest("no IPv6")
        hosts = ["127.0.0.1", "127.0.0.9", "[::1]"]
        with contextlib.suppress(OSError):  # without /etc/hosts
            socket.getaddrinfo("localhost", None)
            hosts.append("localhost")
        with server, prometheus.Prometheus(*(f"{host}:{server.port}" for host in hosts)) as scraper:
            scraper.wait_until_up()
            scraper.wait_for("count(chat_requests_total)", len(hosts))

    def test_a_failure_is_seen_by_prometheus(self):
        with Server() as server, prometheus.Prometheus(server.address) as scraper:
            scraper.wait_until(lambda: any("500" in target["lastError"] for target in scraper.scraped()), "an error")
            server.write("openmetrics", OPENMETRICS)
            scraper.wait_for("chat_requests_total", 12)
            self.assertGreaterEqual(server.counts()["failed"], 1)


class Rules(unittest.TestCase):
    def test_each_alert(self):
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rules_test.yml")
        rules_path = os.path.join(os.path.dirname(path), "..", "..", "packaging", "prometheus", "nopspan-rules.yml")
        done = subprocess.run(["promtool", "test", "rules", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        with open(path, encoding="utf-8") as test, open(rules_path, encoding="utf-8") as rules:
            self.assertEqual(set(re.findall(r'alertname="(\w+)"', test.read())), set(re.findall(r"alert: (\w+)", rules.read())))


class Bounded(unittest.TestCase):
    def test_a_thousand_connections(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
        with Server(openmetrics=OPENMETRICS) as server, prometheus.Prometheus(server.address) as scraper:
            scraper.wait_until_up()
            open_ones = []

            def open_more():
                for number in range(1000):
                    one = socket.create_connection(("127.0.0.1", server.port), timeout=waiting.PATIENCE_S)
                    if number % 2:
                        one.send(b"GET /metrics HTTP/1.1\r\nHost: local")
                    open_ones.append(one)
            opener = threading.Thread(target=open_more)
            opener.start()
            before = server.counts()["scrapes"]
            opener.join()
            waiting.wait_until(lambda: server.counts()["scrapes"] >= before + 3, "scrapes")
            self.assertLess(server.memory(), 64 << 20)
            with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
                threads = next(int(line.split()[1]) for line in file if line.startswith("Threads:"))
            self.assertLessEqual(threads, 34)
            for one in open_ones:
                one.close()
            self.check_served(server)

    def check_served(self, server):
        self.assertEqual(server.get("application/openmetrics-text").decode(), OPENMETRICS)


class Misused(unittest.TestCase):
    def run_at(self, address):
        return subprocess.run([os.path.abspath(PROGRAM), "/nowhere", address], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=waiting.PATIENCE_S, check=False)

    def test_an_address_that_cannot_be_used(self):
        with Server(openmetrics=OPENMETRICS) as server:
            done = self.run_at(server.address)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("another program listens there", done.stderr)
        done = self.run_at("example.com:80")
        self.assertEqual(done.returncode, 2)
        self.assertIn("not an IP address and a port", done.stderr)

    @unittest.skipIf(os.geteuid() != 0, "only root may drop capabilities")
    def test_a_privileged_port(self):
        done = subprocess.run(["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service", "unshare", "--net",
                               os.path.abspath(PROGRAM), "/nowhere", "0.0.0.0:80"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=waiting.PATIENCE_S, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("CAP_NET_BIND_SERVICE", done.stderr)


ability.need("prometheus", "promtool", "setpriv", "unshare")
if __name__ == "__main__":
    unittest.main()
