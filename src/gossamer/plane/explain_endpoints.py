"""Endpoints explain themselves: in or out of load balancing, why, for how long, and by whose judgement.

Invariant: every endpoint of the service has a row, those that nobody calls too, and every row says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gossamer.compile.names import cluster_name
from gossamer.core.resources import CLUSTER, ENDPOINT, Resources
from gossamer.model.build_endpoints import Endpoints
from gossamer.model.mesh import Mesh
from gossamer.model.proxy import Proxy
from gossamer.model.service import Endpoint, Health, Port, Service
from gossamer.plane.ages import Ages
from gossamer.simulate.shares import Share, shares_of
from gossamer.sources.ejections import Ejection
from gossamer.sources.registry import Condition, Registration

Key = tuple[str, str]
Row = dict[str, Any]
_DECLARED: Final = {Health.DRAINING: "draining", Health.UNHEALTHY: "declared unhealthy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that is known now."""

    mesh: Mesh
    endpoints: Endpoints
    registrations: Mapping[Key, Registration]
    ejections: tuple[Ejection, ...]
    ages: Ages
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """Callers that see a port's endpoints alike, and the share that each endpoint has of what they send."""

    names: tuple[str, ...]
    localities: tuple[str, ...]
    shares: Mapping[tuple[str, int], Share]


def find_services(mesh: Mesh, name: str) -> tuple[Service, ...]:
    """The services of a hostname, of `name.namespace`, or of a name alone in any namespace."""
    exact = [service for service in mesh.services.all if service.hostname == name]
    return tuple(exact or (s for s in mesh.services.all if name and s.hostname.startswith(f"{name}.")))


def explain(service: Service, known: Known, told: Iterable[tuple[Proxy, Resources]]) -> list[Row]:
    """A row for each endpoint of each port, as the callers of `told` (and their resources) see it."""
    found = known.endpoints.by_service.get(service.key)
    listed = tuple(told)
    rows: list[Row] = []
    for port in service.ports:
        cluster = cluster_name(service.hostname, port.number)
        callers = _callers(cluster, listed, [one for one in known.ejections if one.cluster == cluster])
        about = [one for one in known.ejections if _of(one, service.hostname, port.number, listed)]
        members = found.by_port.get(port.number, ()) if found else ()
        rows += [_row(service, port, member, known, (callers, about)) for member in members]
        places = {(member.address, member.port) for member in members}
        rows += _looked_up(service, port, [one for one in about if (one.address, one.port) not in places], known.now)
    return rows


def _of(ejection: Ejection, hostname: str, port: int, listed: tuple[tuple[Proxy, Resources], ...]) -> bool:
    _, number, _, host = (*ejection.cluster.split("|", 3), "", "", "")[:4]
    asked = {(proxy.namespace, proxy.name) for proxy, _ in listed}
    return host == hostname and number == str(port) and ejection.caller in asked


def _callers(cluster: str, listed: tuple[tuple[Proxy, Resources], ...], ejections: list[Ejection]) -> list[Callers]:
    """Callers by what they were told of a cluster and what they left out of it themselves; those that do not see it are
    none of them."""
    left_out: dict[Key, set[tuple[str, int]]] = {}
    for one in ejections:
        left_out.setdefault(one.caller, set()).add((one.address, one.port))
    groups: dict[tuple[str, str, tuple[tuple[str, int], ...]], list[tuple[Proxy, Resources]]] = {}
    for proxy, resources in listed:
        own, members = resources.get(CLUSTER, cluster), resources.get(ENDPOINT, cluster)
        if own is not None:
            without = tuple(sorted(left_out.get((proxy.namespace, proxy.name), ())))
            key = (own.version, members.version if members else "", without)
            groups.setdefault(key, []).append((proxy, resources))
    return [
        Callers(
            names=tuple(sorted(f"{proxy.namespace}/{proxy.name}" for proxy, _ in group)),
            localities=tuple(sorted({proxy.locality for proxy, _ in group})),
            shares=shares_of(group[0][1], cluster, frozenset(key[2])),
        )
        for key, group in sorted(groups.items(), key=lambda item: item[0])
    ]


