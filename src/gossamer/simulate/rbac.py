"""Envoy's role-based access control: who may do what, decided on one connection or request.

Invariant: `decide` depends on the rules and the facts alone, so a policy and what it compiles to can be held against
each other on any request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC, MetadataSource, Permission, Policy, Principal, SourcedMetadata
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig
from envoy.extensions.rbac.matchers.upstream_ip_port.v3.upstream_ip_port_matcher_pb2 import UpstreamIpPortMatcher
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from gossamer.core.frozen import FrozenMap
from gossamer.simulate.headers import Headers
from gossamer.simulate.matchers import in_block, matches_header, matches_string, matches_value, value_at, without_query
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.outcome import Missed
from gossamer.simulate.path_template import matches_template
from gossamer.simulate.request import Address, Certificate

ACTIONS: Final = {RBAC.ALLOW: "ALLOW", RBAC.DENY: "DENY", RBAC.LOG: "LOG"}


@dataclass(slots=True, kw_only=True)
class Facts:
    """All that rules can look at.

    `remote` is the client's address as X-Forwarded-For tells it where that is trusted, `source` the connection's own.
    `tls` says whether the connection was accepted over TLS, `peer` what its client then showed. For a connection
    without HTTP the headers are empty.
    """

    destination: Address
    source: Address
    remote: str = ""
    tls: bool = False
    peer: Certificate | None = None
    server_name: str = ""
    looked_up: str = ""
    """The host that the proxy looks up for this request, empty when it looks up none."""
    headers: Headers = field(default_factory=Headers)
    metadata: Mapping[str, Any] = field(default_factory=FrozenMap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`policy` is the name of the policy that matched, the first by name, empty when none did."""

    action: str
    allowed: bool
    policy: str = ""


def decide(rules: RBAC, facts: Facts) -> Decision:
    """What the rules say. ALLOW lets in what a policy matches, DENY what none does, LOG everything."""
    matched = ""
    for name in sorted(rules.policies):
        if matches_policy(rules.policies[name], facts):
            matched = name
            break
    action = ACTIONS.get(rules.action)
    if action is None:
        raise NotSimulatedError(f"RBAC action {rules.action}")
    allowed = action == "LOG" or bool(matched) == (action == "ALLOW")
    return Decision(action=action, allowed=allowed, policy=matched)


def matches_policy(policy: Policy, facts: Facts) -> bool:
    """Whether one of its permissions and one of its principals match."""
    if policy.HasField("condition") or policy.HasField("checked_condition"):
        raise NotSimulatedError("RBAC conditions (CEL)")
    return any(permits(p, facts) for p in policy.permissions) and any(names(p, facts) for p in policy.principals)


def missed_part(policy: Policy, facts: Facts) -> Missed:
    """Which half of the policy does not match, if one does not."""
    try:
        if not matches_policy(policy, facts):
            who = any(names(one, facts) for one in policy.principals)
            return Missed.REQUEST if who else Missed.CALLER
    except NotSimulatedError:
        return Missed.UNKNOWN
    return Missed.NOTHING


def permits(permission: Permission, facts: Facts) -> bool:
    """Whether what is asked for is what the permission describes."""
    match permission.WhichOneof("rule"):
        case "any":
            return permission.any
        case "and_rules":
            return all(permits(rule, facts) for rule in permission.and_rules.rules)
        case "or_rules":
            return any(permits(rule, facts) for rule in permission.or_rules.rules)
        case "not_rule":
            return not permits(permission.not_rule, facts)
        case kind:
            return _asks_for(permission, kind, facts)


