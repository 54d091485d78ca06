#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An OTLP receiver that prints each request as a tree of spans, to see what `nopspan export` sends:

  examples/otlp_receiver.py [--port PORT] [--port-file FILE] [--limit N] [--span NAME]
  nopspan export --otlp http://127.0.0.1:4318 --protocol http/json

It understands OTLP/HTTP in JSON only, and keeps everything in memory."""

import argparse
import http.server
import json
import threading
import time

PATIENCE_S = 4  # after the root span's arrival: other processes may report later


def value_of(attributes, key):
    return next((next(iter(one["value"].values()), "") for one in attributes if one["key"] == key), "")


class Traces:
    def __init__(self):
        self.lock = threading.Lock()
        self.spans = {}  # trace id -> [(service, span)]
        self.rooted = {}  # trace id -> when its root span arrived

    def add(self, request):
        with self.lock:
            for resource in request.get("resourceSpans", []):
                service = value_of(resource["resource"]["attributes"], "service.name")
                for span in [span for scope in resource["scopeSpans"] for span in scope["spans"]]:
                    self.spans.setdefault(span["traceId"], []).append((service, span))
                    if not span.get("parentSpanId"):
                        self.rooted.setdefault(span["traceId"], time.monotonic())

    def take_complete(self):
        """The spans of each trace whose root span arrived some time ago."""
        with self.lock:
            due = [trace for trace, at in self.rooted.items() if time.monotonic() - at > PATIENCE_S]
            for trace in due:
                del self.rooted[trace]
            return {trace: self.spans.pop(trace) for trace in due}


def tree(spans, parent="", depth=0):
    """The lines of the spans inside a span."""
    for service, span in sorted(spans, key=lambda one: int(one[1]["startTimeUnixNano"])):
        if span.get("parentSpanId", "") == parent:
            nanoseconds = int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
            tokens = value_of(span.get("attributes", []), "gen_ai.usage.output_tokens")
            failed = span.get("status", {}).get("code") == 2
            yield "%10.2f ms  %s%s  %s%s%s" % (nanoseconds / 1e6, "  " * depth, span["name"], service,
                                               "  %s output tokens" % tokens if tokens else "", "  failed" if failed else "")
            yield from tree(spans, span["spanId"], depth + 1)


def handler(traces):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_json = self.headers["Content-Type"] == "application/json"
            if is_json:
                traces.add(json.loads(body))
            answer = b"{}" if is_json else b"use --protocol http/json"
            self.send_response(200 if is_json else 415)
            self.send_header("Content-Type", "application/json" if is_json else "text/plain")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass
    return Handler


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=4318, help="0 takes a free one (default: 4318)")
    parser.add_argument("--port-file", help="write the port to this file")
    parser.add_argument("--limit", type=int, default=0, help="end after so many requests (default: 0, no limit)")
    parser.add_argument("--span", default="", help="show only requests with a span whose name begins so")
    options = parser.parse_args()
    traces, shown = Traces(), 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler(traces))
    server.daemon_threads = True
    if options.port_file:
        with open(options.port_file, "w", encoding="ascii") as file:
            file.write("%d\n" % server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not options.limit or shown < options.limit:
        time.sleep(0.1)
        for trace, spans in traces.take_complete().items():
            if any(span["name"].startswith(options.span) for _, span in spans) and (not options.limit or shown < options.limit):
                print("\n".join(["trace " + trace, *tree(spans)]), flush=True)
                shown += 1


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
