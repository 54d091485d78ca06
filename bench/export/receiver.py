#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The receiver of bench/export.sh: `receiver.py PORT` prints its port. On SIGTERM it prints how many spans, requests,
compressed requests and bytes arrived. It finds a span by the fields that begin it: both exporters write them in this order."""
import gzip
import http.server
import re
import signal
import sys
import threading

SPAN = re.compile(rb"\x0a\x10.{16}\x12\x08.{8}", re.DOTALL)
COUNTS = {"spans": 0, "requests": 0, "compressed": 0, "bytes": 0}
LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        size = len(body)
        compressed = self.headers.get("Content-Encoding") == "gzip"
        if compressed:
            body = gzip.decompress(body)
        spans = len(SPAN.findall(body)) if self.path.endswith("/v1/traces") else 0
        with LOCK:
            for name, count in (("spans", spans), ("requests", 1), ("compressed", compressed), ("bytes", size)):
                COUNTS[name] += count
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def stop(*_):
    print(*COUNTS.values(), flush=True)
    sys.exit(0)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
signal.signal(signal.SIGTERM, stop)
print(server.server_address[1], flush=True)
server.serve_forever()