def _asks_for(permission: Permission, kind: str | None, facts: Facts) -> bool:
    match kind:
        case "header":
            return matches_header(permission.header, facts.headers)
        case "url_path":
            return _path(permission.url_path.path, facts)
        case "uri_template":
            return _template(permission, facts)
        case "destination_ip":
            return in_block(permission.destination_ip, facts.destination.ip)
        case "destination_port":
            return permission.destination_port == facts.destination.port
        case "destination_port_range":
            span = permission.destination_port_range
            return span.start <= facts.destination.port < span.end
        case "metadata":
            return matches_metadata(permission.metadata, facts)
        case "sourced_metadata":
            return _sourced(permission.sourced_metadata, facts)
        case "requested_server_name":
            return matches_string(permission.requested_server_name, facts.server_name)
        case "matcher":
            return _upstream(permission, facts)
    raise NotSimulatedError(f"RBAC permissions by {kind or 'nothing'}")


def _upstream(permission: Permission, facts: Facts) -> bool:
    """Whether the address that was looked up is the one described. Names are not looked up here: only `localhost` and
    addresses are known for what they are."""
    config = UpstreamIpPortMatcher()
    if not permission.matcher.typed_config.Unpack(config) or config.HasField("upstream_port_range"):
        raise NotSimulatedError("RBAC permissions by matcher")
    host = "127.0.0.1" if facts.looked_up == "localhost" else facts.looked_up.strip("[]")
    return in_block(config.upstream_ip, host)


def names(principal: Principal, facts: Facts) -> bool:
    """Whether who asks is whom the principal describes."""
    match principal.WhichOneof("identifier"):
        case "any":
            return principal.any
        case "and_ids":
            return all(names(one, facts) for one in principal.and_ids.ids)
        case "or_ids":
            return any(names(one, facts) for one in principal.or_ids.ids)
        case "not_id":
            return not names(principal.not_id, facts)
        case kind:
            return _comes_from(principal, kind, facts)


def _comes_from(principal: Principal, kind: str | None, facts: Facts) -> bool:
    match kind:
        case "authenticated":
            return _authenticated(principal.authenticated, facts)
        case "direct_remote_ip":
            return in_block(principal.direct_remote_ip, facts.source.ip)
        case "source_ip":
            return in_block(principal.source_ip, facts.source.ip)
        case "remote_ip":
            return in_block(principal.remote_ip, facts.remote or facts.source.ip)
        case "header":
            return matches_header(principal.header, facts.headers)
        case "url_path":
            return _path(principal.url_path.path, facts)
        case "metadata":
            return matches_metadata(principal.metadata, facts)
        case "sourced_metadata":
            return _sourced(principal.sourced_metadata, facts)
    raise NotSimulatedError(f"RBAC principals by {kind or 'nothing'}")


def _path(matcher: StringMatcher, facts: Facts) -> bool:
    return ":path" in facts.headers and matches_string(matcher, without_query(facts.headers.get(":path")))


def _template(permission: Permission, facts: Facts) -> bool:
    config = UriTemplateMatchConfig()
    if not permission.uri_template.typed_config.Unpack(config):
        raise NotSimulatedError(f"path matcher {permission.uri_template.name}")
    return ":path" in facts.headers and matches_template(
        config.path_template, without_query(facts.headers.get(":path"))
    )


def _authenticated(wanted: Principal.Authenticated, facts: Facts) -> bool:
    """URI names of the certificate, then its DNS names, then its subject; without a name, anyone over TLS."""
    if not facts.tls:
        return False
    if not wanted.HasField("principal_name"):
        return True
    peer = facts.peer or Certificate()
    named = (*peer.uris, *peer.dns_names, peer.subject)
    return any(matches_string(wanted.principal_name, name) for name in named)


def matches_metadata(matcher: MetadataMatcher, facts: Facts) -> bool:
    """Whether what filters have left matches."""
    path = [segment.key for segment in matcher.path]
    return matches_value(matcher.value, value_at(facts.metadata, matcher.filter, path)) != matcher.invert


def _sourced(sourced: SourcedMetadata, facts: Facts) -> bool:
    if sourced.metadata_source != MetadataSource.DYNAMIC:
        raise NotSimulatedError("RBAC on the metadata of routes")
    return matches_metadata(sourced.metadata_matcher, facts)
