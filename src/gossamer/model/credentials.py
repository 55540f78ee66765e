"""Which Secrets the TLS of one proxy needs, under the names by which its TLS contexts ask for them.

Invariant: a Secret of another namespace than the proxy's is given to nobody, unless a ReferenceGrant of that namespace
says so (`granted`): a name that a user writes never leads there by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gossamer.api.kubernetes import ConfigMap, Secret
from gossamer.api.resource import Resource
from gossamer.model.view import Credential, OutboundService, Server

KUBERNETES: Final = "kubernetes://"
"""Before the name of a Secret in the proxy's own namespace."""
KUBERNETES_GATEWAY: Final = "kubernetes-gateway://"
"""Before `namespace/name` of a Secret that a Gateway of the Kubernetes Gateway API refers to."""
AUTHORITY: Final = "-cacert"
"""Behind the name of the CA by which the other side is verified."""


def resource_name(credential: str) -> str:
    """The name by which a TLS context asks for a credential's certificate and key."""
    return credential if credential.startswith(KUBERNETES_GATEWAY) else KUBERNETES + credential


def authority_name(credential: str) -> str:
    """The name by which a TLS context asks for the CA that belongs to a credential, or that a credential is."""
    return resource_name(credential.removesuffix(AUTHORITY)) + AUTHORITY


def asked_by_servers(servers: Iterable[Server]) -> frozenset[str]:
    """The credentials that the TLS of a gateway's servers names."""
    names: set[str] = set()
    for server in servers:
        tls = server.rule.spec.tls
        if tls is not None:
            given = {tls.credential_name, *tls.credential_names, tls.ca_cert_credential_name} - {""}
            names |= {name for name in given if may_have(name, server.rule.granted)}
    return frozenset(names)


def with_authority(maps: tuple[Resource[ConfigMap], ...]) -> tuple[Resource[ConfigMap], ...]:
    """Those that hold a CA: what else stands in ConfigMaps means nothing to a mesh."""
    return tuple(one for one in maps if one.spec.value("ca.crt") or one.spec.value("cacert"))


def bundles_for(
    servers: Iterable[Server], bundles: tuple[Resource[ConfigMap], ...], namespace: str
) -> tuple[Resource[ConfigMap], ...]:
    """The ConfigMaps of a proxy's namespace that `caCertCredentialName` names: a CA is no secret."""
    named = {server.rule.spec.tls.ca_cert_credential_name for server in servers if server.rule.spec.tls is not None}
    return tuple(one for one in bundles if one.namespace == namespace and one.name in named)


def may_have(credential: str, granted: frozenset[str]) -> bool:
    """Whether a server may have this credential: one of its proxy's own namespace, or one that was granted."""
    return not credential.startswith(KUBERNETES_GATEWAY) or credential in granted


def asked_by_destinations(services: Iterable[OutboundService]) -> frozenset[str]:
    """The credentials that DestinationRules name for TLS to these services."""
    named = (name for outbound in services for name in _of_destination(outbound) if name)
    return frozenset(name for name in named if may_have(name, frozenset()))


def _of_destination(outbound: OutboundService) -> Iterator[str]:
    destination = outbound.destination
    for policy in (destination.policy, *(subset.policy for subset in destination.subsets)):
        if policy is not None:
            for tls in (policy.tls, *(setting.tls for setting in policy.port_level_settings)):
                yield tls.credential_name if tls is not None else ""


def credentials_for(
    names: frozenset[str],
    secrets: tuple[Resource[Secret], ...],
    namespace: str,
    bundles: tuple[Resource[ConfigMap], ...] = (),
) -> tuple[Credential, ...]:
    """The credentials of these names for a proxy of this namespace, in the order of their names; without those for
    which there is neither a Secret nor one of these `bundles`."""
    by_place = {(secret.namespace, secret.name): secret for secret in secrets}
    by_name = {bundle.name: bundle for bundle in bundles}
    found = {}
    for name in names:
        base = name.removesuffix(AUTHORITY)
        place = _place(base, namespace)
        key = resource_name(base)
        credential = Credential(
            name=key,
            certificate=by_place.get(place),
            authority=by_place.get((place[0], place[1] + AUTHORITY)),
            bundle=by_name.get(name),
        )
        if credential.certificate or credential.authority or credential.bundle:
            found[key] = credential
    return tuple(found[key] for key in sorted(found))


def _place(name: str, namespace: str) -> tuple[str, str]:
    if not name.startswith(KUBERNETES_GATEWAY):
        return namespace, name
    home, _, own = name.removeprefix(KUBERNETES_GATEWAY).partition("/")
    return home, own
