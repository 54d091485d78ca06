# SPDX-License-Identifier: Apache-2.0
"""What nopspan finds out about a process and its host is the same wherever it runs: by hand, in the systemd units and in
the containers of the DaemonSet. The command lines, properties and capabilities are those of the shipped files. unshare,
mount and setpriv do what systemd does with the properties on which a fact could depend (NAMESPACES)."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import harness
from cgroup import Cgroup
from collector import CollectorTest
from followed import Followed
from harness import NOPSPAN, Program, program_path
from otlp_receiver import HttpReceiver, Received
from test_collector_namespace import child_of, in_namespace
from test_container import Container, build_image, make_volumes, yaml
from test_export import items_of
from waiting import wait_until

INSIDE = "NOPSPAN_NAMED_HOST"
HOST = "named-by-the-network"
# What hostname(5) allows, and what is in many images of systems.
HOSTNAME_FILE = "# set by the network, see hostname(5)\nlocalhost\n"
USER = 64321
# unshare's options for properties of units.
NAMESPACES = {"ProtectHostname=yes": "--uts", "PrivateNetwork=yes": "--net"}
# The other properties that change what a process sees of files and processes. The folder stays visible, as a
# RuntimeDirectory= does.
VIEWS = {
    "PrivateTmp=yes": 'exec 3<"$folder"; mount -t tmpfs tmpfs /tmp; mkdir -p "$folder"; '
                      'mount --no-canonicalize --bind /proc/self/fd/3 "$folder"; exec 3<&-',
    "ProtectProc=invisible": "mount -t proc -o hidepid=invisible,subset=pid proc /proc",
}
POD = "0e1d8d67-3f0c-4f5e-9a4d-3c1f2b7a9c55"
CONTAINER = "4f5e6d" + "0a" * 29
PROGRAM = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.4,k8s.pod.name=shop-0"}
FACTS = ("host.name", "service.name", "service.version", "service.instance.id", "process.pid", "process.vpid",
         "process.executable.path", "process.linux.cgroup", "container.id", "k8s.pod.uid", "k8s.pod.name",
         "telemetry.sdk.version")


class Unit(Followed):
    """The command of a unit. `$folder` has the program, and stands for the folders that systemd makes."""

    def __init__(self, name, folder, variables):
        with open(os.path.join(harness.SOURCE, "packaging", name + ".service"), encoding="utf-8") as file:
            properties = re.findall(r"(?m)^\w+=.*$", file.read())
        value = dict(line.split("=", 1) for line in properties)
        command = value["ExecStart"].replace("/run/nopspan-export", folder)
        views = [text for line, text in VIEWS.items() if line in properties]
        capabilities = "-all" + "".join(",+" + each.removeprefix("CAP_").lower()
                                        for each in value["CapabilityBoundingSet"].split())
        user = ["setpriv", "--reuid=%d" % USER, "--regid=%d" % USER, "--clear-groups"]
        if "PrivateUsers=yes" in properties:
            # Some systems allow a user namespace only with this capability.
            user += ["--inh-caps=+sys_admin", "--ambient-caps=+sys_admin", "unshare", "--user", "--map-current-user",
                     "setpriv"]
        super().__init__([
            *harness.own_mounts(*(option for line, option in NAMESPACES.items() if line in properties)),
            "sh", "-ec", "\n".join([*views, 'exec "$@"']), "sh", *user, "--no-new-privs", "--inh-caps=" + capabilities,
            "--ambient-caps=" + capabilities, "--bounding-set=" + capabilities, "sh", "-c",
            command.removeprefix("/bin/sh -c ").strip("'")],
            env={"folder": folder, "RUNTIME_DIRECTORY": folder, "STATE_DIRECTORY": folder,
                 "PATH": folder + ":" + os.environ["PATH"], **variables})


class Facts(CollectorTest):
    maxDiff = None

    def setUp(self):
        self.folder = self.temporary_folder()
        os.chown(self.folder, USER, USER)
        shutil.copy(NOPSPAN, self.folder)
        cgroup = Cgroup(self, "kubepods-pod%s.slice" % POD, "cri-containerd-%s.scope" % CONTAINER)
        self.enterContext(cgroup)
        self.cgroup_of_tracer = self.enterContext(Cgroup(self, "kubepods-tracer.slice"))
        open_folder = self.temporary_folder()  # another user may not enter that of this build
        os.chmod(open_folder, 0o755)
        self.binary = shutil.copy(program_path("traced_static"), open_folder)
        command = in_namespace("setpriv", "--reuid=12345", "--clear-groups", self.binary)
        self.program = self.enterContext(Program("traced", command=command, env=PROGRAM))
        self.pid = child_of(self.program.process.pid)
        cgroup.put(self.pid)

    def facts(self, exporter, tracer):
        """The resource of a span of the program, as two processes export it."""
        received = Received(keeps=True)
        with HttpReceiver(received) as receiver:
            endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}
            with exporter(endpoint) as exporting:
                exporting.wait_until_it_says("Exporting to")
                with tracer() as tracing:
                    tracing.wait_until_it_says("Recording")

                    def arrived():
                        self.program.ask("span asked")
                        return self.resources(received)
                    resources = wait_until(arrived, "a span of the program",
                                           seen=lambda: "\n".join(exporting.said + tracing.said))
                    self.assertEqual(tracing.stop(signal.SIGTERM), 0, tracing.said)
                self.assertEqual(exporting.stop(signal.SIGTERM), 0, exporting.said)
        return {name: resources[0].get(name) for name in FACTS}

    def resources(self, received):
        return [resource for resource, span in items_of(list(received.bodies), "resourceSpans", "scopeSpans", "spans")
                if span["name"] == "asked" and resource["process.pid"] == self.pid]

    def by_hand(self):
        socket = "unix:" + os.path.join(self.folder, "by-hand.sock")
        return self.facts(lambda endpoint: Followed([NOPSPAN, "export", "--from", socket], env=endpoint),
                          lambda: Followed([NOPSPAN, "record", socket]))

    def by_the_units(self):
        return self.facts(
            lambda endpoint: Unit("nopspan-export", self.folder,
                                  {**endpoint, "NOPSPAN_SERVE": "127.0.0.1:0", "NOPSPAN_EXPORT_OPTIONS": ""}),
            lambda: Unit("nopspan-stream", self.folder, {}))

    def by_the_daemon_set(self):
        image = build_image(self.temporary_folder())
        os.chmod(os.path.dirname(image), 0o755)
        volumes = make_volumes(self.temporary_folder())
        # Without the variable that says the node's name.
        return self.facts(
            lambda endpoint: Container(image, "exporter", volumes, {**endpoint, "OTEL_RESOURCE_ATTRIBUTES": ""},
                                       {"[::]:9464": "127.0.0.1:0"}),
            lambda: Container(image, "tracer", volumes, cgroup=self.cgroup_of_tracer.folder,
                              more=["--cgroup", CONTAINER[:12]]))

    def test_are_the_same_wherever_it_runs(self):
        expected = {
            "host.name": HOST, "service.name": "shop", "service.version": "1.4", "process.pid": self.pid,
            "process.vpid": self.program.pid, "process.executable.path": self.binary,
            "container.id": CONTAINER, "k8s.pod.uid": POD, "k8s.pod.name": "shop-0"}
        by_hand = self.by_hand()
        self.assertEqual(by_hand, {**by_hand, **expected})
        self.assertNotIn(None, by_hand.values())
        self.assertEqual(self.by_the_units(), by_hand)
        # A container can only read the host's file, which must have the name then.
        with open("/etc/hostname", "w", encoding="ascii") as file:
            file.write(HOSTNAME_FILE.replace("localhost", HOST))
        self.assertEqual(self.by_the_daemon_set(), by_hand)


def on_a_named_host():
    """Runs the calling file again where the host's name is not in /etc/hostname."""
    with tempfile.NamedTemporaryFile("w", encoding="ascii", delete=False) as file:
        file.write(HOSTNAME_FILE)
    script = 'mount --bind "$1" /etc/hostname; rm "$1"; hostname "$2"; shift 2; exec "$@"'
    command = harness.own_mounts("--uts") + ["sh", "-ec", script, "sh", file.name, HOST, sys.executable, *sys.argv]
    os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})


if __name__ == "__main__":
    if yaml is None:
        harness.ability.unable("python3-yaml is not installed")
    harness.need("unshare", "setpriv", "capsh", "hostname", "mount")
    if INSIDE not in os.environ:
        on_a_named_host()
    harness.main()
