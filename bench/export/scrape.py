#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Scrapes `nopspan serve` for bench/export.sh: `scrape.py PORT PID SCRAPES` prints the rows of a table. Between two scrapes is
a pause, because the server reuses a text for 250 ms."""
import http.client
import sys
import time

FORMATS = {
    "text": "text/plain;version=0.0.4",
    "OpenMetrics": "application/openmetrics-text;version=1.0.0",
}


def cpu_seconds(pid):
    with open("/proc/%s/stat" % pid, encoding="utf-8") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def scrape(connection, accept, encoding):
    connection.request("GET", "/metrics", headers={"Accept": accept, "Accept-Encoding": encoding})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or answer.getheader("Content-Type").split(";")[0] != accept.split(";")[0]:
        sys.exit("scrape.py: %d %s" % (answer.status, answer.getheader("Content-Type")))
    return len(body)


def main(port, pid, scrapes):
    connection = http.client.HTTPConnection("127.0.0.1", port)  # connects again for each request
    for name, accept in FORMATS.items():
        for encoding in ("identity", "gzip"):
            times, size = [], 0
            before = cpu_seconds(pid)
            for _ in range(scrapes):
                time.sleep(0.26)
                began = time.perf_counter()
                size = scrape(connection, accept, encoding)
                times.append((time.perf_counter() - began) * 1000)
            times.sort()
            print("| %s%s | %.1f ms | %.1f ms | %.1f ms | %d KiB |" %
                  (name, ", gzip" if encoding == "gzip" else "", times[len(times) // 2], times[int(len(times) * 0.99)],
                   (cpu_seconds(pid) - before) * 1000 / scrapes, size // 1024))


main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
