"""Which workloads run where, as their hosts' agents say it: leases with an end.

A pure state machine; time is an argument (seconds of any one clock that never goes back). A workload
whose lease ends is first kept as unhealthy, then forgotten. What is registered survives a restart of the control plane:
a mesh must not lose its endpoints because their keeper was away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict, ParseDict

from gossamer.api import names
from gossamer.core.errors import StateError
from gossamer.core.frozen import FrozenMap
from gossamer.model.place import CLUSTER, NETWORK, locality_of
from gossamer.model.proxy import (
    DEFAULT_CLUSTER,
    INBOUND_PORT,
    OUTBOUND_PORT,
    Capture,
    CaptureMode,
    Proxy,
    ProxyType,
)
from gossamer.model.service import Health, Workload
from gossamer.rpc import gossamer_pb2 as rpc

SCHEMA = 1
LEASE_S = 15.0
FORGET_S = 300.0
"""How long a workload whose lease has ended is still known (its proxy keeps its configuration, nobody calls it)."""

_HEALTH: Final = {
    rpc.WORKLOAD_STATE_READY: Health.HEALTHY,
    rpc.WORKLOAD_STATE_DRAINING: Health.DRAINING,
}


class Condition(StrEnum):
    """How a workload is, in words for people."""

    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    LOST = "heartbeat lost"


_CONDITION = {
    rpc.WORKLOAD_STATE_READY: Condition.READY,
    rpc.WORKLOAD_STATE_UNHEALTHY: Condition.UNHEALTHY,
    rpc.WORKLOAD_STATE_DRAINING: Condition.DRAINING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One workload of one host: who its proxy is, and the endpoint that it offers. `since` is when it came to be in its
    condition, by the registry's clock."""

    host: str
    proxy: Proxy
    workload: Workload
    incarnation: int = 0
    condition: Condition = Condition.READY
    state_message: str = ""
    since: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Lease:
    registration: Registration
    message: rpc.Workload
    ends: float


@dataclass(slots=True)
class Registry:
    """Leases by (namespace, name). `snapshot` is replaced, never changed, and only when a registration differs."""

    trust_domain: str
    snapshot: FrozenMap[tuple[str, str], Registration] = field(default_factory=FrozenMap)
    _leases: dict[tuple[str, str], _Lease] = field(default_factory=dict)

    def renew(
        self, host: str, messages: Iterable[rpc.Workload], now: float, *, whole: bool = False
    ) -> list[rpc.Rejection]:
        """Take what a host says of its workloads; returns what was not taken and why. No messages: renew all it has.

        `whole`: the messages name every workload of the host, and others that it had are gone.
        """
        rejected: list[rpc.Rejection] = []
        named: set[tuple[str, str]] = set()
        for message in messages:
            key = (message.namespace, message.name)
            named.add(key)
            if reason := self._refusal(host, message, now):
                rejected.append(rpc.Rejection(workload=_key(message), reason=reason))
                continue
            registration = self._dated(key, registration_of(host, message, self.trust_domain), now)
            self._leases[key] = _Lease(registration=registration, message=message, ends=now + LEASE_S)
        for key, lease in tuple(self._leases.items()):
            if lease.registration.host != host:
                continue
            if whole and key not in named:
                del self._leases[key]
            else:
                lease.ends = now + LEASE_S
        self._publish(now)
        return rejected

    def _dated(self, key: tuple[str, str], registration: Registration, now: float) -> Registration:
        """The registration with the time from which it has been in its condition."""
        held = self._leases.get(key)
        before = _as_of(held, now) if held is not None else None
        unchanged = before is not None and before.condition is registration.condition
        return replace(registration, since=before.since if before is not None and unchanged else now)

    def owner(self, namespace: str, name: str, now: float) -> str | None:
        """The host that a name belongs to: whose lease on it has not ended; None if it is free."""
        held = self._leases.get((namespace, name))
        return held.registration.host if held is not None and held.ends > now else None

    def _refusal(self, host: str, message: rpc.Workload, now: float) -> str:
        """Why a registration is not taken; empty if it is."""
        if problem := registration_problem(message):
            return problem
        held = self._leases.get((message.namespace, message.name))
        if held is None or held.registration.host == host:
            return ""
        name = f"{message.namespace}/{message.name}"
        if held.ends > now:
            return f"{name} runs on host {held.registration.host}; choose another name"
        account = held.registration.proxy.service_account
        if account != (message.service_account or "default"):
            return f"{name} was service account {account} on host {held.registration.host}; its name is not free yet"
        return ""

    def remove(self, host: str, keys: Iterable[tuple[str, str]], now: float) -> None:
        """Forget workloads of a host at once; others' are left alone."""
        for key in keys:
            held = self._leases.get(key)
            if held is not None and held.registration.host == host:
                del self._leases[key]
        self._publish(now)

    def expire(self, now: float) -> None:
        """Take out what was not renewed in time."""
        self._leases = {key: lease for key, lease in self._leases.items() if lease.ends + FORGET_S > now}
        self._publish(now)

    def save(self, now: float) -> str:
        """All leases as JSON text, for `restore`."""
        entries = [
            {
                "host": lease.registration.host,
                "workload": MessageToDict(lease.message),
                "age": round(now - lease.registration.since, 3),
            }
            for _, lease in sorted(self._leases.items())
        ]
        return json.dumps(entries, sort_keys=True)

    def restore(self, saved: str, now: float) -> None:
        """Begin with what an earlier control plane held, each with a fresh lease in which to be heard of."""
        try:
            for entry in json.loads(saved):
                message = ParseDict(entry["workload"], rpc.Workload(), ignore_unknown_fields=True)
                self.renew(entry["host"], [message], now)
                if (lease := self._leases.get((message.namespace, message.name))) is not None:
                    since = now - float(entry.get("age", 0.0))
                    lease.registration = replace(lease.registration, since=since)
            self._publish(now)
        except (ValueError, KeyError, TypeError, JsonError) as error:
            raise StateError(f"the saved registrations are damaged: {error}") from error

    def _publish(self, now: float) -> None:
        current: FrozenMap[tuple[str, str], Registration] = FrozenMap(
            {key: _as_of(lease, now) for key, lease in sorted(self._leases.items(), key=lambda item: item[0])}
        )
        if current != self.snapshot:
            self.snapshot = current


