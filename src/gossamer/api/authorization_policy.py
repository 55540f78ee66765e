"""AuthorizationPolicy: who may call a workload.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, PolicyTargetReference, WorkloadSelector


class Action(StrEnum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicy:
    """`AuthorizationPolicy`."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    rules: tuple[Rule, ...] = ()
    action: Action = Action.ALLOW
    provider: ExtensionProvider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`AuthorizationPolicy.rules[]`."""

    from_: tuple[From, ...] = ()
    to: tuple[To, ...] = ()
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class From:
    """`AuthorizationPolicy.rules[].from[]`."""

    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`AuthorizationPolicy.rules[].from[].source`."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class To:
    """`AuthorizationPolicy.rules[].to[]`."""

    operation: Operation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`AuthorizationPolicy.rules[].to[].operation`."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """`AuthorizationPolicy.rules[].when[]`."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionProvider:
    """`AuthorizationPolicy.provider`."""

    name: str = ""
