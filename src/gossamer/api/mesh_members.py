"""What a `gossamer.yaml` says of one workload or gateway.

Invariant: strict, like the kinds; what is left out has a default that needs nothing of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator

from gossamer.api import names
from gossamer.api.common import Boolean, StrMap, UInt32
from gossamer.api.findings import At
from gossamer.api.rules.common import check, check_labels, check_port, check_unique, require
from gossamer.api.rules.workload_group import check_periods, check_probe
from gossamer.api.workload_group import ReadinessProbe
from gossamer.core.frozen import EMPTY


def _port_form(value: object) -> object:
    """`9080` is short for `{port: 9080}`."""
    return {"port": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _ports_form(value: object) -> object:
    """`{80: 8080}` is short for `[{port: 80, targetPort: 8080}]`."""
    if not isinstance(value, dict):
        return value
    return [{"port": _number(port), "targetPort": target} for port, target in value.items()]


def _number(key: str) -> int | str:
    return int(key) if key.isascii() and key.isdigit() and len(key) < 10 else key


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPort:
    """A port on which an application listens; the name says its protocol, as in Kubernetes (`http-api`)."""

    port: UInt32
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPort:
    """A port as Gateway resources call it, and the one that is opened for it (0: the same)."""

    port: UInt32
    target_port: UInt32 = 0
    name: str = ""


_WorkloadPortForm = Annotated[WorkloadPort, BeforeValidator(_port_form, json_schema_input_type=WorkloadPort | int)]
_GatewayPortForm = Annotated[GatewayPort, BeforeValidator(_port_form, json_schema_input_type=GatewayPort | int)]
_GatewayPortsForm = Annotated[
    tuple[_GatewayPortForm, ...],
    BeforeValidator(_ports_form, json_schema_input_type=dict[str, int] | list[_GatewayPortForm]),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(ReadinessProbe):
    """How to know that an application is up, in the words of a WorkloadGroup's probe, or short: a GET of `path` at
    `port` answers 2xx or 3xx or, without a path, `port` accepts."""

    port: UInt32 = 0
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProxy:
    """A gateway: an Envoy without an application. Its ports are opened on `address` of this machine."""

    name: str
    namespace: str = "default"
    service_account: str = ""
    labels: StrMap = EMPTY
    locality: str = ""
    network: str = ""
    cluster: str = ""
    address: str = ""
    ports: _GatewayPortsForm = ()
    credentials: tuple[str, ...] = ()
    """Folders whose keys Gateways may name as files (`tls.privateKey`): no others are read for it."""
    readiness_port: UInt32 | None = None
    """Where `GET /healthz/ready` is answered: 15021 if that is free, unless another is given; 0 for nowhere."""


class CapturedTraffic(StrEnum):
    """Whose traffic a sidecar stands for."""

    COMMAND = "command"
    """That of the command, in a network of its own where this machine allows that."""
    HOST = "host"
    """That of processes on the machine's own network, by their users: those that run already, and the command (if
    there is one), as the first of `users`. Needs root."""


def _user_form(value: object) -> object:
    """A user's number may be written as one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_User = Annotated[str, BeforeValidator(_user_form, json_schema_input_type=str | int)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProcess:
    """A workload: one process with its sidecar. What is left out comes from the Deployment of the same name."""

    name: str
    namespace: str = "default"
    service_account: str = ""
    labels: StrMap = EMPTY
    locality: str = ""
    network: str = ""
    cluster: str = ""
    weight: UInt32 = 0
    """Its share of traffic among a service's instances; 0 counts as 1."""
    ports: tuple[
        Annotated[WorkloadPort, BeforeValidator(_port_form, json_schema_input_type=WorkloadPort | int)], ...
    ] = ()
    command: tuple[str, ...] = ()
    env: StrMap = EMPTY
    health: Health | None = None
    working_dir: str = ""
    group: str = ""
    """A WorkloadGroup of its namespace, which says what is left out here: labels, service account, ports, health,
    locality, network and weight."""
    capture: CapturedTraffic = CapturedTraffic.COMMAND
    users: tuple[_User, ...] = ()
    credentials: tuple[str, ...] = ()
    """Folders whose keys DestinationRules may name as files (`tls.privateKey`): no others are read for it."""
    workload_api: Boolean = False
    """Whether the command is served SPIFFE's Workload API (`SPIFFE_ENDPOINT_SOCKET`), and so gets a key of its own."""
    readiness_port: UInt32 | None = None
    """Where `GET /healthz/ready` is answered, inside its network: 15021 unless another is given; 0 for nowhere."""