def _row(
    service: Service, port: Port, endpoint: Endpoint, known: Known, seen: tuple[list[Callers], list[Ejection]]
) -> Row:
    registration = None if endpoint.origin else known.registrations.get((endpoint.namespace, endpoint.workload))
    callers, about = seen
    well, reason, since = _condition(service, port, endpoint, registration, known)
    place = (endpoint.address, endpoint.port)
    ejected = [_ejection(one, known.now) for one in about if (one.address, one.port) == place]
    turns = [_turn(group, group.shares[place]) for group in callers if place in group.shares]
    state, why = _state(well, ejected, turns)
    return {
        "service": service.hostname,
        "namespace": service.namespace,
        "port": port.number,
        "protocol": port.protocol.value,
        "address": f"{endpoint.address}:{endpoint.port}" if endpoint.port else endpoint.address,
        "workload": f"{endpoint.namespace}/{endpoint.workload}" if endpoint.workload else "",
        "host": registration.host if registration else "",
        "labels": dict(endpoint.labels),
        "locality": endpoint.locality,
        "network": endpoint.network,
        "cluster": endpoint.cluster,
        "weight": max(1, endpoint.weight),
        "mutual_tls": endpoint.tls,
        "state": state,
        "why": [reason, *why],
        "age_s": round(max(0.0, known.now - since), 1),
        "ejected_by": ejected,
        "turns": turns,
    }


def _condition(
    service: Service, port: Port, endpoint: Endpoint, registration: Registration | None, known: Known
) -> tuple[bool, str, float]:
    """Whether its keepers take it for well, why, and since when."""
    if registration is not None:
        said = registration.state_message if registration.condition is not Condition.LOST else ""
        reason = f"{registration.condition.value}: {said}" if said else registration.condition.value
        return registration.condition is Condition.READY, reason, registration.since
    since = known.ages.since(service.key, port.number, endpoint)
    by = f"declared by {endpoint.origin}" if endpoint.origin else "declared"
    reason = _DECLARED.get(endpoint.health, by)
    return endpoint.health is Health.HEALTHY, reason, known.now if since is None else since


def _ejection(one: Ejection, now: float) -> Row:
    return {
        "caller": "/".join(one.caller),
        "subset": one.cluster.split("|", 3)[2],
        "why": list(one.why),
        "age_s": round(max(0.0, now - one.since), 1),
    }


def _turn(group: Callers, share: Share) -> Row:
    return {
        "callers": list(group.names),
        "localities": list(group.localities),
        "priority": share.priority,
        "share": share.share,
    }


def _state(well: bool, ejected: list[Row], turns: list[Row]) -> tuple[str, list[str]]:
    """`in`, `out`, or `partly` (in for some callers), and what to say beside its own condition."""
    if not well:
        panics = any(turn["share"] for turn in turns)
        return ("in", ["too few are well, so all are called"]) if panics else ("out", [])
    callers = {name for turn in turns for name in turn["callers"]}
    ejecting = {one["caller"] for one in ejected if not one["subset"]}
    waiting = [turn for turn in turns if not turn["share"] and not ejecting.issuperset(turn["callers"])]
    without = {name for turn in waiting for name in turn["callers"]} | ejecting
    why = [f"ejected by {_by(one)}" for one in ejected]
    if waiting:
        places = sorted({place or "nowhere in particular" for turn in waiting for place in turn["localities"]})
        why.append(f"another locality's turn for callers in {', '.join(places)}")
    if callers and callers <= without:
        return "out", why
    return ("partly" if without or ejected else "in"), why


def _by(one: Row) -> str:
    subset = f" in subset {one['subset']}" if one["subset"] else ""
    return f"{one['caller']}{subset} ({', '.join(one['why'])}, {one['age_s']:.0f} s)"


def _looked_up(service: Service, port: Port, ejections: list[Ejection], now: float) -> list[Row]:
    """Addresses that callers looked up themselves, as far as some caller leaves them out."""
    places: dict[tuple[str, int], list[Row]] = {}
    for one in ejections:
        places.setdefault((one.address, one.port), []).append(_ejection(one, now))
    return [
        {
            "service": service.hostname,
            "namespace": service.namespace,
            "port": port.number,
            "protocol": port.protocol.value,
            "address": f"{address}:{number}",
            "state": "partly",
            "why": ["looked up by its callers", *(f"ejected by {_by(one)}" for one in ejected)],
            "age_s": max(one["age_s"] for one in ejected),
            "ejected_by": ejected,
            "turns": [],
        }
        for (address, number), ejected in sorted(places.items())
    ]
