"""ServiceEntry and WorkloadEntry.

Rules: Istio's documentation of ServiceEntry and WorkloadEntry, and what their CRDs enforce.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.resource import Resource as Envelope
from gossamer.api.rules.common import (
    check,
    check_count,
    check_export_to,
    check_labels,
    check_length,
    check_port,
    check_protocol,
    check_unique,
    is_written,
    require,
)
from gossamer.api.rules.gateway import unix_socket_problem
from gossamer.api.rules.targets import check_label_selector
from gossamer.api.service_entry import Location, Resolution, ServiceEntry, ServicePort, WorkloadEntry

_PORT_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")


def check_service_entry(resource: Envelope[ServiceEntry], raw: Any, at: At) -> None:
    spec = resource.spec
    _check_hosts(spec, at)
    _check_addresses(spec, at["addresses"])
    _check_ports(spec, at["ports"])
    check_export_to(spec.export_to, at["exportTo"])
    if is_written(raw, "workloadSelector") and is_written(raw, "endpoints"):
        at["endpoints"].error("exclusive-fields", "only one of WorkloadSelector or Endpoints can be set", on_key=True)
    check_label_selector(spec.workload_selector, at["workloadSelector"])
    if spec.workload_selector is not None and spec.location is Location.MESH_EXTERNAL:
        message = "workloadSelector is for MESH_INTERNAL services: as MESH_EXTERNAL, workloads are called in plaintext"
        at["workloadSelector"].info("external-selector", message, "set location: MESH_INTERNAL")
    check_resolution = _RESOLUTIONS.get(spec.resolution)
    if check_resolution:
        check_resolution(spec, at)
    check_count(spec.endpoints, 4096, at["endpoints"])
    defined = {port.name for port in spec.ports}
    for index, endpoint in enumerate(spec.endpoints):
        here = at["endpoints", index]
        check_workload_entry(endpoint, here)
        for name in endpoint.ports:
            if name not in defined and defined:
                message = f'endpoint port "{name}" is not a port of the service entry'
                here["ports", name].error("unknown-port", message)


def _check_hosts(spec: ServiceEntry, at: At) -> None:
    require(spec.hosts, at["hosts"], "Required value: service entry must have at least one host")
    check_count(spec.hosts, 256, at["hosts"])
    for index, host in enumerate(spec.hosts):
        here = at["hosts", index]
        if host == "*":
            here.error("invalid-host", "hostname cannot be wildcard")
        else:
            check(names.wildcard_domain_problem(host), here, "invalid-host")


def _check_addresses(spec: ServiceEntry, at: At) -> None:
    check_count(spec.addresses, 256, at)
    for index, address in enumerate(spec.addresses):
        check(names.subnet_problem(address), at[index], "invalid-address")
        if "/" in address and spec.resolution not in (Resolution.NONE, Resolution.STATIC):
            at[index].error("invalid-address", "CIDR addresses are allowed only for NONE/STATIC resolution types")


def _check_ports(spec: ServiceEntry, at: At) -> None:
    check_count(spec.ports, 256, at)
    for index, port in enumerate(spec.ports):
        here = at[index]
        check_port(port.number, here["number"])
        if require(port.name, here["name"], "port name must be set") and not _PORT_NAME.fullmatch(port.name):
            here["name"].error("invalid-value", f'"{port.name}" is not a port name (letters, digits and -)')
        if port.protocol:
            check_protocol(port.protocol, here["protocol"])
        if port.target_port:
            check_port(port.target_port, here["targetPort"])
        if _takes_everything(spec, port):
            hint = "say in addresses which are meant, or let the mesh give it one with another resolution"
            here["protocol"].warning(
                "takes-everything", f"without addresses it takes every call to port {port.number}", hint
            )
    check_unique(((port.name, at[i, "name"]) for i, port in enumerate(spec.ports)), "port name")
    seen: set[int] = set()
    for index, port in enumerate(spec.ports):
        if port.number in seen:
            at[index, "number"].error("duplicate-value", f"port number cannot be duplicated: {port.number}")
        seen.add(port.number)


def _takes_everything(spec: ServiceEntry, port: ServicePort) -> bool:
    """Whether calls to a port cannot be told from those to other hosts: they name none, and no address is its own."""
    return spec.resolution is Resolution.NONE and not spec.addresses and port.protocol.upper() in ("", *_NAMELESS)


def _check_none(spec: ServiceEntry, at: At) -> None:
    if spec.endpoints:
        at["endpoints"].error("invalid-endpoints", "NONE mode cannot set endpoints", "set resolution to STATIC or DNS")


def _check_static(spec: ServiceEntry, at: At) -> None:
    if not spec.endpoints and spec.workload_selector is None:
        message = "endpoints or a workloadSelector must be provided for resolution STATIC"
        at["endpoints"].error("required", message)
    for index, endpoint in enumerate(spec.endpoints):
        here = at["endpoints", index, "address"]
        if endpoint.address.startswith("unix://"):
            if len(spec.ports) != 1:
                here.error("invalid-endpoints", "a UNIX socket serves exactly one service port")
        elif endpoint.address and not names.is_ip(endpoint.address):
            hint = "use resolution DNS for names"
            here.error("invalid-address", f'"{endpoint.address}" is not an IP address, as resolution STATIC asks', hint)


def _check_dns(spec: ServiceEntry, at: At) -> None:
    if not spec.endpoints and spec.workload_selector is None:
        for index, host in enumerate(spec.hosts):
            if host.startswith("*"):
                message = "hosts must be names without wildcard if no endpoints are provided for resolution DNS"
                at["hosts", index].error("invalid-host", message)
    for index, endpoint in enumerate(spec.endpoints):
        if endpoint.address.startswith("unix://"):
            at["endpoints", index, "address"].error("invalid-address", "a UNIX socket cannot be resolved by DNS")


def _check_round_robin(spec: ServiceEntry, at: At) -> None:
    if len(spec.endpoints) > 1:
        message = "DNS_ROUND_ROBIN mode cannot have multiple endpoints"
        at["endpoints"].error("invalid-endpoints", message)
    _check_dns(spec, at)


_NAMELESS: Final = frozenset(("TCP", "UDP", "MONGO", "MYSQL", "REDIS"))


def _check_dynamic(spec: ServiceEntry, at: At) -> None:
    for index, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            at["hosts", index].error("invalid-host", "DYNAMIC_DNS is for wildcard hosts")
    for index, port in enumerate(spec.ports):
        if port.protocol.upper() in _NAMELESS:
            message = f"{port.protocol} names no host that could be looked up: nothing is served on this port"
            at["ports", index, "protocol"].warning("no-effect", message, "use HTTP, HTTP2, GRPC, HTTPS or TLS")
    for name, values in (("endpoints", spec.endpoints), ("addresses", spec.addresses)):
        if values:
            at[name].error("invalid-endpoints", f"DYNAMIC_DNS mode cannot set {name}")


_RESOLUTIONS: Final = {
    Resolution.NONE: _check_none,
    Resolution.STATIC: _check_static,
    Resolution.DNS: _check_dns,
    Resolution.DNS_ROUND_ROBIN: _check_round_robin,
    Resolution.DYNAMIC_DNS: _check_dynamic,
}


def check_workload_entry_resource(resource: Envelope[WorkloadEntry], _raw: Any, at: At) -> None:
    check_workload_entry(resource.spec, at)


def check_workload_entry(entry: WorkloadEntry, at: At, *, template: bool = False) -> None:
    """An instance: its address, ports and labels; a `template` of instances has no address."""
    address = entry.address
    check_length(address, 0, 256, at["address"])
    if not address:
        require(template or entry.network, at["address"], "Address is required")
    elif address.startswith("unix://"):
        check(unix_socket_problem(address), at["address"], "invalid-address")
        if entry.ports:
            at["ports"].error("exclusive-fields", "UDS may not include ports")
    elif not names.is_ip(address):
        check(names.domain_problem(address), at["address"], "invalid-address")
    check_count(entry.ports, 128, at["ports"])
    for name, port in entry.ports.items():
        if len(name) >= 63 or not _PORT_NAME.fullmatch(name):
            at["ports", name].error("invalid-value", f'Invalid value: port name must be valid, not "{name}"')
        check_port(port, at["ports", name])
    check_count(entry.labels, 256, at["labels"])
    check_labels(entry.labels, at["labels"])
    check_length(entry.locality, 0, 2048, at["locality"])
    check_length(entry.network, 0, 2048, at["network"])
    if entry.service_account:
        check(names.object_name_problem(entry.service_account), at["serviceAccount"])
