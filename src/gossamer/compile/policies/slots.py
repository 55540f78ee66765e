"""The places in a filter chain where policy stands, and what is delivered into them.

Invariant: a chain that is live and has not received its policy denies everything. A slot's name says what it is for and
not what it holds: all chains of one proxy share it, an edit changes its content alone, and so reaches connections that
are already open without touching a listener.
"""

from __future__ import annotations

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

from gossamer.compile.draft import Draft, pack
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.rbac import compile_allow, compile_deny
from gossamer.core.ids import Origin
from gossamer.core.resources import EXTENSION, Reference
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
        Filter(name=slot, config_discovery=_discovery((_NETWORK_RBAC,), pack(_network(_nobody()))))
        for slot in TCP_SLOTS
    )


def slot_references(*slots: Slot) -> frozenset[Reference]:
    """What a listener that holds these slots refers to."""
    return frozenset(Reference(type_url=EXTENSION, name=slot) for slot in slots)


def compile_slots(policies: WorkloadPolicies, ports: LocalPorts) -> tuple[Draft, ...]:
    """What is delivered into every slot of one proxy. Equal policies on equal ports give equal drafts: memoise it."""
    deny, allow = tuple(p.origin for p in policies.deny), tuple(p.origin for p in policies.allow)
    http = {
        Slot.HTTP_DENY: (compile_deny(policies, ports, tcp=False), deny),
        Slot.HTTP_ALLOW: (compile_allow(policies, ports, tcp=False), allow),
    }
    tcp = {
        Slot.TCP_DENY: (compile_deny(policies, ports, tcp=True), deny),
        Slot.TCP_ALLOW: (compile_allow(policies, ports, tcp=True), allow),
    }
    drafts = [
        _draft(slot, pack(_http(rules)), origins)
        for slot in HTTP_SLOTS
        for rules, origins in (http.get(slot, (None, ())),)
    ]
    drafts += [_draft(slot, pack(_network(rules)), origins) for slot, (rules, origins) in tcp.items()]
    return tuple(drafts)


def _draft(slot: Slot, config: Any, origins: tuple[Origin, ...]) -> Draft:
    message = TypedExtensionConfig(name=slot, typed_config=config)
    return Draft(type_url=EXTENSION, name=slot, message=message, references=frozenset(), origins=origins)


def _more(slot: Slot) -> tuple[str, ...]:
    return (_MORE_TYPES[slot],) if slot in _MORE_TYPES else ()


def _http(rules: rbac_pb2.RBAC | None) -> http_rbac_pb2.RBAC:
    return http_rbac_pb2.RBAC(rules=rules)


def _network(rules: rbac_pb2.RBAC | None) -> network_rbac_pb2.RBAC:
    return network_rbac_pb2.RBAC(rules=rules, stat_prefix="tcp.")


def _nobody() -> rbac_pb2.RBAC:
    """Denies everything, and says why."""
    policy = rbac_pb2.Policy(permissions=[rbac_pb2.Permission(any=True)], principals=[rbac_pb2.Principal(any=True)])
    return rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY, policies={NOT_RECEIVED: policy})


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
