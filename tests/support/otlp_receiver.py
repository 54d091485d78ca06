# SPDX-License-Identifier: Apache-2.0
"""An OTLP receiver whose answers a test chooses: over HTTP by Python's own server, over gRPC by grpcio. It shares no
code with the exporter.

As a program, `otlp_receiver.py PORT FILE` appends the ids of spans, 8 bytes each, to FILE before it answers. It can be
killed. It finds only the spans of export_load."""

import gzip
import http.server
import json
import os
import re
import socket
import ssl
import sys
import threading
import time


def fields(message):
    """Yields (number, value) of a protobuf message's varints (int) and length-delimited fields (bytes)."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            size = varint()
            if at + size > len(message):
                raise ValueError("truncated message")
            yield tag >> 3, message[at:at + size]
            at += size
        else:
            raise ValueError("wire type %d" % kind)


def spans_of(request):
    """The ids of the spans of an ExportTraceServiceRequest, as integers."""
    ids = []
    for number, resource in fields(request):
        for inner, scope in fields(resource) if number == 1 else ():
            for last, span in fields(scope) if inner == 2 else ():
                if last == 2:
                    ids.append(int.from_bytes(dict(fields(span))[2], "big"))
    return ids


def spans_of_json(request):
    return [int(span["spanId"], 16) for resource in json.loads(request)["resourceSpans"]
            for scope in resource["scopeSpans"] for span in scope["spans"]]


def partial_success(rejected, message=b"not these"):
    """An ExportTraceServiceResponse."""
    partial = b"\x08" + bytes([rejected]) + b"\x12" + bytes([len(message)]) + message
    return b"\x0a" + bytes([len(partial)]) + partial


class Received:
    """What arrived. `answer` is called with the number of the request, from 0, and its ids; see the receivers. `keeps`: the
    bodies in JSON are kept as texts."""

    def __init__(self, answer=None, keeps=False):
        self.keeps, self.bodies = keeps, []
        self.answer = answer or (lambda number, ids: OK)
        self.lock = threading.Lock()
        self.requests = []  # the ids, or what else identifies it
        self.stored = []    # ids
        self.headers = []
        self.paths = []

    def add(self, path, headers, ids):
        """Returns the answer."""
        with self.lock:
            self.paths.append(path)
            self.headers.append(headers)
            self.requests.append(ids)
            answer = self.answer(len(self.requests) - 1, ids)
            if answer.stores:
                self.stored += ids[answer.rejects:]
        return answer


class Answer:
    """`status`: of HTTP, or a name of a gRPC code, or None: the connection is closed. `rejects`: so many spans are not
    stored. `hangs`: never answers. `closes_after`: so many bytes of the body."""

    def __init__(self, status=200, body=b"", headers=(), stores=None, hangs=False, message="", details=None, content_type=None,
                 closes_after=None, rejects=0):
        self.status, self.body, self.headers, self.hangs = status, body, dict(headers), hangs
        self.message, self.details, self.content_type, self.closes_after = message, details, content_type, closes_after
        self.rejects = rejects
        self.stores = status == 200 if stores is None else stores


OK = Answer()
CLOSES = Answer(None, stores=False)
STORES_AND_CLOSES = Answer(None, stores=True)


class HttpReceiver:
    """HTTP/1.1 on a free port of 127.0.0.1."""

    def __init__(self, received, port=0, tls=None, parse=None):
        self.received = received
        self.ends = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                is_json = self.headers["Content-Type"] == "application/json"
                read = parse or (spans_of_json if is_json else spans_of)
                ids = read(body) if self.path.endswith("/v1/traces") else []
                if received.keeps:
                    received.bodies.append(body.decode())
                answer = received.add(self.path, dict(self.headers), ids)
                if answer.hangs:
                    receiver.ends.wait()
                if answer.status is None or answer.hangs:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type or self.headers["Content-Type"])
                self.send_header("Content-Length", str(len(answer.body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                sent = answer.body if answer.closes_after is None else answer.body[:answer.closes_after]
                self.wfile.write(sent)
                self.close_connection = self.close_connection or answer.closes_after is not None

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.scheme = "https" if tls else "http"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = "%s://localhost:%d" % (self.scheme, self.port)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.server.shutdown()
        self.server.server_close()


class GrpcReceiver:
    """gRPC on a free port of 127.0.0.1. `tls` is (key, certificate) in PEM."""

    def __init__(self, received, tls=None, most_bytes=None):
        import grpc  # pylint: disable=import-outside-toplevel
        from concurrent import futures  # pylint: disable=import-outside-toplevel
        self.received = received

        def serve(request, context, path):
            ids = spans_of(request) if "trace" in path else []
            answer = received.add(path, dict(context.invocation_metadata()), ids)
            if answer.hangs:
                while context.is_active():  # time_remaining() is by the wall clock, which may be set
                    time.sleep(0.01)
            if answer.status in (200, "OK"):
                return answer.body
            if answer.details is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", answer.details),))
            return context.abort(grpc.StatusCode[answer.status or "UNAVAILABLE"], answer.message)

        class Handler(grpc.GenericRpcHandler):
            def service(self, handler_call_details):
                path = handler_call_details.method
                return grpc.unary_unary_rpc_method_handler(lambda request, context: serve(request, context, path))

        options = [("grpc.max_receive_message_length", most_bytes)] if most_bytes else None
        self.server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
        self.server.add_generic_rpc_handlers((Handler(),))
        if tls:
            self.port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([tls]))
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.url = "%s://localhost:%d" % ("https" if tls else "http", self.port)
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tls_context(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "server.crt"), os.path.join(folder, "server.key"))
    return context


def main(port, path):
    store = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    size = os.fstat(store).st_size
    os.ftruncate(store, size - size % 8)  # the write of the one before may have been cut
    # Fields 1 and 2 of a span: the trace id, which is the same for all, and the span id. The parser above is too slow.
    span = re.compile(rb"\x0a\x10\x01\0{15}\x12\x08(.{8})", re.DOTALL)
    receiver = HttpReceiver(Received(), port, parse=lambda body: os.write(store, b"".join(span.findall(body))) and [])
    receiver.thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
