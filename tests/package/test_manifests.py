# SPDX-License-Identifier: Apache-2.0
"""The files for Kubernetes, Compose and the OpenTelemetry Collector: all fields are known, have the right type, and required ones are there. The
definitions are those that Kubernetes and Compose publish, as Debian packages them: the classes of python3-kubernetes,
which are generated from Kubernetes' OpenAPI, and the JSON schema in docker-compose. Neither a cluster nor Docker is used.
Debian does not package the Collector's components and the Prometheus Operator. Their fields are those that their
documentation lists.

/usr/bin/python3 tests/package/test_manifests.py -v
"""

import copy
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.join(os.path.dirname(os.path.dirname(HERE)), "packaging")
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "support"))
import ability

try:
    import kubernetes.client
    import yaml
except ImportError as missing:
    kubernetes, yaml = None, missing

KUBERNETES = os.path.join(PACKAGING, "kubernetes", "nopspan.yaml")
POD_MONITOR = os.path.join(PACKAGING, "kubernetes", "pod-monitor.yaml")
COMPOSE = os.path.join(PACKAGING, "compose", "compose.yaml")
# Fields that are younger than Debian's package (Kubernetes 1.22).
NEWER = {"V1Container": {"restartPolicy": "str"}, "V1SecurityContext": {"appArmorProfile": "dict(str, str)"}}
TRACER = ("spec", "template", "spec", "containers", 0)
PLAIN = {"str": str, "int": int, "bool": bool, "object": (str, int)}


def problems(value, kind, where=""):
    """What is wrong with a value that should be of this kind, which is a type as the package's classes write it."""
    if kind in PLAIN:
        right = isinstance(value, PLAIN[kind]) and (kind == "bool") == isinstance(value, bool)
        return [] if right else ["%s is not %s" % (where, kind)]
    if inner := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            return ["%s is not a list" % where]
        return [each for i, one in enumerate(value) for each in problems(one, inner[1], "%s[%d]" % (where, i))]
    if not isinstance(value, dict):
        return ["%s is not a mapping" % where]
    if inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
        return [each for name, one in value.items() for each in problems(one, inner[1], "%s.%s" % (where, name))]
    model = getattr(kubernetes.client, kind)
    names = {name: attribute for attribute, name in model.attribute_map.items()}
    kinds = {name: model.openapi_types[attribute] for name, attribute in names.items()} | NEWER.get(kind, {})
    found = ["%s.%s is unknown" % (where, name) for name in value if name not in kinds]
    try:
        model(**{names[name]: one for name, one in value.items() if name in names})
    except ValueError as error:
        found.append("%s: %s" % (where, error))
    return found + [each for name, one in value.items() if name in kinds
                    for each in problems(one, kinds[name], "%s.%s" % (where, name))]


