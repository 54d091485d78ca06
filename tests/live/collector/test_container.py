# SPDX-License-Identifier: Apache-2.0
"""The root of the container image, and the two containers of packaging/kubernetes/nopspan.yaml. unshare, mount and
capsh do what a container runtime would do with that file: the users, groups and capabilities, the read-only root, the
volumes, arguments and variables are read out of it. The tracer has no network at all.

NOPSPAN_IMAGE_ROOT names a finished root. tests/package/test_debian.py sets it.
"""

import os
import re
import signal
import subprocess
import urllib.request

import harness
from followed import Followed
from harness import NOPSPAN, Program, Test, status_of
from otlp_receiver import HttpReceiver, Received
from test_export import items_of
from test_privileges import capability_names
from waiting import PATIENCE_S

try:
    import yaml
except ImportError:
    yaml = None

PACKAGING = os.path.join(harness.SOURCE, "packaging")
# Sets the name of the pod. Mounts the root read-only on itself, what runtimes mount into it, and pairs of folders. Then runs the rest.
MOUNTS = """set -e
hostname "$1"
root=$2 pairs=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for folder in dev proc; do mount --bind "/$folder" "$root/$folder"; done
mount --bind /sys "$root/sys"
mount -o remount,bind,ro "$root/sys"
mount -t cgroup2 -o ro cgroup2 "$root/sys/fs/cgroup" || true
while [ "$pairs" -gt 0 ]; do
  mount --bind "$1" "$root$2"
  shift 2
  pairs=$((pairs - 1))
done
exec "$@"
"""


def pod():
    """The DaemonSet's pod, as in the file."""
    with open(os.path.join(PACKAGING, "kubernetes", "nopspan.yaml"), encoding="utf-8") as file:
        daemon_set, = (each for each in yaml.safe_load_all(file) if each["kind"] == "DaemonSet")
    return daemon_set["spec"]["template"]["spec"]


def named_capabilities(container):
    return {name.lower() for name in container["securityContext"]["capabilities"].get("add", [])}


