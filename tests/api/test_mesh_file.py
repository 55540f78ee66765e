"""`gossamer.yaml`: what it says, what is refused, and its schema."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from gossamer.api.mesh_file import MeshFile, join_deployments, load_mesh_file, mesh_file_schema
from gossamer.api.mesh_members import CapturedTraffic, GatewayPort, Health, WorkloadPort
from tests.api.documents import load_one, resource

FULL = """\
version: 1
meshConfig:
  trustDomain: example.org
config: [config, more.yaml]
gateways:
- name: ingress
  namespace: istio-system
  serviceAccount: ingress
  labels: {istio: ingressgateway}
  address: 127.0.0.1
  ports: {80: 8080, 443: 8443}
workloads:
- name: reviews-v1
  serviceAccount: reviews
  labels: {app: reviews, version: v1}
  ports: [9080, {port: 9090, name: grpc-admin}]
  command: [python, -m, reviews]
  env: {PORT: "9080"}
  health: {port: 9080, path: /health}
  workingDir: apps
"""


def _load(text: str) -> MeshFile:
    reading = load_mesh_file(text)
    assert reading.file is not None, reading.diagnostics
    assert reading.diagnostics == ()
    return reading.file


def test_everything_in_it() -> None:
    file = _load(FULL)
    assert file.mesh_config.trust_domain == "example.org"
    assert file.config == ("config", "more.yaml")
    (gateway,) = file.gateways
    assert gateway.ports == (GatewayPort(port=80, target_port=8080), GatewayPort(port=443, target_port=8443))
    (workload,) = file.workloads
    assert (workload.namespace, workload.service_account, workload.working_dir) == ("default", "reviews", "apps")
    assert workload.ports == (WorkloadPort(port=9080), WorkloadPort(port=9090, name="grpc-admin"))
    assert workload.command == ("python", "-m", "reviews")
    assert workload.health == Health(port=9080, path="/health")


def test_processes_of_the_machine_need_no_command() -> None:
    file = _load("version: 1\nworkloads: [{name: vm, capture: host, users: [postgres, 1001]}]\n")
    (workload,) = file.workloads
    assert (workload.capture, workload.users, workload.command) == (CapturedTraffic.HOST, ("postgres", "1001"), ())


def test_gateway_ports_may_be_a_list() -> None:
    file = _load("version: 1\ngateways: [{name: g, ports: [80, {port: 443, targetPort: 8443, name: https}]}]\n")
    assert file.gateways[0].ports == (GatewayPort(port=80), GatewayPort(port=443, target_port=8443, name="https"))


@pytest.mark.parametrize(
    ("text", "code", "path", "line"),
    [
        ("", "required", "", 1),
        ("version: 1\n---\nversion: 1\n", "invalid-yaml", "", 2),
        ("version: [\n", "invalid-yaml", "", 2),
        ("workloads: []\n", "required", "version", 1),
        ("version: 2\n", "unknown-version", "version", 1),
        ("version: 1\nworkload: []\n", "unknown-field", "workload", 2),
        ("version: 1\nmeshConfig: {trustDomain: 1}\n", "invalid-type", "meshConfig.trustDomain", 2),
        ("version: 1\nconfig: x\n", "invalid-type", "config", 2),
        ("version: 1\nworkloads:\n- name: a\n", "required", "workloads[0].command", 3),
        ("version: 1\nworkloads:\n- {name: A, command: [x]}\n", "invalid-name", "workloads[0].name", 3),
        ("version: 1\nworkloads:\n- {name: a, command: x}\n", "invalid-type", "workloads[0].command", 3),
        (
            "version: 1\nworkloads:\n- {name: a, command: [x], ports: [0]}\n",
            "invalid-port",
            "workloads[0].ports[0].port",
            3,
        ),
        (
            "version: 1\nworkloads:\n- {name: a, command: [x], ports: [1, 1]}\n",
            "duplicate-value",
            "workloads[0].ports[1].port",
            3,
        ),
        (
            "version: 1\nworkloads:\n- {name: a, command: [x], health: {path: x, port: 1}}\n",
            "invalid-value",
            "workloads[0].health.path",
            3,
        ),
        ("version: 1\nworkloads:\n- {name: a, command: [x], health: {}}\n", "required", "workloads[0].health", 3),
        (
            "version: 1\nworkloads:\n- {name: a, command: [x], health: {path: /, tcpSocket: {port: 1}}}\n",
            "exclusive-fields",
            "workloads[0].health.path",
            3,
        ),
        (
            "version: 1\nworkloads:\n- {name: a, command: [x], health: {grpc: {port: 1}, exec: {command: [x]}}}\n",
            "exclusive-fields",
            "workloads[0].health.grpc",
            3,
        ),
        (
            "version: 1\nworkloads:\n- {name: a, command: [x], health: {port: 1, periodSeconds: -1}}\n",
            "out-of-range",
            "workloads[0].health.periodSeconds",
            3,
        ),
        ("version: 1\nworkloads:\n- {name: a, capture: host}\n", "required", "workloads[0].users", 3),
        (
            "version: 1\nworkloads:\n- {name: a, capture: host, users: [db, 0]}\n",
            "invalid-value",
            "workloads[0].users[1]",
            3,
        ),
        ("version: 1\nworkloads:\n- {name: a, command: [x], users: [db]}\n", "invalid-value", "workloads[0].users", 3),
        (
            "version: 1\nworkloads:\n- {name: a, capture: host, users: [x]}\n- {name: b, capture: host, users: [z]}\n",
            "conflict",
            "workloads[1].capture",
            4,
        ),
        ("version: 1\nworkloads:\n- {name: a, capture: vm, users: [x]}\n", "invalid-value", "workloads[0].capture", 3),
        ("version: 1\nworkloads:\n- {name: a, command: [x], env: {A: 1}}\n", "invalid-type", "workloads[0].env.A", 3),
        ("version: 1\nlocality: a/b/c/d\n", "invalid-name", "locality", 2),
        ("version: 1\ngateways:\n- {name: a, network: a/b}\n", "invalid-name", "gateways[0].network", 3),
        ("version: 1\ngateways:\n- {name: a}\n- {name: a}\n", "duplicate-value", "gateways[1].name", 4),
        ("version: 1\ngateways:\n- {name: a, address: here}\n", "invalid-address", "gateways[0].address", 3),
        (
            "version: 1\ngateways:\n- {name: a, ports: {80: http}}\n",
            "invalid-type",
            "gateways[0].ports[0].targetPort",
            3,
        ),
    ],
)
def test_mistakes(text: str, code: str, path: str, line: int) -> None:
    reading = load_mesh_file(text, "g.yaml")
    assert reading.file is None
    (found,) = reading.diagnostics
    assert (found.code, found.path, found.position.file, found.position.line) == (code, path, "g.yaml", line)


def test_settings_of_the_mesh_that_are_not_supported_yet_are_left_out() -> None:
    reading = load_mesh_file("version: 1\nmeshConfig: {trustDomain: a.b, certificates: [{secretName: s}]}\n")
    assert [found.path for found in reading.diagnostics] == ["meshConfig.certificates"]
    assert reading.file is not None
    assert reading.file.mesh_config.trust_domain == "a.b"


def test_a_deployment_fills_in_what_a_workload_leaves_out() -> None:
    spec = {
        "template": {
            "metadata": {"labels": {"app": "reviews", "version": "v1"}},
            "spec": {"serviceAccountName": "sa", "containers": [{"ports": [{"containerPort": 9080, "name": "http"}]}]},
        }
    }
    deployments = load_one(resource("Deployment", spec, "reviews-v1")).config.deployments
    text = """\
        version: 1
        workloads:
        - {name: reviews-v1, command: [x]}
        - {name: reviews-v1, namespace: other, command: [x]}
        - {name: own, command: [x], labels: {app: own}, serviceAccount: me, ports: [1]}
        """
    first, second, third = join_deployments(_load(dedent(text)).workloads, deployments)
    assert (first.service_account, dict(first.labels)) == ("sa", {"app": "reviews", "version": "v1"})
    assert first.ports == (WorkloadPort(port=9080, name="http"),)
    assert (second.service_account, dict(second.labels), second.ports) == ("default", {}, ())
    assert (third.service_account, dict(third.labels), third.ports) == ("me", {"app": "own"}, (WorkloadPort(port=1),))
    (kept,) = join_deployments([third], deployments)
    assert kept == third


def test_the_schema_knows_the_fields_by_their_written_names() -> None:
    schema = mesh_file_schema()
    json.dumps(schema)
    assert list(schema["properties"]) == [
        "version",
        "profile",
        "meshConfig",
        "config",
        "locality",
        "network",
        "cluster",
        "attestors",
        "gateways",
        "workloads",
    ]
    assert schema["required"] == ["version"]
    assert schema["additionalProperties"] is False
    workload = schema["$defs"]["WorkloadProcess"]
    assert {"name", "serviceAccount", "workingDir", "health"} <= workload["properties"].keys()
    assert workload["required"] == ["name"]
    assert schema["$defs"]["MeshConfig"]["properties"]["trustDomain"]["type"] == "string"