def read(path):
    with open(path, encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


class Kubernetes(unittest.TestCase):
    def setUp(self):
        self.namespace, self.priority_class, self.daemon_set = read(KUBERNETES)
        self.pod = self.daemon_set["spec"]["template"]["spec"]
        (self.exporter,), (self.tracer,) = self.pod["initContainers"], self.pod["containers"]

    def test_the_file_follows_the_definitions(self):
        self.assertEqual([each["apiVersion"] for each in (self.namespace, self.priority_class, self.daemon_set)],
                         ["v1", "scheduling.k8s.io/v1", "apps/v1"])
        self.assertEqual(problems(self.namespace, "V1Namespace"), [])
        self.assertEqual(problems(self.priority_class, "V1PriorityClass"), [])
        self.assertEqual(problems(self.daemon_set, "V1DaemonSet"), [])

    def test_the_check_finds_mistakes(self):
        for path, name, value, problem in (
                (("spec", "template", "spec"), "hostPid", True, "hostPid is unknown"),
                (("spec", "template", "spec"), "hostPID", "true", "hostPID is not bool"),
                (("spec",), "selector", None, "selector"),
                ((*TRACER, "securityContext", "capabilities"), "add", "BPF", "add is not a list"),
                ((*TRACER, "securityContext"), "runAsUser", "0", "runAsUser is not int"),
                (("spec", "template", "metadata", "annotations"), "prometheus.io/port", 9464, "port is not str")):
            with self.subTest(name=name):
                wrong = copy.deepcopy(self.daemon_set)
                part = wrong
                for step in path:
                    part = part[step]
                part[name] = value
                if value is None:
                    del part[name]
                self.assertRegex("\n".join(problems(wrong, "V1DaemonSet")), problem)

    def test_its_parts_belong_together(self):
        template, spec = self.daemon_set["spec"]["template"], self.daemon_set["spec"]
        self.assertEqual(spec["selector"]["matchLabels"], template["metadata"]["labels"])
        self.assertEqual(self.daemon_set["metadata"]["namespace"], self.namespace["metadata"]["name"])
        volumes = {each["name"] for each in self.pod["volumes"]}
        for container in (self.exporter, self.tracer):
            self.assertLessEqual({each["name"] for each in container["volumeMounts"]}, volumes)
        port, = self.exporter["ports"]
        self.assertEqual(template["metadata"]["annotations"]["prometheus.io/port"], str(port["containerPort"]))
        self.assertIn("[::]:%d" % port["containerPort"], self.exporter["args"])
        for probe in ("livenessProbe", "startupProbe"):
            self.assertEqual(self.exporter[probe]["httpGet"]["port"], port["name"])

    def test_it_evicts_no_pod(self):
        self.assertEqual(self.pod["priorityClassName"], self.priority_class["metadata"]["name"])
        self.assertEqual(self.priority_class["preemptionPolicy"], "Never")
        self.assertGreater(self.priority_class["value"], 0)

    def test_the_pod_monitor_finds_the_exporters(self):
        monitor, = read(POD_MONITOR)
        self.assertEqual(differences(monitor, POD_MONITOR_FIELDS), [])
        self.assertEqual((monitor["apiVersion"], monitor["kind"]), ("monitoring.coreos.com/v1", "PodMonitor"))
        template = self.daemon_set["spec"]["template"]
        self.assertEqual(monitor["metadata"]["namespace"], self.namespace["metadata"]["name"])
        self.assertEqual(monitor["spec"]["selector"]["matchLabels"], template["metadata"]["labels"])
        endpoint, = monitor["spec"]["podMetricsEndpoints"]
        self.assertEqual(endpoint["port"], self.exporter["ports"][0]["name"])
        self.assertEqual(endpoint["path"], template["metadata"]["annotations"]["prometheus.io/path"])

    def test_the_tracer_has_the_units_capabilities_and_the_exporter_none(self):
        with open(os.path.join(PACKAGING, "nopspan-stream.service"), encoding="utf-8") as file:
            listed = re.search(r"(?m)^CapabilityBoundingSet=(.*)", file.read())[1]
        self.assertEqual(self.tracer["securityContext"]["capabilities"],
                         {"drop": ["ALL"], "add": [name.removeprefix("CAP_") for name in listed.split()]})
        self.assertEqual(self.exporter["securityContext"]["capabilities"], {"drop": ["ALL"]})
        self.assertTrue(self.exporter["securityContext"]["runAsNonRoot"])
        for container in (self.exporter, self.tracer):
            context = container["securityContext"]
            self.assertEqual((context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]), (False, True))

    def test_the_exporter_has_room_for_a_full_node(self):
        """By the formula in docs/deployment.md."""
        pods, names, statuses = 110, 15, 2
        most_series = int(self.exporter["args"][self.exporter["args"].index("--max-series") + 1])
        self.assertGreaterEqual(most_series, pods * names * statuses * 4 / 3)

    def test_the_image_has_its_user(self):
        with open(os.path.join(PACKAGING, "container", "build-root.sh"), encoding="utf-8") as file:
            user = int(re.search(r"(?m)^readonly user=(\d+)$", file.read())[1])
        context = self.exporter["securityContext"]
        self.assertEqual({context["runAsUser"], context["runAsGroup"], self.pod["securityContext"]["fsGroup"]}, {user})

    def test_compose_says_the_same(self):
        document, = read(COMPOSE)
        group = str(self.pod["securityContext"]["fsGroup"])
        for name, container in (("exporter", self.exporter), ("tracer", self.tracer)):
            service, context = document["services"][name], container["securityContext"]
            self.assertEqual(service["command"][:len(container["args"])], container["args"])
            self.assertEqual(service["user"], "%(runAsUser)d:%(runAsGroup)d" % context)
            self.assertEqual(service["cap_drop"], context["capabilities"]["drop"])
            self.assertEqual(service.get("cap_add"), context["capabilities"].get("add"))
            self.assertEqual(service["read_only"], context["readOnlyRootFilesystem"])
            self.assertIn("no-new-privileges:true", service["security_opt"])
            self.assertEqual(service["volumes"], ["%(name)s:%(mountPath)s" % each for each in container["volumeMounts"]])
        tracer = document["services"]["tracer"]
        self.assertEqual((tracer["pid"], tracer["network_mode"], tracer["group_add"]), ("host", "none", [group]))


