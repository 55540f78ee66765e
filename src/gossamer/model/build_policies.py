"""Which security policies apply to a workload: PeerAuthentication merged, AuthorizationPolicies selected.

Invariant: selecting costs what is selected. Policies lie under their namespace and one label of their selector, so a
workload looks at the policies that may be its own and at no other, however many the mesh has. Rules of selection and
precedence are Istio's (`PeerAuthentication`, `AuthorizationPolicy`, `WorkloadSelector`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from gossamer.api.authorization_policy import Action, AuthorizationPolicy
from gossamer.api.common import WorkloadSelector
from gossamer.api.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from gossamer.api.resource import Resource
from gossamer.core.frozen import FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.policy import MutualTls, PeerPolicy, SelectedPolicy, WorkloadPolicies
from gossamer.model.settings import MeshSettings

GATEWAY_NAME: Final = "gateway.networking.k8s.io/gateway-name"
"""The label by which a gateway's workloads say which Gateway (of the Gateway API) they serve."""
_GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
_MODES: Final = {
    MutualTLSMode.STRICT: MutualTls.STRICT,
    MutualTLSMode.PERMISSIVE: MutualTls.PERMISSIVE,
    MutualTLSMode.DISABLE: MutualTls.DISABLE,
}


class _Selecting(Protocol):
    @property
    def selector(self) -> WorkloadSelector | None: ...


S = TypeVar("S", bound=_Selecting)
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

    def for_workload(self, namespace: str, labels: FrozenMap[str, str], memo: Memo) -> WorkloadPolicies:
        """All policies of a workload; workloads that the same ones select get the same object."""
        peer = memo(merge_peers, *self._peers_of(namespace, labels))
        deny, allow = self._authorization_of(namespace, labels)
        return memo(select_policies, peer, tuple(deny), tuple(allow), self.trust_domains)

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

    def _authorization_of(
        self, namespace: str, labels: Mapping[str, str]
    ) -> tuple[list[Resource[AuthorizationPolicy]], list[Resource[AuthorizationPolicy]]]:
        deny, allow = [], []
        for part in _distinct(self.authorization.get(self.root_namespace), self.authorization.get(namespace)):
            found = [*part.whole, *part.selecting(labels)]
            for resource in sorted(found, key=lambda resource: resource.name):
                if not _targets(resource, namespace, labels):
                    continue
                if resource.fail_closed or resource.spec.action in (Action.DENY, Action.CUSTOM):
                    deny.append(resource)
                elif resource.spec.action is Action.ALLOW:
                    allow.append(resource)
        return deny, allow


def build_policies(
    settings: MeshSettings,
    authorization_policies: Iterable[Resource[AuthorizationPolicy]],
    peer_authentications: Iterable[Resource[PeerAuthentication]],
) -> PolicyIndex:
    """The index of all policies of the mesh. Resources that fail closed are among them and deny what they select."""
    return PolicyIndex(
        root_namespace=settings.root_namespace,
        trust_domains=settings.trust_domains,
        peers=_by_namespace(peer_authentications),
        authorization=_by_namespace(authorization_policies),
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
    deny: tuple[Resource[AuthorizationPolicy], ...],
    allow: tuple[Resource[AuthorizationPolicy], ...],
    trust_domains: tuple[str, ...],
) -> WorkloadPolicies:
    """The policies of one workload. CUSTOM denies what its rules match: nobody can be asked yet."""
    return WorkloadPolicies(
        peer=peer,
        deny=tuple(_selected(resource) for resource in deny),
        allow=tuple(_selected(resource) for resource in allow),
        trust_domains=trust_domains,
    )


def _selected(resource: Resource[AuthorizationPolicy]) -> SelectedPolicy:
    closed = resource.fail_closed or resource.spec.action is Action.CUSTOM
    return SelectedPolicy(origin=Origin(resource=resource.id), spec=resource.spec, fail_closed=closed)


def _mode(mtls: MutualTLS | None, inherited: MutualTls) -> MutualTls:
    return _MODES.get(mtls.mode, inherited) if mtls is not None else inherited


def _targets(resource: Resource[AuthorizationPolicy], namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a policy's targetRefs let it apply to this workload. Without any it does; with them, to a gateway that
    serves one of the named Gateways of its namespace. Other targets are served by waypoints, never by a sidecar."""
    spec = resource.spec
    targets = (*spec.target_refs, *((spec.target_ref,) if spec.target_ref else ()))
    if not targets:
        return True
    if resource.namespace != namespace:
        return False
    name = labels.get(GATEWAY_NAME)
    return name is not None and any(
        (target.group, target.kind, target.name) == (_GATEWAY_GROUP, "Gateway", name) for target in targets
    )


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
