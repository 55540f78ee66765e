"""DestinationRules: which of them speak for a service as one client sees it, merged into one policy.

Invariant: of several rules the order of namespaces decides (client's, service's, root), then how specific the host is,
then age; a policy that leaves here has no level left to look up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

from gossamer.api.destination_rule import ClientTLSSettings, DestinationRule, TrafficPolicy
from gossamer.api.resource import Resource
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.names import covers, export_targets, exported, qualified, rank
from gossamer.model.routing import MESH, Client
from gossamer.model.service import Service
from gossamer.model.settings import MeshSettings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subset(Value):
    """A named part of a service's endpoints, with what it changes of the service's policy."""

    name: str
    labels: FrozenMap[str, str]
    policy: TrafficPolicy | None
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DestinationPolicy(Value):
    """The DestinationRules that apply to one service as its callers see it, merged into one."""

    policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    origins: tuple[Origin, ...] = ()

    def subset(self, name: str) -> Subset | None:
        return next((subset for subset in self.subsets if subset.name == name), None)

    @property
    def credentials(self) -> frozenset[str]:
        """The Secrets that it names."""
        policies = (self.policy, *(subset.policy for subset in self.subsets))
        return frozenset(tls.credential_name for tls in _tls_of(policies) if tls.credential_name)

    @property
    def without_credentials(self) -> DestinationPolicy:
        """The same with no Secret named, itself if there is none."""
        if not self.credentials:
            return self
        subsets = tuple(replace(subset, policy=_bare(subset.policy)) for subset in self.subsets)
        return replace(self, policy=_bare(self.policy), subsets=subsets)

    def on(self, port: int, subset: Subset | None = None) -> TrafficPolicy:
        """What holds on a port of the service. A subset's fields replace the service's; a port's settings replace all
        of the level that they stand in: fields they leave out have their defaults (Istio's documented rule)."""
        merged = self.policy or TrafficPolicy()
        if subset is not None and subset.policy is not None:
            merged = _overlaid(_on_port(merged, port), subset.policy)
        return _on_port(merged, port)


NO_POLICY = DestinationPolicy()


def _tls_of(policies: Iterable[TrafficPolicy | None]) -> Iterator[ClientTLSSettings]:
    for policy in policies:
        for level in (policy, *(policy.port_level_settings if policy else ())):
            if level is not None and level.tls is not None:
                yield level.tls


def _bare(policy: TrafficPolicy | None) -> TrafficPolicy | None:
    if policy is None:
        return None
    ports = tuple(replace(port, tls=_nameless(port.tls)) for port in policy.port_level_settings)
    return replace(policy, tls=_nameless(policy.tls), port_level_settings=ports)


def _nameless(tls: ClientTLSSettings | None) -> ClientTLSSettings | None:
    return replace(tls, credential_name="") if tls is not None else None


def _on_port(policy: TrafficPolicy, number: int) -> TrafficPolicy:
    for setting in policy.port_level_settings:
        if setting.port is not None and setting.port.number == number:
            return replace(
                policy,
                load_balancer=setting.load_balancer,
                connection_pool=setting.connection_pool,
                outlier_detection=setting.outlier_detection,
                tls=setting.tls,
                port_level_settings=(),
            )
    return replace(policy, port_level_settings=()) if policy.port_level_settings else policy


def _overlaid(base: TrafficPolicy, over: TrafficPolicy) -> TrafficPolicy:
    return TrafficPolicy(
        **{field.name: getattr(over, field.name) or getattr(base, field.name) for field in fields(TrafficPolicy)}
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule(Value):
    """One or more DestinationRules of a namespace for one host, exported alike."""

    host: str
    namespace: str
    export_to: frozenset[str]
    selector: FrozenMap[str, str] | None = None
    """Of a rule for some workloads of its own namespace, those (all, if it is empty); None of a rule for everyone."""
    destination: DestinationPolicy = NO_POLICY

    def at(self, client: Client) -> DestinationPolicy:
        """What it says to a client. At a sidecar `credentialName` is acted on in a rule with a selector alone, as it is
        documented: a Secret is not for every workload of its namespace."""
        if self.selector is not None or MESH not in client.gateways:
            return self.destination
        return self.destination.without_credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """All rules by namespace: those for one host exactly by that host, those with wildcards the most specific first."""

    exact: FrozenMap[tuple[str, str], tuple[Rule, ...]] = EMPTY
    wild: FrozenMap[str, tuple[Rule, ...]] = EMPTY
    asked_labels: frozenset[tuple[str, str]] = frozenset()
    namespaces: frozenset[str] = frozenset()
    """Those that have any."""


def build_destinations(
    resources: tuple[Resource[DestinationRule], ...], settings: MeshSettings, memo: Memo
) -> Destinations:
    """All DestinationRules. Those of one namespace for one host are merged: the oldest one's policy, everyone's subsets
    (of two with one name the older)."""
    merged: dict[tuple[object, ...], Rule] = {}
    for resource in sorted(resources, key=lambda r: r.age_key):
        rule = memo(_rule, resource, settings)
        key = (rule.namespace, rule.host, rule.export_to, rule.selector)
        merged[key] = _merged(merged[key], rule) if key in merged else rule
    exact: dict[tuple[str, str], list[Rule]] = {}
    wild: dict[str, list[Rule]] = {}
    for rule in sorted(merged.values(), key=lambda rule: rank(rule.host), reverse=True):
        if rule.host.startswith("*"):
            wild.setdefault(rule.namespace, []).append(rule)
        else:
            exact.setdefault((rule.namespace, rule.host), []).append(rule)
    return Destinations(
        exact=FrozenMap({key: tuple(rules) for key, rules in exact.items()}),
        wild=FrozenMap({key: tuple(rules) for key, rules in wild.items()}),
        asked_labels=frozenset(item for rule in merged.values() for item in (rule.selector or EMPTY).items()),
        namespaces=frozenset(rule.namespace for rule in merged.values()),
    )


def _rule(resource: Resource[DestinationRule], settings: MeshSettings) -> Rule:
    spec, origin = resource.spec, Origin(resource=resource.id)
    subsets = tuple(
        Subset(
            name=subset.name,
            labels=subset.labels,
            policy=subset.traffic_policy,
            origin=replace(origin, rule=f"spec.subsets[{place}]"),
        )
        for place, subset in enumerate(spec.subsets)
    )
    home = frozenset[str]() if spec.export_to else frozenset({resource.namespace})
    return Rule(
        host=qualified(spec.host, resource.namespace, settings.domain),
        namespace=resource.namespace,
        export_to=export_targets(spec.export_to, settings.export_destinations_to, resource.namespace) | home,
        selector=spec.workload_selector.match_labels if spec.workload_selector else None,
        destination=DestinationPolicy(policy=spec.traffic_policy, subsets=_unique(subsets), origins=(origin,)),
    )


def _merged(older: Rule, younger: Rule) -> Rule:
    one, other = older.destination, younger.destination
    return replace(
        older,
        destination=DestinationPolicy(
            policy=one.policy or other.policy,
            subsets=_unique((*one.subsets, *other.subsets)),
            origins=one.origins + other.origins,
        ),
    )


def _unique(subsets: Iterable[Subset]) -> tuple[Subset, ...]:
    known: dict[str, Subset] = {}
    for subset in subsets:
        known.setdefault(subset.name, subset)
    return tuple(known.values())


def destination_for(destinations: Destinations, service: Service, client: Client, root: str) -> DestinationPolicy:
    """The policy of `service` as `client` sees it. Istio's lookup: the client's namespace, the service's, the root's;
    the first that has a rule for the host ends it. A rule with a selector speaks for its own namespace's workloads, and
    before one without."""
    for namespace in (client.namespace, service.namespace, root):
        if namespace not in destinations.namespaces:
            continue
        found = [rule for rule in _for_host(destinations, namespace, service.hostname) if _speaks(rule, client)]
        if found:
            best = [rule for rule in found if rule.host == found[0].host]
            return next((rule for rule in best if rule.selector is not None), best[0]).at(client)
    return NO_POLICY


def _for_host(destinations: Destinations, namespace: str, host: str) -> Iterator[Rule]:
    yield from destinations.exact.get((namespace, host), ())
    yield from (rule for rule in destinations.wild.get(namespace, ()) if covers(rule.host, host))


def _speaks(rule: Rule, client: Client) -> bool:
    """Whether a rule is meant for a client: a rule that its author exports elsewhere alone is not for its own namespace
    either; the mesh's default for exporting never takes one away from there."""
    if not exported(rule.export_to, client.namespace):
        return False
    if rule.selector is None:
        return True
    return rule.namespace == client.namespace and rule.selector.items() <= client.labels.items()