def check_gateway(gateway: GatewayProxy, at: At) -> None:
    """Say what is wrong with a gateway."""
    _check_proxy(gateway, at)
    if gateway.address and not names.is_ip(gateway.address):
        at["address"].error("invalid-address", f'"{gateway.address}" is not an IP address')
    for number, port in enumerate(gateway.ports):
        if port.target_port:
            check_port(port.target_port, at["ports", number, "targetPort"])


def check_workload(workload: WorkloadProcess, at: At) -> None:
    """Say what is wrong with a workload."""
    _check_proxy(workload, at)
    if workload.group:
        check(names.object_name_problem(workload.group), at["group"], "invalid-name")
    if workload.capture is CapturedTraffic.HOST:
        _check_users(workload, at["users"])
        if workload.workload_api:
            message = "processes on the machine's own network cannot be told apart by a socket: leave it out"
            at["workloadApi"].error("invalid-value", message)
    else:
        require(workload.command and workload.command[0], at["command"], "a workload needs a command to run")
        if workload.users:
            at["users"].error("invalid-value", "users are captured with capture: host alone; write that too")
    for key in workload.env:
        require(key and "=" not in key, at["env", key], "a variable's name is not empty and has no =")
    if workload.health:
        _check_health(workload.health, at["health"])


def _check_health(health: Health, at: At) -> None:
    long = {"httpGet": health.http_get, "tcpSocket": health.tcp_socket, "exec": health.exec, "grpc": health.grpc}
    given = [name for name, value in long.items() if value is not None]
    if given:
        check_probe(health, at)
        for name, short in (("port", health.port), ("path", health.path)):
            if short:
                at[name].error("exclusive-fields", f"only one of {given[0]} or {name} can be set", on_key=True)
        return
    check_periods(health, at)
    if not health.port and not health.path:
        at.error("required", f"say what to ask: port, port and path, or one of {', '.join(long)}")
        return
    check_port(health.port, at["port"])
    if health.path and not health.path.startswith("/"):
        at["path"].error("invalid-value", "a path starts with /")


def _check_users(workload: WorkloadProcess, at: At) -> None:
    require(workload.users, at, "name the users (login names or numbers) whose processes are captured")
    for index, user in enumerate(workload.users):
        require(user, at[index], "a user has a name or a number")
        if user in ("root", "0"):
            at[index].error("invalid-value", "root cannot be captured: Envoy itself runs as root")


def check_place(locality: str, network: str, cluster: str, at: At) -> None:
    """Say what is wrong with where something is; empty parts are not given."""
    if locality:
        check(names.locality_problem(locality), at["locality"], "invalid-name")
    if network:
        check(names.label_value_problem(network), at["network"], "invalid-name")
    if cluster:
        check(names.label_value_problem(cluster), at["cluster"], "invalid-name")


def _check_proxy(proxy: GatewayProxy | WorkloadProcess, at: At) -> None:
    check(names.namespace_problem(proxy.name), at["name"], "invalid-name")
    check(names.namespace_problem(proxy.namespace), at["namespace"], "invalid-name")
    if proxy.service_account:
        check(names.object_name_problem(proxy.service_account), at["serviceAccount"], "invalid-name")
    check_labels(proxy.labels, at["labels"])
    for index, folder in enumerate(proxy.credentials):
        require(folder, at["credentials", index], "a folder must be named")
    check_place(proxy.locality, proxy.network, proxy.cluster, at)
    if proxy.readiness_port:
        check_port(proxy.readiness_port, at["readinessPort"])
    numbers = [port.port for port in proxy.ports]
    for index, number in enumerate(numbers):
        check_port(number, at["ports", index, "port"])
    check_unique(((number, at["ports", i, "port"]) for i, number in enumerate(numbers)), "port")
