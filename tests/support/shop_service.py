# SPDX-License-Identifier: Apache-2.0
"""The two programs of examples/shop."""

import http.client
import os
import subprocess
import urllib.parse

from waiting import PATIENCE_S


class Program:
    """One of the programs, on a free port. A context manager: it listens on entry and has ended on exit."""

    def __init__(self, path, *options, env=None):
        self.process = subprocess.Popen([path, "--port", "0", *map(str, options)], stdout=subprocess.PIPE, text=True, env=env)
        self.pid = self.process.pid
        # "listening on http://127.0.0.1:PORT"
        self.port = int(self.process.stdout.readline().rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        """Ends it as a service manager does. `printed` is what it had to say after the first line."""
        self.process.terminate()
        self.printed = self.process.communicate(timeout=PATIENCE_S)[0].splitlines()
        if self.process.returncode != 0 and not failed:
            raise AssertionError("%s ended with %d" % (self.process.args[0], self.process.returncode))

    def post(self, path, headers=None, **parameters):
        """(status, body) of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("POST", path, urllib.parse.urlencode(parameters),
                           {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close", **(headers or {})})
        response = connection.getresponse()
        answer = response.status, response.read().decode()
        connection.close()
        return answer


class Warehouse(Program):
    def __init__(self, build, *options, env=None):
        super().__init__(os.path.join(build, "examples", "shop", "warehouse"), *options, env=env)


class Shop(Program):
    def __init__(self, build, warehouse, *options, env=None):
        super().__init__(os.path.join(build, "examples", "shop", "shop"), "--warehouse-port", warehouse.port, *options, env=env)

    def order(self, tenant, item, count=1, headers=None):
        return self.post("/order", {"X-Tenant": tenant, **(headers or {})}, item=item, count=count)
