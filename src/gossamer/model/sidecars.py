"""Sidecar resources: which of them speaks for a workload, and what each of its listeners lets the workload see.

Invariant: names are resolved here: a namespace of `.` is the workload's own (of a default in the root namespace too),
and a listener says itself whether it is really opened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gossamer.api.destination_rule import ConnectionPoolSettings
from gossamer.api.resource import Resource
from gossamer.api.sidecar import CaptureMode, IstioEgressListener, IstioIngressListener, Sidecar
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.names import covers, overlaps, qualified
from gossamer.model.protocols import declared_protocol
from gossamer.model.routing import EgressListener, Import
from gossamer.model.service import Service
from gossamer.model.settings import MeshSettings, OutboundPolicy, Unknown

LOOPBACK = "127.0.0.1"
NOWHERE = "unix://"
"""An endpoint that nobody can be reached at."""
_PATH = "unix:///"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IngressRule(Value):
    """`spec.ingress[index]` of a Sidecar."""

    spec: IstioIngressListener
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SidecarRule(Value):
    """One Sidecar as it was written, less what its own fields do not say."""

    origin: Origin
    namespace: str
    selector: FrozenMap[str, str] = EMPTY
    egress: tuple[IstioEgressListener, ...] = ()
    ingress: tuple[IngressRule, ...] = ()
    inbound_pool: ConnectionPoolSettings | None = None
    outbound: OutboundPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecars:
    """All Sidecars by namespace, those with a selector first, then the oldest first."""

    by_namespace: FrozenMap[str, tuple[SidecarRule, ...]] = EMPTY
    root: str = ""


def build_sidecars(resources: tuple[Resource[Sidecar], ...], settings: MeshSettings, memo: Memo) -> Sidecars:
    """All Sidecars. Of several that select one workload, which Istio leaves undefined, the oldest speaks for it."""
    rules: dict[str, list[SidecarRule]] = {}
    for resource in sorted(resources, key=lambda r: r.age_key):
        rules.setdefault(resource.namespace, []).append(memo(_rule, resource, settings.domain))
    ordered = {
        namespace: tuple(sorted(found, key=lambda rule: not rule.selector)) for namespace, found in rules.items()
    }
    return Sidecars(by_namespace=FrozenMap(ordered), root=settings.root_namespace)


def _rule(resource: Resource[Sidecar], domain: str) -> SidecarRule:
    spec, origin = resource.spec, Origin(resource=resource.id)
    policy = spec.outbound_traffic_policy
    proxy = policy.egress_proxy if policy else None
    return SidecarRule(
        origin=origin,
        namespace=resource.namespace,
        selector=spec.workload_selector.labels if spec.workload_selector else EMPTY,
        egress=spec.egress,
        ingress=tuple(
            IngressRule(spec=listener, origin=replace(origin, rule=f"spec.ingress[{index}]"))
            for index, listener in enumerate(spec.ingress)
        ),
        inbound_pool=spec.inbound_connection_pool,
        outbound=OutboundPolicy(
            unknown=Unknown(policy.mode.value),
            egress_proxy=replace(proxy, host=qualified(proxy.host, resource.namespace, domain)) if proxy else None,
        )
        if policy
        else None,
    )


def sidecar_for(sidecars: Sidecars, namespace: str, labels: FrozenMap[str, str]) -> SidecarRule | None:
    """The Sidecar of a workload: one of its namespace that selects it, else its namespace's default, else the root
    namespace's. One that says nothing of egress has its namespace's, or the root's."""
    own = [r for r in sidecars.by_namespace.get(namespace, ()) if r.selector.items() <= labels.items()]
    roots = [rule for rule in sidecars.by_namespace.get(sidecars.root, ()) if not rule.selector]
    chosen = [*own, *roots]
    if not chosen:
        return None
    defaults = [rule for rule in chosen[1:] if not rule.selector]
    egress = chosen[0].egress or next((rule.egress for rule in defaults if rule.egress), ())
    return replace(chosen[0], egress=egress) if egress != chosen[0].egress else chosen[0]


def without_paths(rule: SidecarRule) -> SidecarRule:
    """The Sidecar on a host whose UNIX sockets are not its proxies' to bind and call: its listeners on them are not
    opened, and what it would send to one goes nowhere."""
    return replace(
        rule,
        egress=tuple(spec for spec in rule.egress if not spec.bind.startswith(_PATH)),
        ingress=tuple(
            replace(one, spec=replace(one.spec, default_endpoint=NOWHERE))
            if one.spec.default_endpoint.startswith("unix://")
            else one
            for one in rule.ingress
        ),
    )


def egress_listeners(
    rule: SidecarRule, namespace: str, captured: bool, loopback: str = ""
) -> tuple[EgressListener, ...] | None:
    """What a workload of `namespace` sees, by listener, the one without a port last; None for everything. `captured`
    says whether its traffic is redirected unless a listener says otherwise, `loopback` where it is not redirected."""
    if not rule.egress:
        return None
    found: dict[tuple[int, str], EgressListener] = {}
    for index, spec in enumerate(rule.egress):
        listener = _listener(spec, rule, index, namespace, captured, loopback)
        key = (listener.port, listener.bind)
        known = found.get(key)
        found[key] = replace(known, imports=(*known.imports, *listener.imports)) if known else listener
    return tuple(sorted(found.values(), key=lambda listener: listener.everywhere))


def _listener(
    spec: IstioEgressListener, rule: SidecarRule, index: int, namespace: str, captured: bool, loopback: str
) -> EgressListener:
    imports = tuple(found for host in spec.hosts if (found := _import(host, namespace)))
    if spec.port is None or (not spec.port.number and not spec.bind):
        return EgressListener(imports=imports)
    path = spec.bind.startswith("unix://")
    redirected = captured if spec.capture_mode is CaptureMode.DEFAULT else spec.capture_mode is CaptureMode.IPTABLES
    opened = path or not redirected
    default = "" if not opened else LOOPBACK if spec.capture_mode is CaptureMode.NONE else loopback or LOOPBACK
    return EgressListener(
        imports=imports,
        port=spec.port.number,
        name=spec.port.name,
        protocol=declared_protocol(spec.port.protocol),
        bind=spec.bind or default,
        opened=opened,
        origin=replace(rule.origin, rule=f"spec.egress[{index}]"),
    )


def _import(host: str, namespace: str) -> Import | None:
    """`namespace/dnsName`; None for `~`, which is no namespace."""
    before, _, name = host.rpartition("/")
    if before == "~":
        return None
    return Import(namespace=namespace if before == "." else before or "*", host=name.lower())


def imports_service(imports: tuple[Import, ...], namespace: str, hostname: str) -> bool:
    """Whether a service is let in: some import takes in all of its name."""
    return any(one.namespace in ("*", namespace) and covers(one.host, hostname) for one in imports)


def imports_routing(imports: tuple[Import, ...], namespace: str, hosts: tuple[str, ...]) -> bool:
    """Whether a VirtualService is let in: one of its hosts and an import have a name in common."""
    return any(
        one.namespace in ("*", namespace) and any(overlaps(one.host, host) is not None for host in hosts)
        for one in imports
    )


def redirected(egress: tuple[EgressListener, ...] | None, service: Service, port: int) -> bool:
    """Whether redirected calls to a service's port are taken in: by a listener for that port, else by the one for all
    ports."""
    if egress is None:
        return True
    listeners = [listener for listener in egress if not listener.opened and not listener.bind]
    chosen = [listener for listener in listeners if listener.port == port] or [one for one in listeners if not one.port]
    return any(imports_service(listener.imports, service.namespace, service.declared_as) for listener in chosen)