def _as_of(lease: _Lease, now: float) -> Registration:
    if lease.ends > now:
        return lease.registration
    known = lease.registration.workload
    health = Health.UNREADY if known.health is Health.UNREADY else Health.UNHEALTHY
    return replace(
        lease.registration,
        workload=replace(known, health=health),
        condition=Condition.LOST,
        state_message=Condition.LOST.value,
        since=lease.ends,
    )


def _key(message: rpc.Workload) -> rpc.WorkloadKey:
    return rpc.WorkloadKey(namespace=message.namespace, name=message.name)


def registration_problem(message: rpc.Workload) -> str:
    """What is wrong with a registration, for its host to be told; empty if nothing is.

    Whatever stands in it becomes configuration of other proxies, so nothing is taken that is not what it should be.
    """
    capture = message.capture
    for what, problem in (
        ("name", names.namespace_problem(message.name)),
        ("namespace", names.namespace_problem(message.namespace)),
        ("service account", names.object_name_problem(message.service_account or "default")),
        ("group", names.object_name_problem(message.group or "default")),
    ):
        if problem:
            return f"its {what} is no valid one: {problem}"
    for text, problem in (
        (message.locality, names.locality_problem(message.locality)),
        (message.network, names.label_value_problem(message.network)),
        (message.cluster, names.label_value_problem(message.cluster)),
    ):
        if text and problem:
            return problem
    for address in (
        *message.addresses,
        *(capture.mesh_address, capture.address, capture.application_address, capture.web_address),
        *capture.service_addresses.values(),
    ):
        if address and not names.is_ip(address):
            return f"{address!r} is no IP address"
    numbers = [number for port in message.ports for number in (port.number, port.mesh_port or 1)]
    numbers += [*message.gateway_ports, *message.gateway_ports.values(), *capture.outbound_ports.values()]
    numbers += [*capture.web_ports, capture.dns_port or 1, capture.outbound_port or 1, capture.inbound_port or 1]
    wrong = next((number for number in numbers if not 0 < number < 65536), None)
    return "" if wrong is None else f"{wrong} is no port"


_ANY: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def registration_of(host: str, message: rpc.Workload, trust_domain: str) -> Registration:
    """The proxy and the endpoint that one registration message describes."""
    capture = _capture(message.capture, message.ports)
    is_router = message.type == rpc.PROXY_TYPE_ROUTER
    labels = FrozenMap(sorted(message.labels.items()))
    locality = message.locality or locality_of(labels)
    network = message.network or labels.get(NETWORK, "")
    proxy = Proxy(
        type=ProxyType.ROUTER if is_router else ProxyType.SIDECAR,
        namespace=message.namespace,
        name=message.name,
        service_account=message.service_account or "default",
        labels=labels,
        addresses=tuple(message.addresses),
        trust_domain=trust_domain,
        cluster=message.cluster or labels.get(CLUSTER, DEFAULT_CLUSTER),
        network=network,
        node=host,
        group=message.group,
        locality=locality,
        capture=capture,
        gateway_ports=FrozenMap(sorted(message.gateway_ports.items())),
        binds_paths=False,
    )
    opened = capture.address if is_router and capture.address not in _ANY else ""
    dialled = capture.mesh_address or opened or next(iter(message.addresses), "")
    workload = Workload(
        name=message.name,
        namespace=message.namespace,
        service_account=proxy.service_account,
        labels=labels,
        address=dialled,
        ports=FrozenMap({port.number: port.mesh_port or port.number for port in message.ports}),
        named_ports=FrozenMap({port.name: port.number for port in message.ports if port.name}),
        network=network,
        cluster=proxy.cluster,
        node=host,
        group=message.group,
        locality=locality,
        weight=message.weight,
        tls=not is_router,
        router=is_router,
        service_numbers=proxy.gateway_ports if is_router else FrozenMap(),
        health=_HEALTH.get(message.state, Health.UNREADY),
    )
    return Registration(
        host=host,
        proxy=proxy,
        workload=workload,
        incarnation=message.incarnation,
        condition=_CONDITION.get(message.state, Condition.STARTING),
        state_message=message.state_message,
    )


def _capture(message: rpc.Capture, ports: Iterable[rpc.WorkloadPort]) -> Capture:
    return Capture(
        mode=CaptureMode.EXPLICIT if message.mode == rpc.CAPTURE_MODE_EXPLICIT else CaptureMode.TRANSPARENT,
        network_namespace=message.network_namespace,
        application_address=message.application_address,
        mesh_address=message.mesh_address,
        mesh_ports=FrozenMap({port.number: port.mesh_port for port in ports if port.mesh_port}),
        address=message.address,
        http_proxy_port=message.http_proxy_port,
        outbound_ports=FrozenMap(sorted(message.outbound_ports.items())),
        dns=message.dns,
        service_addresses=FrozenMap(sorted(message.service_addresses.items())),
        web_address=message.web_address,
        web_ports=tuple(sorted(message.web_ports)),
        dns_port=message.dns_port,
        observed=message.observed,
        outbound_port=message.outbound_port or OUTBOUND_PORT,
        inbound_port=message.inbound_port or INBOUND_PORT,
    )
