"""What an agent is asked to run: an application with a sidecar, or a gateway."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gossamer.core.frozen import FrozenMap
from gossamer.model.place import CLUSTER, NETWORK, locality_of
from gossamer.model.proxy import INBOUND_PORT, OUTBOUND_PORT, Capture, CaptureMode, ProxyType
from gossamer.node.application import RestartPolicy
from gossamer.node.health import Probe
from gossamer.node.sandbox import Check
from gossamer.rpc import gossamer_pb2 as rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPort:
    """A port on which the application answers; services find it by its number, or its name."""

    number: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Where a workload is; what is empty is not said. `locality` is `region/zone/subzone`."""

    locality: str = ""
    network: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """One workload of a host. A gateway has no command; `gateway_ports` maps a Gateway server's port to the one bound,
    at `gateway_address`. `terminal` lends the application our own terminal instead of a log file.

    With `users` (login names or numbers) it is what they run on the host's own network, and `command`, if there is one,
    is run by the first of them.
    """

    name: str
    namespace: str = "default"
    service_account: str = "default"
    labels: FrozenMap[str, str] = field(default_factory=FrozenMap)
    group: str = ""
    """The WorkloadGroup of its namespace from which it takes what it does not say; an empty service account, too."""
    here: Here = Here()
    weight: int = 0
    type: ProxyType = ProxyType.SIDECAR
    ports: tuple[ServedPort, ...] = ()
    command: tuple[str, ...] = ()
    env: FrozenMap[str, str] = field(default_factory=FrozenMap)
    cwd: str = ""
    users: tuple[str, ...] = ()
    health: Probe | None = None
    restart: RestartPolicy = RestartPolicy.ALWAYS
    terminal: bool = False
    gateway_address: str = "0.0.0.0"  # noqa: S104 - a gateway is for those outside, unless its author says otherwise
    gateway_ports: FrozenMap[int, int] = field(default_factory=FrozenMap)
    readiness_port: int | None = None
    """None: 15021 where that is free; 0: none."""
    workload_api: bool = False
    """Whether its application is served SPIFFE's Workload API, and so gets a key of its own."""
    credentials: tuple[str, ...] = ()
    """Folders of the host whose keys configuration may name for its TLS."""

    @property
    def place(self) -> Here:
        """Where it is: as said of it, or else as its labels say."""
        here, labels = self.here, self.labels
        return Here(
            locality=here.locality or locality_of(labels),
            network=here.network or labels.get(NETWORK, ""),
            cluster=here.cluster or labels.get(CLUSTER, ""),
        )

    @property
    def key(self) -> tuple[str, str]:
        return (self.namespace, self.name)

    @property
    def slug(self) -> str:
        """Names its folders and processes."""
        return f"{self.namespace}.{self.name}"


def placed(spec: WorkloadSpec, host: Here) -> WorkloadSpec:
    """The spec, with what neither it nor its labels say of where it is said by its host."""
    own = spec.place
    found = Here(
        locality=own.locality or host.locality,
        network=own.network or host.network,
        cluster=own.cluster or host.cluster,
    )
    return dataclasses.replace(spec, here=found)


def dump_specs(specs: Iterable[WorkloadSpec]) -> str:
    """The specs as JSON text, for `load_specs` of another process of the same version."""
    return json.dumps([dataclasses.asdict(spec, dict_factory=_plain) for spec in specs])


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, FrozenMap) else value for name, value in items}


def load_specs(text: str) -> tuple[WorkloadSpec, ...]:
    """What `dump_specs` wrote."""
    return tuple(_spec(document) for document in json.loads(text))


def _spec(document: dict[str, Any]) -> WorkloadSpec:
    read: dict[str, Any] = {
        "labels": FrozenMap(document["labels"]),
        "here": Here(**document["here"]),
        "type": ProxyType(document["type"]),
        "ports": tuple(ServedPort(**port) for port in document["ports"]),
        "command": tuple(document["command"]),
        "users": tuple(document["users"]),
        "env": FrozenMap(document["env"]),
        "health": _probe(document["health"]) if document["health"] else None,
        "restart": RestartPolicy(document["restart"]),
        "credentials": tuple(document.get("credentials", ())),
        "gateway_ports": FrozenMap((int(port), bound) for port, bound in document["gateway_ports"].items()),
    }
    return WorkloadSpec(**document | read)


def _probe(document: dict[str, Any]) -> Probe:
    check = document["check"]
    read = {
        "command": tuple(document["command"]),
        "check": Check(**check | {"headers": tuple(tuple(pair) for pair in check["headers"])}) if check else None,
    }
    return Probe(**document | read)


def registration_message(
    spec: WorkloadSpec, capture: Capture, addresses: tuple[str, ...], incarnation: int
) -> rpc.Workload:
    """What the registry is told of a workload, but for its state."""
    return rpc.Workload(
        name=spec.name,
        namespace=spec.namespace,
        service_account=spec.service_account,
        labels=dict(spec.labels),
        addresses=addresses,
        ports=[
            rpc.WorkloadPort(
                name=port.name,
                number=port.number,
                mesh_port=capture.mesh_ports.get(port.number, 0),
            )
            for port in spec.ports
        ],
        capture=rpc.Capture(
            mode=(rpc.CAPTURE_MODE_EXPLICIT if capture.mode is CaptureMode.EXPLICIT else rpc.CAPTURE_MODE_TRANSPARENT),
            network_namespace=capture.network_namespace,
            application_address=capture.application_address,
            mesh_address=capture.mesh_address,
            address=capture.address,
            http_proxy_port=capture.http_proxy_port,
            outbound_ports=dict(capture.outbound_ports),
            dns=capture.dns,
            outbound_port=capture.outbound_port if capture.outbound_port != OUTBOUND_PORT else 0,
            inbound_port=capture.inbound_port if capture.inbound_port != INBOUND_PORT else 0,
            service_addresses=dict(capture.service_addresses),
            web_address=capture.web_address,
            web_ports=capture.web_ports,
            dns_port=capture.dns_port,
            observed=True,
        ),
        type=rpc.PROXY_TYPE_ROUTER if spec.type is ProxyType.ROUTER else rpc.PROXY_TYPE_SIDECAR,
        gateway_ports=dict(spec.gateway_ports),
        locality=spec.place.locality,
        network=spec.place.network,
        cluster=spec.place.cluster,
        weight=spec.weight,
        group=spec.group,
        incarnation=incarnation,
    )
