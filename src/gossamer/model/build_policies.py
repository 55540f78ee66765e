"""Which security policies apply to a workload: PeerAuthentication merged, AuthorizationPolicies selected.

Invariant: selecting costs what is selected. Policies lie under their namespace and one label of their selector, so a
workload looks at the policies that may be its own and at no other, however many the mesh has. Rules of selection and
precedence are Istio's (`PeerAuthentication`, `AuthorizationPolicy`, `WorkloadSelector`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from gossamer.api.authorization_policy import Action, AuthorizationPolicy
from gossamer.api.common import PolicyTargetReference, WorkloadSelector
from gossamer.api.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from gossamer.api.request_authentication import RequestAuthentication
from gossamer.api.resource import Resource
from gossamer.api.rules.common import BOOLEAN_TRUE
from gossamer.api.rules.security import DRY_RUN
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.authorizers import Authorizer, chosen_authorizer
from gossamer.model.policy import MutualTls, PeerPolicy, SelectedPolicy, ShadowPolicies, WorkloadPolicies
from gossamer.model.settings import MeshSettings
from gossamer.model.tokens import NO_TOKENS, KeySource, TokenRule, Tokens, token_rules

GATEWAY_NAME: Final = "gateway.networking.k8s.io/gateway-name"
"""The label by which a gateway's workloads say which Gateway (of the Gateway API) they serve."""
GATEWAY_CLASS: Final = "gateway.networking.k8s.io/gateway-class-name"
"""The label by which a gateway's workloads say of which GatewayClass they are."""
_GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
_MODES: Final = {
    MutualTLSMode.STRICT: MutualTls.STRICT,
    MutualTLSMode.PERMISSIVE: MutualTls.PERMISSIVE,
    MutualTLSMode.DISABLE: MutualTls.DISABLE,
}


class _Selecting(Protocol):
    @property
    def selector(self) -> WorkloadSelector | None: ...


class _Attached(_Selecting, Protocol):
    @property
    def target_ref(self) -> PolicyTargetReference | None: ...
    @property
    def target_refs(self) -> tuple[PolicyTargetReference, ...]: ...


