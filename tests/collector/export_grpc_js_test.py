#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nopspan export to grpc-js, an implementation of gRPC in JavaScript: 1,000 requests through one exporter.

Runs only with NOPSPAN_LONG=1, because the first run downloads grpc-js, which is not in Debian."""

import base64
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import ability  # noqa: E402
import debian  # noqa: E402
import otlp_receiver  # noqa: E402
from export_faults_test import ExportTest, make_certificates  # noqa: E402

VERSION = "1.13.4"
MODULES = os.path.join(debian.CACHE, "grpc-js-" + VERSION)


def download():
    """grpc-js, in a folder that is kept."""
    if not os.path.exists(MODULES):
        os.makedirs(MODULES + ".new", exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", "--prefix", MODULES + ".new",
                        "@grpc/grpc-js@" + VERSION], stdout=subprocess.DEVNULL, check=True)
        os.rename(MODULES + ".new", MODULES)


class GrpcJs(ExportTest):
    def receive(self, requests, *options, tls=()):
        """Exports spans in requests of ten. Returns the requests: (path, body)."""
        store = self.path("requests")
        receiver = subprocess.Popen(["node", os.path.join(os.path.dirname(otlp_receiver.__file__), "grpc_js_receiver.js"), store,
                                     *tls], stdout=subprocess.PIPE, text=True,
                                    env={**os.environ, "NODE_PATH": os.path.join(MODULES, "node_modules")})
        try:
            port = receiver.stdout.readline().strip()
            self.assertTrue(port, "the receiver did not start")
            exported = self.export(self.recording(10 * requests, requests), "--otlp",
                                   "%s://localhost:%s" % ("https" if tls else "http", port), "--protocol", "grpc",
                                   "--signals", "traces,logs,metrics", *options)
        finally:
            receiver.kill()
            receiver.communicate()
        with open(store, encoding="ascii") as file:
            bodies = [(path, base64.b64decode(body)) for path, body in map(str.split, file)]
        traces = [body for path, body in bodies if path.endswith("trace.v1.TraceService/Export")]
        self.assertGreaterEqual(len(traces), requests)
        self.assertEqual(sorted(sum(map(otlp_receiver.spans_of, traces), [])), list(range(1, 10 * requests + 1)))
        self.assertTrue(any(path.endswith("metrics.v1.MetricsService/Export") for path, _ in bodies))
        self.assertEqual(len(bodies), exported.account["requests"])
        self.assertEqual(exported.account["malformed_answers"], 0)
        self.assertEqual((exported.traces()["accepted"], exported.traces()["resent"]), (10 * requests, 0))

    def test_cleartext(self):
        for compression in ("none", "gzip"):
            with self.subTest(compression=compression):
                self.receive(1000, "--compression", compression)
                os.remove(self.path("requests"))

    def test_tls(self):
        make_certificates(self.folder.name)
        self.receive(1000, "--certificate", self.path("ca.crt"), tls=(self.path("server.key"), self.path("server.crt")))


if __name__ == "__main__":
    if os.environ.get("NOPSPAN_LONG") != "1":
        print("skipped: a long test; scripts/test.sh --long runs it", file=sys.stderr)
        sys.exit(77)
    ability.need("node", "npm", "openssl")
    download()
    unittest.main()