class Container(Followed):
    """A container of the pod. `arguments` replaces some of its arguments. `cgroup`: the folder of its cgroup. `more`:
    further arguments."""

    name_of_pod = "nopspan-x7k2p"

    def __init__(self, image, name, volumes, variables=None, arguments=None, without=(), cgroup=None,
                 more=()):
        spec = pod()
        self.spec, = (each for each in spec["containers"] + spec["initContainers"] if each["name"] == name)
        context = self.spec["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"] and context["readOnlyRootFilesystem"], context
        known = subprocess.run(["setpriv", "--list-caps"], check=True, stdout=subprocess.PIPE, text=True).stdout
        removed = sorted(set(known.split()) - (named_capabilities(self.spec) - set(without)))
        pairs = [path for mount in self.spec["volumeMounts"] for path in (volumes[mount["name"]], mount["mountPath"])]
        environment = {each["name"]: each.get("value", "") for each in self.spec.get("env", [])} | (variables or {})
        environment = {key: re.sub(r"\$\((\w+)\)", lambda named: environment[named[1]], value)
                       for key, value in environment.items()}
        super().__init__([
            *(["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', cgroup] if cgroup else []),
            *harness.own_mounts("--uts", "--cgroup", *(["--net"] if name == "tracer" else [])),
            "sh", "-c", MOUNTS, "sh", self.name_of_pod, image, str(len(pairs) // 2), *pairs,
            "capsh", "--chroot=" + image, "--drop=" + ",".join("cap_" + each for each in removed),
            "--gid=%d" % context["runAsGroup"], "--groups=%d" % spec["securityContext"]["fsGroup"],
            "--uid=%d" % context["runAsUser"], *([] if context["allowPrivilegeEscalation"] else ["--no-new-privs"]),
            "--shell=/usr/bin/nopspan", "--", *((arguments or {}).get(each, each) for each in self.spec["args"]), *more],
            env=environment)


def build_image(folder):
    """Returns the root of an image with the built program."""
    image = os.path.join(folder, "root")
    path = os.path.dirname(NOPSPAN) + ":" + os.environ["PATH"]
    subprocess.run([os.path.join(PACKAGING, "container", "build-root.sh"), image], check=True,
                   stderr=subprocess.DEVNULL, env={**os.environ, "PATH": path})
    return image


def make_volumes(folder):
    """Makes the pod's volumes as Kubernetes does if there is an fsGroup. Returns {name: path}."""
    os.chmod(folder, 0o755)
    volumes = {}
    for volume in pod()["volumes"]:
        assert "emptyDir" in volume, volume
        path = volumes[volume["name"]] = os.path.join(folder, volume["name"])
        os.mkdir(path)
        os.chown(path, 0, pod()["securityContext"]["fsGroup"])
        os.chmod(path, 0o2777)
    return volumes


class TwoContainers(Test):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.folder_of_the_class()
        os.chmod(cls.folder, 0o755)
        cls.image = os.environ.get("NOPSPAN_IMAGE_ROOT") or build_image(cls.folder)

    def setUp(self):
        self.group = pod()["securityContext"]["fsGroup"]
        self.volumes = make_volumes(self.temporary_folder())

    def exporter(self, url):
        return Container(self.image, "exporter", self.volumes, {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "NODE_NAME": "node7"},
            {"[::]:9464": "[::]:0"})

    def tracer(self, without=()):
        return Container(self.image, "tracer", self.volumes, without=without)

    def test_the_image_has_one_program(self):
        programs = [os.path.relpath(os.path.join(folder, name), self.image) for folder, _, names in os.walk(self.image)
                    for name in names if os.access(os.path.join(folder, name), os.X_OK)]
        self.assertEqual([each for each in programs if not re.search(r"\.so(\.|$)", each)], ["usr/bin/nopspan"])

    def test_they_export_and_serve_what_programs_outside_do(self):
        with HttpReceiver(Received(keeps=True)) as receiver, self.exporter(receiver.url) as exporter:
            exporter.wait_until_it_says("Metrics are at")
            with self.tracer() as tracer:
                tracer.wait_until_it_says("Recording")
                with Program("traced") as program:
                    def arrives():
                        program.ask("span first")
                        return self.spans(receiver.received, "first")
                    tracer.wait_while_it_runs(arrives, "the tracer to attach")
                    self.check_limits(tracer, exporter)
                    program.ask("span contained 3")
                    exporter.wait_while_it_runs(lambda: len(self.spans(receiver.received, "contained")) == 3,
                                                "the spans to arrive")
                for resource in self.spans(receiver.received, "contained"):
                    self.assertEqual((int(resource["process.pid"]), resource["k8s.node.name"], resource["host.name"]),
                                     (program.pid, "node7", "node7"))
                port = re.search(r"Metrics are at http://\[::\]:(\d+)/metrics", "\n".join(exporter.said))[1]
                for host in ("127.0.0.1", "[::1]"):
                    for path, text in (("/metrics", 'span_name="contained"'), ("/-/healthy", "")):
                        with urllib.request.urlopen("http://%s:%s%s" % (host, port, path), timeout=PATIENCE_S) as answer:
                            self.assertIn(text, answer.read().decode())
                self.assertEqual(tracer.stop(signal.SIGTERM), 0, tracer.said)
            self.assertEqual(exporter.stop(signal.SIGTERM), 0, exporter.said)

    @staticmethod
    def spans(received, name):
        """The resource of each span that arrived with this name."""
        return [resource for resource, span in items_of(received.bodies, "resourceSpans", "scopeSpans", "spans")
                if span["name"] == name]

    def check_limits(self, tracer, exporter):
        """What the kernel says of the processes is what the file says."""
        for container, user in ((tracer, 0), (exporter, pod()["initContainers"][0]["securityContext"]["runAsUser"])):
            status = status_of(container.pid)
            self.assertEqual(set(map(int, status["Uid"].split())), {user})
            self.assertEqual(status["Groups"].split(), [str(self.group)])
            self.assertEqual(status["NoNewPrivs"], "1")
            self.assertEqual(capability_names(status["CapBnd"]), named_capabilities(container.spec))
        self.assertEqual(capability_names(status_of(exporter.pid)["CapPrm"]), set())

    def test_each_capability_is_needed(self):
        self.assertEqual(named_capabilities(self.tracer_spec()),
                         {"bpf", "perfmon", "sys_ptrace", "dac_read_search", "checkpoint_restore", "lease"})
        for missing in ("bpf", "perfmon"):
            with self.subTest(missing=missing):
                tracer = self.tracer(without=[missing])
                self.assertEqual(tracer.end(), 1, tracer.said)
                self.assertIn("CAP_BPF and CAP_PERFMON", "\n".join(tracer.said))
        with self.tracer(without=["sys_ptrace"]) as tracer:
            tracer.wait_until_it_says("without CAP_SYS_PTRACE, only the processes of this user are traced")

    @staticmethod
    def tracer_spec():
        return pod()["containers"][0]


if __name__ == "__main__":
    if yaml is None:
        harness.ability.unable("python3-yaml is not installed")
    harness.main("unshare", "capsh", "setpriv")