class Compose(unittest.TestCase):
    def config(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "compose.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return subprocess.run(["docker-compose", "--file", path, "config", "--quiet"], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False)

    def test_the_file_follows_the_schema(self):
        with open(COMPOSE, encoding="utf-8") as file:
            text = file.read()
        done = self.config(text)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        for right, wrong in (("cap_add: [", "cap_ad: ["), ("read_only: true", "read_only: always"),
                             ("depends_on: [exporter]", "depends_on: [x]")):
            self.assertIn(right, text)
            self.assertNotEqual(self.config(text.replace(right, wrong)).returncode, 0, wrong)


class Removal(unittest.TestCase):
    def test_no_link_to_a_unit_is_left_where_systemd_does_not_run(self):
        """As in a chroot, or while an image is built."""
        if os.geteuid() != 0 or not os.path.isdir("/etc/systemd"):
            self.skipTest("needs root, and /etc/systemd")
        script = """mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /etc/systemd
            mkdir -p /etc/systemd/system/multi-user.target.wants
            cd /etc/systemd/system/multi-user.target.wants
            for unit in nopspan nopspan-export nopspan-stream other; do
              ln -s /lib/systemd/system/$unit.service .
            done
            "$1" upgrade; ls; "$1" remove; ls"""
        done = subprocess.run([*ability.own_mounts(), "sh", "-ec", script, "sh", os.path.join(PACKAGING, "deb", "prerm")],
                              check=True, stdout=subprocess.PIPE, text=True)
        units = ["nopspan-export.service", "nopspan-stream.service", "nopspan.service", "other.service"]
        self.assertEqual(done.stdout.split(), [*units, "other.service"])


# Of each component that the Collector's files use: the fields and the types of their values.
OTLP_EXPORTER = {"endpoint": str, "timeout": str, "tls": {"insecure": bool}, "retry_on_failure": {"enabled": bool},
                 "sending_queue": {"enabled": bool, "sizer": str, "queue_size": int, "block_on_overflow": bool,
                                   "batch": {"flush_timeout": str, "min_size": int}}}
RECEIVER = {"protocols": {"grpc": {"endpoint": str}, "http": {"endpoint": str}}}
COMPONENTS = {
    "receivers": {"otlp": RECEIVER},
    "processors": {
        "memory_limiter": {"check_interval": str, "limit_percentage": int, "spike_limit_percentage": int},
        "tail_sampling": {
            "decision_wait": str, "num_traces": int, "expected_new_traces_per_sec": int,
            "decision_cache": {"sampled_cache_size": int, "non_sampled_cache_size": int},
            "policies": [{"name": str, "type": str, "latency": {"threshold_ms": int},
                          "status_code": {"status_codes": [str]}, "probabilistic": {"sampling_percentage": (int, float)}}]}},
    "exporters": {
        "otlp": OTLP_EXPORTER,
        "loadbalancing": {"routing_key": str, "protocol": {"otlp": {**OTLP_EXPORTER, "endpoint": None}},
                          "resolver": {"dns": {"hostname": str, "port": str}, "static": {"hostnames": [str]}}}}}

POD_MONITOR_FIELDS = {
    "apiVersion": str, "kind": str,
    "metadata": {"name": str, "namespace": str, "labels": {"app.kubernetes.io/name": str}},
    "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": str}},
             "podMetricsEndpoints": [{"port": str, "path": str, "interval": str, "scheme": str, "honorLabels": bool,
                                      "relabelings": [{"sourceLabels": [str], "targetLabel": str, "action": str}]}]}}


