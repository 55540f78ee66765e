"""Secrets that Gateways and DestinationRules name, and that do not hold what they are named for.

Invariant: nothing here stops a resource from working; a name without its Secret fails the handshakes that need it. No
diagnostic has a position yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from gossamer.api.config import Config
from gossamer.api.destination_rule import ClientTLSMode, ClientTLSSettings, DestinationRule
from gossamer.api.gateway import Gateway, ServerTLSMode, ServerTLSSettings
from gossamer.api.kubernetes import ConfigMap, Secret
from gossamer.api.resource import Resource
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Severity, diagnostic_about
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from gossamer.model.credentials import AUTHORITY, KUBERNETES_GATEWAY, with_authority
from gossamer.model.known import Known

_ENDED: Final = frozenset({ServerTLSMode.SIMPLE, ServerTLSMode.MUTUAL, ServerTLSMode.OPTIONAL_MUTUAL})


class _Part(StrEnum):
    """What a Secret is named for."""

    PAIR = "no certificate with its key (tls.crt and tls.key, or cert and key)"
    AUTHORITY = "no CA to verify the other side by (ca.crt or cacert)"


def check_credentials(config: Config, memo: Memo, known: tuple[Known, ...]) -> Diagnostics:
    """Credentials that lead to nothing. A Secret is wanted in the namespaces of the `known` proxies that a Gateway
    selects, and where it selects none of them, in any."""
    gateways = tuple(one for one in known if one.gateway)
    maps = memo.keep("", with_authority, config.config_maps)
    return (
        *memo.keep("", _of_gateways, config.gateways, gateways, config.secrets, maps),
        *memo.keep("", _of_destinations, config.destination_rules, config.secrets),
    )


Holders = Mapping[tuple[str, str], Resource[Secret] | Resource[ConfigMap]]


def _of_gateways(
    resources: tuple[Resource[Gateway], ...],
    proxies: tuple[Known, ...],
    secrets: tuple[Resource[Secret], ...],
    maps: tuple[Resource[ConfigMap], ...],
) -> Diagnostics:
    by_place = {(secret.namespace, secret.name): secret for secret in secrets}
    bundles: Holders = {**{(one.namespace, one.name): one for one in maps}, **by_place}
    everywhere, anywhere = _all(by_place), _all(bundles)
    found = []
    for resource in resources:
        selector = resource.spec.selector.items()
        homes = tuple(dict.fromkeys(one.namespace for one in proxies if selector <= one.labels.items()))
        for index, server in enumerate(resource.spec.servers):
            if server.tls is None or server.tls.mode not in _ENDED:
                continue
            for name, field, parts in _asked(server.tls):
                bundled = field == "caCertCredentialName"
                holders, places = (bundles, anywhere) if bundled else (by_place, everywhere)
                message = _missing(name, parts, homes or places, holders, sought=homes)
                if message:
                    path = f"spec.servers[{index}].tls.{field}"
                    found.append(_unknown(resource.id, path, f"{message}: TLS handshakes of this server fail"))
    return tuple(found)


def _asked(tls: ServerTLSSettings) -> Iterator[tuple[str, str, tuple[_Part, ...]]]:
    """Credentials of a server: name, field, and what each is for. The first certificate's CA is for clients', unless
    another is named for them."""
    clients = tls.mode is not ServerTLSMode.SIMPLE and not tls.insecure_skip_verify
    given = [(tls.credential_name, "credentialName")] if tls.credential_name else []
    given += [(name, f"credentialNames[{index}]") for index, name in enumerate(tls.credential_names)]
    for place, (name, field) in enumerate(given):
        verifies = clients and not tls.ca_cert_credential_name and place == 0
        yield name, field, (_Part.PAIR, _Part.AUTHORITY) if verifies else (_Part.PAIR,)
    if tls.ca_cert_credential_name and clients:
        yield tls.ca_cert_credential_name, "caCertCredentialName", (_Part.AUTHORITY,)


def _of_destinations(
    resources: tuple[Resource[DestinationRule], ...], secrets: tuple[Resource[Secret], ...]
) -> Diagnostics:
    """A rule for workloads of its namespace wants the Secret there; any other is for gateways."""
    by_place = {(secret.namespace, secret.name): secret for secret in secrets}
    everywhere = _all(by_place)
    found = []
    for resource in resources:
        homes = (resource.namespace,) if resource.spec.workload_selector is not None else ()
        for path, tls in _tls_settings(resource.spec):
            if tls.credential_name and (parts := _wanted(tls)):
                if resource.spec.workload_selector is None:
                    found.append(_at_gateways(resource.id, f"{path}.credentialName"))
                message = _missing(tls.credential_name, parts, homes or everywhere, by_place, sought=homes)
                if message:
                    found.append(_unknown(resource.id, f"{path}.credentialName", f"{message}: calls by it fail"))
    return tuple(found)


def _tls_settings(spec: DestinationRule) -> Iterator[tuple[str, ClientTLSSettings]]:
    policies = [("spec.trafficPolicy", spec.traffic_policy)]
    policies += [(f"spec.subsets[{i}].trafficPolicy", subset.traffic_policy) for i, subset in enumerate(spec.subsets)]
    for path, policy in policies:
        if policy is None:
            continue
        if policy.tls is not None:
            yield f"{path}.tls", policy.tls
        for index, setting in enumerate(policy.port_level_settings):
            if setting.tls is not None:
                yield f"{path}.portLevelSettings[{index}].tls", setting.tls


def _wanted(tls: ClientTLSSettings) -> tuple[_Part, ...]:
    verified = () if tls.insecure_skip_verify else (_Part.AUTHORITY,)
    if tls.mode is ClientTLSMode.MUTUAL:
        return (_Part.PAIR, *verified)
    return verified if tls.mode is ClientTLSMode.SIMPLE else ()


def _all(holders: Holders) -> tuple[str, ...]:
    return tuple(dict.fromkeys(namespace for namespace, _ in holders))


def _missing(
    name: str, parts: tuple[_Part, ...], homes: Iterable[str], holders: Holders, *, sought: tuple[str, ...]
) -> str:
    """What is not there, "" if some namespace of `homes` has it all; `sought` are those that are known to matter."""
    if name.startswith(KUBERNETES_GATEWAY):
        return f"{name} is of the Kubernetes Gateway API: who names a Secret so is given none"
    where = f"in namespace {' or '.join(sought)}, where its proxies are" if sought else "in any namespace"
    incomplete = ""
    for home in homes:
        own, beside = holders.get((home, name)), holders.get((home, name + AUTHORITY))
        lacking = [part for part in parts if not _holds(part, own, beside)]
        if not lacking:
            return ""
        if own is not None:
            incomplete = f"Secret {home}/{name} has {' and '.join(lacking)}"
    return incomplete or f"there is no Secret {name} {where}"


def _holds(
    part: _Part,
    own: Resource[Secret] | Resource[ConfigMap] | None,
    beside: Resource[Secret] | Resource[ConfigMap] | None,
) -> bool:
    def has(holder: Resource[Secret] | Resource[ConfigMap] | None, *keys: str) -> bool:
        return holder is not None and any(holder.spec.value(key) for key in keys)

    if part is _Part.AUTHORITY:
        return has(own, "ca.crt", "cacert") or has(beside, "ca.crt", "cacert")
    return has(own, "tls.crt", "cert") and has(own, "tls.key", "key")


def _at_gateways(resource: ResourceId, path: str) -> Diagnostic:
    message = "credentialName counts at gateways alone: sidecars call without this Secret"
    hint = "a workloadSelector gives it to the sidecars of the workloads that it selects"
    code = "credential-at-gateways"
    return diagnostic_about(resource, code, path, message, hint, Severity.INFO)


def _unknown(resource: ResourceId, path: str, message: str) -> Diagnostic:
    hint = "a Secret is taken from the namespace of the proxy that needs it"
    return diagnostic_about(resource, "unknown-secret", path, message, hint)
