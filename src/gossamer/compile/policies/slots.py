"""The places in a filter chain where policy stands, and what is delivered into them.

Invariant: a chain that is live and has not received its policy denies everything. A slot's name says what it is for and
not what it holds: all chains of one proxy share it, an edit changes its content alone, and so reaches connections that
are already open without touching a listener.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Final

from envoy.config.core.v3.config_source_pb2 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    ExtensionConfigSource,
)
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from gossamer.compile.draft import Draft, pack, references
from gossamer.compile.names import cluster_name
from gossamer.compile.policies.ext_authz import compile_http_authorizer, compile_tcp_authorizer
from gossamer.compile.policies.jwt import compile_tokens
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.rbac import NO_ACCESS, Access, PolicyCompiler
from gossamer.core.ids import Origin
from gossamer.core.resources import CLUSTER, EXTENSION, Reference
from gossamer.model.authorizers import Authorizer
from gossamer.model.policy import WorkloadPolicies

NOT_RECEIVED: Final = "policy-not-received"
"""The policy that a denial names while a slot waits for its content."""
_WARMING: Final = 15
"""Seconds that a new listener waits for its slots' content before it goes live and denies. Not 0 (for ever): a sidecar
whose policy is lost says so, request by request, instead of accepting no connection."""


class Slot(StrEnum):
    """A slot; its value is the name of its resource. The order within HTTP and TCP is that of evaluation."""

    HTTP_JWT = "policy.http.jwt"
    HTTP_AUDIT = "policy.http.audit"
    HTTP_CUSTOM = "policy.http.custom"
    HTTP_CUSTOM_AUTHORIZER = "policy.http.custom-authorizer"
    HTTP_DENY = "policy.http.deny"
    HTTP_ALLOW = "policy.http.allow"
    TCP_AUDIT = "policy.tcp.audit"
    TCP_CUSTOM = "policy.tcp.custom"
    TCP_CUSTOM_AUTHORIZER = "policy.tcp.custom-authorizer"
    TCP_DENY = "policy.tcp.deny"
    TCP_ALLOW = "policy.tcp.allow"


HTTP_SLOTS: Final = tuple(slot for slot in Slot if slot.startswith("policy.http"))
TCP_SLOTS: Final = tuple(slot for slot in Slot if slot.startswith("policy.tcp"))

_TYPE: Final = "type.googleapis.com/envoy.extensions.filters."
_HTTP_RBAC: Final = _TYPE + "http.rbac.v3.RBAC"
_NETWORK_RBAC: Final = _TYPE + "network.rbac.v3.RBAC"
_MORE_TYPES: Final = {
    Slot.HTTP_JWT: _TYPE + "http.jwt_authn.v3.JwtAuthentication",
    Slot.HTTP_CUSTOM_AUTHORIZER: _TYPE + "http.ext_authz.v3.ExtAuthz",
    Slot.TCP_CUSTOM_AUTHORIZER: _TYPE + "network.ext_authz.v3.ExtAuthz",
}
"""What else a slot may come to hold; an empty one is an RBAC filter without rules, whatever it is for."""


@cache
def http_filters() -> tuple[HttpFilter, ...]:
    """The slots of an HTTP chain, in order: who the caller says to be, what is recorded, who else is asked, what is
    denied, what is allowed. The same messages each time: to be copied, not changed."""
    return tuple(
        HttpFilter(name=slot, config_discovery=_discovery((_HTTP_RBAC, *_more(slot)), pack(_http(_nobody()))))
        for slot in HTTP_SLOTS
    )


@cache
def network_filters() -> tuple[Filter, ...]:
    """The slots of a TCP chain, before its proxy. Envoy asks them when the client's first byte comes: until then a
    server that speaks first is heard by whoever passed the handshake; the first byte of one who may not ask ends it.
    The same messages each time."""
    return tuple(
        Filter(name=slot, config_discovery=_discovery((_NETWORK_RBAC, *_more(slot)), pack(_network(_nobody()))))
        for slot in TCP_SLOTS
    )


def slot_references(*slots: Slot) -> frozenset[Reference]:
    """What a listener that holds these slots refers to."""
    return frozenset(Reference(type_url=EXTENSION, name=slot) for slot in slots)


def compile_slots(policies: WorkloadPolicies, ports: LocalPorts, *, tells: bool = False) -> tuple[Draft, ...]:
    """What is delivered into every slot of one proxy; `tells`: whoever brings a bad token learns what is wrong with it.
    Equal policies on equal ports give equal drafts: memoise it."""
    origins = _origins(policies)
    tokens = policies.tokens
    drafts = [
        _draft(
            Slot.HTTP_JWT,
            compile_tokens(tokens, tells=tells) if tokens else _http(NO_ACCESS),
            tuple(dict.fromkeys(found.origin for found in tokens)),
        )
    ]
    for tcp, prefix, rbac in ((False, "policy.http.", _http), (True, "policy.tcp.", _network)):
        compiler = PolicyCompiler(policies, ports, tcp=tcp)
        audit, custom = Slot(f"{prefix}audit"), Slot(f"{prefix}custom")
        drafts.append(_draft(audit, rbac(compiler.audit()), origins[audit]))
        drafts += _custom(policies.authorizer, rbac(compiler.custom()), custom, origins[custom], rbac)
        for kind, access in (("deny", compiler.deny()), ("allow", compiler.allow())):
            slot = Slot(f"{prefix}{kind}")
            drafts.append(_draft(slot, rbac(access), origins[slot]))
    return tuple(drafts)


def _origins(policies: WorkloadPolicies) -> dict[Slot, tuple[Origin, ...]]:
    shadow = policies.shadow
    groups = {
        "audit": (*policies.audit, *shadow.audit),
        "custom": policies.custom,
        "deny": (*policies.deny, *shadow.deny),
        "allow": (*policies.allow, *shadow.allow),
    }
    return {
        Slot(f"policy.{layer}.{kind}"): tuple(policy.origin for policy in found)
        for layer in ("http", "tcp")
        for kind, found in groups.items()
    }


def _custom(
    authorizer: Authorizer | None,
    trigger: Message,
    slot: Slot,
    origins: tuple[Origin, ...],
    rbac: Callable[[Access], Message],
) -> list[Draft]:
    """What says that an authorizer has to be asked, and what asks it. The first names the second, so that a new
    authorizer is in place before anything has to wait for its word."""
    tcp = slot is Slot.TCP_CUSTOM
    asking = Slot.TCP_CUSTOM_AUTHORIZER if tcp else Slot.HTTP_CUSTOM_AUTHORIZER
    if authorizer is None or not authorizer.can_decide(tcp=tcp):
        return [_draft(slot, trigger, origins), _draft(asking, rbac(NO_ACCESS))]
    config = compile_tcp_authorizer(authorizer) if tcp else compile_http_authorizer(authorizer)
    cluster = references(CLUSTER, [cluster_name(authorizer.host, authorizer.port)])
    return [
        _draft(slot, trigger, origins, slot_references(asking)),
        _draft(asking, config, origins, cluster),
    ]


def _draft(
    slot: Slot,
    config: Message,
    origins: tuple[Origin, ...] = (),
    named: frozenset[Reference] = frozenset(),
) -> Draft:
    message = TypedExtensionConfig(name=slot, typed_config=pack(config))
    return Draft(type_url=EXTENSION, name=slot, message=message, references=named, origins=origins)


def _more(slot: Slot) -> tuple[str, ...]:
    return (_MORE_TYPES[slot],) if slot in _MORE_TYPES else ()


def _http(access: Access) -> http_rbac_pb2.RBAC:
    return http_rbac_pb2.RBAC(
        rules=access.rules,
        shadow_rules=access.shadow,
        shadow_rules_stat_prefix=access.prefix if access.shadow else "",
    )


def _network(access: Access) -> network_rbac_pb2.RBAC:
    return network_rbac_pb2.RBAC(
        rules=access.rules,
        shadow_rules=access.shadow,
        shadow_rules_stat_prefix=access.prefix if access.shadow else "",
        stat_prefix="tcp.",
    )


def _nobody() -> Access:
    """Denies everything, and says why."""
    policy = rbac_pb2.Policy(permissions=[rbac_pb2.Permission(any=True)], principals=[rbac_pb2.Principal(any=True)])
    return Access(rules=rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY, policies={NOT_RECEIVED: policy}))


def _discovery(type_urls: tuple[str, ...], default: Any) -> ExtensionConfigSource:
    """Content over ADS. A listener warms until it is there, so a new one never denies for the moment in between."""
    source = ConfigSource(
        ads=AggregatedConfigSource(),
        resource_api_version=ApiVersion.V3,
        initial_fetch_timeout=Duration(seconds=_WARMING),
    )
    return ExtensionConfigSource(
        config_source=source,
        default_config=default,
        apply_default_config_without_warming=False,
        type_urls=type_urls,
    )