def differences(value, schema, where=""):
    """What is wrong with a value that should follow the schema. None forbids a field."""
    kind = {dict: dict, list: list}.get(type(schema), schema)
    if kind is None or not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        return [where + " is wrong"]
    if kind is list:
        return [each for one in value for each in differences(one, schema[0], where + "[]")]
    if kind is not dict:
        return []
    return [each for name, one in value.items() for each in
            (differences(one, schema[name], where + "." + name) if name in schema else [where + "." + name + " is unknown"])]


class OpenTelemetryCollector(unittest.TestCase):
    def setUp(self):
        self.tiers = [read(os.path.join(PACKAGING, "collector", name))[0] for name in ("gateway.yaml", "tail-sampling.yaml")]

    @staticmethod
    def check(tier):
        """Each component has known fields and is used in a pipeline, and each component of a pipeline is there."""
        found = []
        for part, known in COMPONENTS.items():
            for name, fields in tier[part].items():
                found += differences(fields, known.get(name.partition("/")[0]), name)
            used = {name for pipeline in tier["service"]["pipelines"].values() for name in pipeline[part]}
            found += ["%s: %s" % (part, name) for name in used ^ set(tier[part])]
        return found

    def test_the_fields_are_known_and_the_components_are_used(self):
        for tier in self.tiers:
            self.assertEqual(self.check(tier), [])
        for change in (lambda tier: tier["exporters"]["loadbalancing"].update(routing="traceID"),
                       lambda tier: tier["exporters"]["loadbalancing"]["protocol"]["otlp"].update(endpoint="x"),
                       lambda tier: tier["exporters"].update({"otlp/other": {}}),
                       lambda tier: tier["exporters"]["loadbalancing"]["resolver"]["dns"].update(port=4317)):
            tier = copy.deepcopy(self.tiers[0])
            change(tier)
            self.assertEqual(len(self.check(tier)), 1)

    def test_a_policy_has_the_field_of_its_type(self):
        for policy in self.tiers[1]["processors"]["tail_sampling"]["policies"]:
            self.assertEqual(set(policy), {"name", "type", policy["type"]})

    def test_the_first_tier_sends_by_trace_to_the_port_of_the_second(self):
        balancer = self.tiers[0]["exporters"]["loadbalancing"]
        self.assertEqual(balancer["routing_key"], "traceID")
        endpoint = self.tiers[1]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
        self.assertEqual(endpoint.rpartition(":")[2], balancer["resolver"]["dns"]["port"])
        for signal in ("traces", "logs"):
            self.assertEqual(self.tiers[0]["service"]["pipelines"][signal]["exporters"], ["loadbalancing"])
        self.assertEqual(self.tiers[1]["service"]["pipelines"]["traces"]["processors"][-1], "tail_sampling")


if __name__ == "__main__":
    if kubernetes is None:
        ability.unable("python3-kubernetes or python3-yaml is not installed: %s" % yaml)
    ability.need("docker-compose")
    unittest.main()