S = TypeVar("S", bound=_Selecting)
A = TypeVar("A", bound=_Attached)
_Bucket = tuple[Resource[S], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Namespace(Generic[S]):
    """One namespace's policies of one kind: those for all its workloads, and the others by one label of theirs."""

    whole: tuple[Resource[S], ...] = ()
    labelled: FrozenMap[tuple[str, str], tuple[Resource[S], ...]] = field(default_factory=FrozenMap)

    def selecting(self, labels: Mapping[str, str]) -> list[Resource[S]]:
        """Those with a selector that these labels satisfy."""
        found = []
        for label in labels.items():
            for resource in self.labelled.get(label, ()):
                wanted = _selector(resource.spec)
                if all(labels.get(key) == value for key, value in wanted.items()):
                    found.append(resource)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyIndex(Value):
    """The mesh's security policies, indexed for selection. Equal policies give an equal index."""

    root_namespace: str
    trust_domains: tuple[str, ...]
    peers: FrozenMap[str, _Namespace[PeerAuthentication]] = field(default_factory=FrozenMap)
    authorization: FrozenMap[str, _Namespace[AuthorizationPolicy]] = field(default_factory=FrozenMap)
    tokens: FrozenMap[str, _Namespace[RequestAuthentication]] = field(default_factory=FrozenMap)
    keys: FrozenMap[KeySource, str] = field(default_factory=FrozenMap)
    """JSON Web Key Sets, as far as they were fetched."""
    authorizers: FrozenMap[str, Authorizer] = field(default_factory=FrozenMap)
    asking: FrozenMap[str, tuple[tuple[str, str], ...]] = field(default_factory=FrozenMap)
    """By namespace, the services (hostname, namespace) that its policies have requests decided by."""

    def for_workload(self, namespace: str, labels: FrozenMap[str, str], memo: Memo) -> WorkloadPolicies:
        """All policies of a workload; workloads that the same ones select get the same object."""
        peer = memo(merge_peers, *self._peers_of(namespace, labels))
        tokens = memo(token_rules, tuple(self._found_in(self.tokens, namespace, labels)), self.keys)
        found = tuple(self._found_in(self.authorization, namespace, labels))
        return memo(select_policies, peer, tokens, found, self.trust_domains, self.authorizers)

    def asked_in(self, namespace: str) -> frozenset[tuple[str, str]]:
        """The services (hostname, namespace) that workloads of a namespace may have to ask for decisions."""
        return frozenset((*self.asking.get(self.root_namespace, ()), *self.asking.get(namespace, ())))

    def peer_policy(self, namespace: str, labels: FrozenMap[str, str], memo: Memo) -> PeerPolicy:
        """What a workload's ports accept: what its callers have to know."""
        return memo(merge_peers, *self._peers_of(namespace, labels))

    def _peers_of(
        self, namespace: str, labels: Mapping[str, str]
    ) -> tuple[
        Resource[PeerAuthentication] | None, Resource[PeerAuthentication] | None, Resource[PeerAuthentication] | None
    ]:
        """The one that counts at each level: mesh, namespace, workload. See `_ruling` for several at one level."""
        root, own = self.peers.get(self.root_namespace), self.peers.get(namespace)
        selecting = [r for part in _distinct(root, own) for r in part.selecting(labels)]
        of_namespace = _ruling(own.whole) if own is not None and own is not root else None
        return _ruling(root.whole) if root else None, of_namespace, _ruling(selecting)

    def _found_in(
        self, policies: FrozenMap[str, _Namespace[A]], namespace: str, labels: Mapping[str, str]
    ) -> Iterator[Resource[A]]:
        """The policies of a kind that apply to a workload, the root namespace's first."""
        for part in _distinct(policies.get(self.root_namespace), policies.get(namespace)):
            found = [*part.whole, *part.selecting(labels)]
            for resource in sorted(found, key=lambda resource: resource.name):
                if _targets(resource, namespace, labels, self.root_namespace):
                    yield resource


def build_policies(
    settings: MeshSettings,
    authorization_policies: Iterable[Resource[AuthorizationPolicy]],
    peer_authentications: Iterable[Resource[PeerAuthentication]],
    authorizers: FrozenMap[str, Authorizer] = EMPTY,
    tokens: Tokens = NO_TOKENS,
) -> PolicyIndex:
    """The index of all policies of the mesh. Resources that fail closed are among them and deny what they select."""
    policies = tuple(authorization_policies)
    return PolicyIndex(
        root_namespace=settings.root_namespace,
        trust_domains=settings.trust_domains,
        peers=_by_namespace(peer_authentications),
        authorization=_by_namespace(policies),
        tokens=_by_namespace(tokens.resources),
        keys=tokens.keys,
        authorizers=authorizers,
        asking=_asking(policies, authorizers),
    )


def merge_peers(
    mesh: Resource[PeerAuthentication] | None,
    namespace: Resource[PeerAuthentication] | None,
    workload: Resource[PeerAuthentication] | None,
) -> PeerPolicy:
    """One policy out of the three levels. UNSET inherits from the level above; above the mesh's stands PERMISSIVE.

    Ports can be set at the workload's level alone, as Istio has it.
    """
    mode, origins = MutualTls.PERMISSIVE, []
    for resource in (mesh, namespace, workload):
        if resource is not None:
            mode = _mode(resource.spec.mtls, mode)
            origins.append(Origin(resource=resource.id))
    ports = {}
    if workload is not None:
        ports = {port: _mode(mtls, mode) for port, mtls in sorted(workload.spec.port_level_mtls.items())}
    return PeerPolicy(default=mode, ports=FrozenMap(ports), origins=tuple(origins))


def select_policies(
    peer: PeerPolicy,
    tokens: tuple[TokenRule, ...],
    found: tuple[Resource[AuthorizationPolicy], ...],
    trust_domains: tuple[str, ...],
    authorizers: FrozenMap[str, Authorizer],
) -> WorkloadPolicies:
    """The policies of one workload by what they do. A dry run asks nobody, so one of CUSTOM does nothing."""
    real: dict[Action, list[SelectedPolicy]] = {action: [] for action in Action}
    shadow: dict[Action, list[SelectedPolicy]] = {action: [] for action in Action}
    for resource in found:
        action = Action.DENY if resource.fail_closed else resource.spec.action
        groups = shadow if is_dry_run(resource) else real
        groups[action].append(
            SelectedPolicy(origin=Origin(resource=resource.id), spec=resource.spec, fail_closed=resource.fail_closed)
        )
    custom = tuple(real[Action.CUSTOM])
    return WorkloadPolicies(
        peer=peer,
        tokens=tokens,
        audit=tuple(real[Action.AUDIT]),
        custom=custom,
        authorizer=chosen_authorizer((_provider(policy.spec) for policy in custom), authorizers),
        deny=tuple(real[Action.DENY]),
        allow=tuple(real[Action.ALLOW]),
        shadow=ShadowPolicies(
            audit=tuple(shadow[Action.AUDIT]), deny=tuple(shadow[Action.DENY]), allow=tuple(shadow[Action.ALLOW])
        ),
        trust_domains=trust_domains,
    )


def is_dry_run(resource: Resource[AuthorizationPolicy]) -> bool:
    """Whether a policy is only tried (the annotation `istio.io/dry-run`). What denies in another's stead is not."""
    return not resource.fail_closed and resource.annotations.get(DRY_RUN) in BOOLEAN_TRUE


def _provider(spec: AuthorizationPolicy) -> str:
    return spec.provider.name if spec.provider is not None else ""


def _asking(
    policies: Iterable[Resource[AuthorizationPolicy]], authorizers: FrozenMap[str, Authorizer]
) -> FrozenMap[str, tuple[tuple[str, str], ...]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for resource in policies:
        authorizer = authorizers.get(_provider(resource.spec)) if resource.spec.action is Action.CUSTOM else None
        if authorizer is not None and not authorizer.problem:
            found.setdefault(resource.namespace, set()).add((authorizer.host, authorizer.namespace))
    return FrozenMap({namespace: tuple(sorted(asked)) for namespace, asked in sorted(found.items())})


def _mode(mtls: MutualTLS | None, inherited: MutualTls) -> MutualTls:
    return _MODES.get(mtls.mode, inherited) if mtls is not None else inherited


def _targets(resource: Resource[A], namespace: str, labels: Mapping[str, str], root: str) -> bool:
    """Whether a policy's targetRefs let it apply to this workload. Without any it does; with them, to a gateway that
    serves one of the named Gateways of its namespace, or is of a class that the root namespace names. Other targets
    are served by waypoints, never by a sidecar."""
    spec = resource.spec
    targets = (*spec.target_refs, *((spec.target_ref,) if spec.target_ref else ()))
    if not targets:
        return True
    serves = {
        ("Gateway", labels.get(GATEWAY_NAME) if resource.namespace == namespace else None),
        ("GatewayClass", labels.get(GATEWAY_CLASS) if resource.namespace == root else None),
    }
    return any(target.group == _GATEWAY_GROUP and (target.kind, target.name) in serves for target in targets)


def _by_namespace(resources: Iterable[Resource[S]]) -> FrozenMap[str, _Namespace[S]]:
    grouped: dict[str, list[Resource[S]]] = {}
    for resource in resources:
        grouped.setdefault(resource.namespace, []).append(resource)
    return FrozenMap({name: _namespace(group) for name, group in sorted(grouped.items())})


def _namespace(resources: list[Resource[S]]) -> _Namespace[S]:
    whole, labelled = [], dict[tuple[str, str], list[Resource[S]]]()
    for resource in sorted(resources, key=lambda resource: resource.name):
        selector = _selector(resource.spec)
        if selector:
            labelled.setdefault(min(selector.items()), []).append(resource)
        else:
            whole.append(resource)
    return _Namespace(
        whole=tuple(whole), labelled=FrozenMap({label: tuple(group) for label, group in labelled.items()})
    )


def _selector(spec: _Selecting) -> Mapping[str, str]:
    return spec.selector.match_labels if spec.selector is not None else {}


def _distinct(*parts: _Namespace[S] | None) -> list[_Namespace[S]]:
    found: list[_Namespace[S]] = []
    for part in parts:
        if part is not None and not any(part is other for other in found):
            found.append(part)
    return found


def _ruling(resources: Iterable[Resource[PeerAuthentication]]) -> Resource[PeerAuthentication] | None:
    """The one that counts where several stand at one level: the oldest, but before all one that fails closed."""
    return min(resources, key=lambda resource: (not resource.fail_closed, resource.age_key), default=None)
