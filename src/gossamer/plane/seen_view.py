"""What was seen, beside what the mesh is: whose services a workload answers for, what its ports accept, which policies
it has. Put together when asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gossamer.api.peer_authentication import PeerAuthentication
from gossamer.api.resource import Resource
from gossamer.api.source_index import SourceIndex
from gossamer.core.diagnostics import Position
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.build_endpoints import Endpoints
from gossamer.model.mesh import Mesh
from gossamer.model.policy import SelectedPolicy
from gossamer.model.service import Service
from gossamer.plane.seen import REPORTING_S, Key, Record, SeenStore
from gossamer.sources.registry import Registration

_COLUMNS = (
    *("caller", "port", "protocol", "method", "verdict", "by", "would"),
    *("path", "count", "first", "last"),
)


def view_seen(
    store: SeenStore,
    built: tuple[Mesh, Endpoints] | None,
    registrations: Mapping[Key, Registration],
    now: float,
    peers: Iterable[Resource[PeerAuthentication]] = (),
    index: SourceIndex | None = None,
) -> dict[str, Any]:
    """One object for every workload that runs or was seen, and one for every PeerAuthentication. Times are in seconds
    since 1970."""
    memo = Memo()
    keys = sorted({*store.records, *registrations})
    return {
        "now": now,
        "root_namespace": built[0].settings.root_namespace if built else "istio-system",
        "trust_domain": built[0].settings.trust_domain if built else "cluster.local",
        "peers": [_peer(resource, index) for resource in peers],
        "workloads": [
            _workload(key, store.records.get(key), registrations.get(key), now)
            | (_meant(key, store.records.get(key), registrations.get(key), built, memo) if built else {})
            for key in keys
        ],
    }


def _workload(key: Key, record: Record | None, entry: Registration | None, now: float) -> dict[str, Any]:
    rows = record.table.rows() if record else ()
    return {
        "namespace": key[0],
        "name": key[1],
        "gateway": entry.proxy.type.value == "router" if entry else bool(record and record.gateway),
        "host": entry.host if entry else "",
        "running": entry is not None,
        "addresses": list(dict.fromkeys((*entry.proxy.addresses, entry.workload.address))) if entry else [],
        "observed": bool(entry and entry.proxy.capture.observed),
        "reporting": bool(record and record.reported > now - REPORTING_S),
        "since": record.since if record else None,
        "taken": record.taken if record else 0,
        "missed": record.missed if record else 0,
        "unrecorded": record.table.unrecorded if record else 0,
        "rows": [
            dict(zip(_COLUMNS, (*row.group, row.path, row.tally.count, row.tally.first, row.tally.last), strict=True))
            for row in rows
        ],
    }


def _meant(
    key: Key, record: Record | None, entry: Registration | None, built: tuple[Mesh, Endpoints], memo: Memo
) -> dict[str, Any]:
    """What the configuration says of a workload."""
    mesh, endpoints = built
    labels = entry.proxy.labels if entry else FrozenMap(sorted(record.labels.items()) if record else ())
    policies = mesh.policies.for_workload(key[0], labels, memo)
    instances = endpoints.by_workload.get(key, ())
    # one that has ended answers for nobody, but its successors will, and policies mean them too
    services = (one.service for one in instances) if entry else mesh.services.all
    return {
        "labels": dict(labels),
        "selector": _selector((one for one in services if one.namespace == key[0]), labels),
        "services": [
            {
                "hostname": one.service.hostname,
                "namespace": one.service.namespace,
                "port": one.port.number,
                "workload_port": one.workload_port,
                "protocol": one.port.protocol.value,
            }
            for one in instances
            if not one.service.instance_of
        ],
        "mtls": {
            "mode": policies.peer.default.value,
            "ports": {str(port): mode.value for port, mode in policies.peer.ports.items()},
            "origins": [str(origin) for origin in policies.peer.origins],
        },
        "tokens": bool(policies.tokens),
        "allow": _names(policy for policy in policies.allow if policy.rules),
        "dry_run": _names((*policies.shadow.deny, *policies.shadow.allow)),
        "dry_run_allow": _names(policies.shadow.allow),
    }


def _peer(resource: Resource[PeerAuthentication], index: SourceIndex | None) -> dict[str, Any]:
    """A PeerAuthentication, and where it is written."""
    spec, place = resource.spec, index.position(resource.id) if index is not None else Position()
    return {
        "namespace": resource.namespace,
        "name": resource.name,
        "selector": dict(spec.selector.match_labels) if spec.selector else {},
        "mode": spec.mtls.mode.value if spec.mtls else "UNSET",
        "ports": {str(port): mtls.mode.value for port, mtls in spec.port_level_mtls.items()},
        "file": place.file,
        "line": place.line,
    }


def _selector(services: Iterable[Service], labels: Mapping[str, str]) -> dict[str, str]:
    """The labels by which a policy means this workload and its like: those of the service that selects it by fewest, so
    that versions of one service share a policy; without any, all of its own."""
    for service in sorted(services, key=lambda one: (len(one.selector), one.key)):
        if service.selector and all(labels.get(name) == value for name, value in service.selector.items()):
            return dict(service.selector)
    return dict(labels)


def _names(policies: Iterable[SelectedPolicy]) -> list[str]:
    return sorted({f"{policy.namespace}/{policy.name}" for policy in policies})
