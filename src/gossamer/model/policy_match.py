"""What an AuthorizationPolicy means, said without Envoy: does it match a call, and who decides.

Invariant: this is the definition that compiled policy is tested against, so it shares no code with the compiler. Rules
are those of Istio's `AuthorizationPolicy` and `Authorization Policy Conditions` references.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gossamer.api.authorization_policy import Action, Condition, Operation, Rule, Source
from gossamer.core.frozen import FrozenMap
from gossamer.model.policy import SelectedPolicy, WorkloadPolicies

_TEMPLATE: Final = re.compile(r"\{\*\*\}|\{\*\}")
_SEGMENT: Final = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]"
_KEYED: Final = re.compile(r"([^\[]+)((?:\[[^\]]*\])+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """One HTTP request; `path` without its query, header names in lower case; no `host` is an empty one."""

    method: str = "GET"
    host: str = ""
    path: str = "/"
    headers: FrozenMap[str, str] = field(default_factory=FrozenMap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as the workload's sidecar sees it; `http` is None on a port that carries TCP.

    `principal` is the caller's SPIFFE ID less `spiffe://`, empty without mutual TLS. `remote_ip` is the original
    client's address (X-Forwarded-For). `claims` are those of a verified token, `metadata` what other filters left.
    """

    source_ip: str = "127.0.0.1"
    remote_ip: str = ""
    destination_ip: str = "127.0.0.1"
    destination_port: int = 0
    principal: str = ""
    sni: str = ""
    http: HttpCall | None = None
    claims: Mapping[str, Any] = field(default_factory=FrozenMap)
    metadata: Mapping[str, Any] = field(default_factory=FrozenMap)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVerdict:
    """Whether a call may pass and which policy said so: None when it passes, or fails, for want of any.

    `asks` names the authorizer that has to agree before the call, allowed by all others, may pass.
    """

    allowed: bool
    policy: SelectedPolicy | None = None
    rule: int = -1
    asks: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One policy's question: the call, and how this policy's names are to be read."""

    call: Call
    namespace: str
    trust_domains: tuple[str, ...]
    denies: bool
    """What is unknown is taken for a match, to deny, and for none, to allow: a field that only HTTP has, on TCP."""


def decide(policies: WorkloadPolicies, call: Call) -> PolicyVerdict:
    """Istio's order: what CUSTOM matches is asked about, or denied where nobody can be; a matching DENY denies; then,
    where there is any ALLOW, one of them has to match."""
    asks, authorizer = "", policies.authorizer
    custom = _first(policies.custom, call, policies.trust_domains)
    if custom is not None and authorizer is not None:
        if not authorizer.can_decide(tcp=call.http is None):
            return PolicyVerdict(allowed=False, policy=custom[0], rule=custom[1])
        asks = authorizer.name
    if denied := _first(policies.deny, call, policies.trust_domains):
        return PolicyVerdict(allowed=False, policy=denied[0], rule=denied[1])
    if allowed := _first(policies.allow, call, policies.trust_domains):
        return PolicyVerdict(allowed=True, policy=allowed[0], rule=allowed[1], asks=asks)
    return PolicyVerdict(allowed=not policies.allow, asks=asks if not policies.allow else "")


def _first(
    policies: tuple[SelectedPolicy, ...], call: Call, trust_domains: tuple[str, ...]
) -> tuple[SelectedPolicy, int] | None:
    """The first policy with a rule that matches, and that rule."""
    for policy in policies:
        rule = matching_rule(policy, call, trust_domains)
        if rule is not None:
            return policy, rule
    return None


def matching_rule(policy: SelectedPolicy, call: Call, trust_domains: tuple[str, ...]) -> int | None:
    """Index of the policy's first rule that matches, None when none does."""
    denies = policy.fail_closed or policy.spec.action in (Action.DENY, Action.CUSTOM)
    asked = _Asked(call=call, namespace=policy.namespace, trust_domains=trust_domains, denies=denies)
    return next((index for index, rule in enumerate(policy.rules) if _rule(rule, asked)), None)


def matches(policy: SelectedPolicy, call: Call, trust_domains: tuple[str, ...] = ("cluster.local",)) -> bool:
    """Whether any rule of the policy matches. On TCP, a rule that asks for what only HTTP has never allows; to deny, it
    is read without those fields."""
    return matching_rule(policy, call, trust_domains) is not None


def _rule(rule: Rule, asked: _Asked) -> bool:
    if asked.call.http is None and not asked.denies and _asks_http(rule):
        return False
    sources = [item.source for item in rule.from_ if item.source is not None]
    operations = [item.operation for item in rule.to if item.operation is not None]
    return (
        (not rule.from_ or any(_source(source, asked) for source in sources))
        and (not rule.to or any(_operation(operation, asked) for operation in operations))
        and all(_condition(condition, asked) for condition in rule.when)
    )


def _asks_http(rule: Rule) -> bool:
    """Whether any part of the rule, even one of several alternatives, asks for what only HTTP has."""
    sources = [item.source for item in rule.from_ if item.source is not None]
    operations = [item.operation for item in rule.to if item.operation is not None]
    return (
        any(source.request_principals or source.not_request_principals for source in sources)
        or any(
            getattr(operation, name)
            for operation in operations
            for name in ("hosts", "not_hosts", "methods", "not_methods", "paths", "not_paths")
        )
        or any(condition.key.startswith(("request.", "experimental.envoy.filters.http.")) for condition in rule.when)
    )


_Test = Callable[[str], bool]


def _among(values: Iterable[str], excluded: Iterable[str], test: _Test) -> bool:
    """One of `values` (if there are any) and none of `excluded` passes."""
    values = tuple(values)
    return (not values or any(map(test, values))) and not any(map(test, excluded))


def _http_among(
    asked: _Asked, values: Sequence[str], excluded: Sequence[str], test: Callable[[HttpCall, str], bool]
) -> bool:
    if not values and not excluded:
        return True
    http = asked.call.http
    return asked.denies if http is None else _among(values, excluded, lambda value: test(http, value))


def _source(source: Source, asked: _Asked) -> bool:
    call = asked.call
    return (
        _among(source.principals, source.not_principals, lambda v: _principal(v, asked))
        and _among(source.namespaces, source.not_namespaces, lambda v: _text(v, _part(call.principal, "ns")))
        and _among(source.service_accounts, source.not_service_accounts, lambda v: _service_account(v, asked))
        and _among(source.trust_domains, source.not_trust_domains, lambda v: _text(v, _trust_domain(call.principal)))
        and _among(source.ip_blocks, source.not_ip_blocks, lambda v: _within(v, call.source_ip))
        and _among(source.remote_ip_blocks, source.not_remote_ip_blocks, lambda v: _within(v, _remote(call)))
        and _http_among(
            asked, source.request_principals, source.not_request_principals, lambda _, v: _request_principal(v, call)
        )
    )


def _operation(operation: Operation, asked: _Asked) -> bool:
    return (
        _http_among(asked, operation.hosts, operation.not_hosts, lambda h, v: _text(v.lower(), h.host.lower() or None))
        and _http_among(asked, operation.methods, operation.not_methods, lambda h, v: _text(v, h.method))
        and _http_among(asked, operation.paths, operation.not_paths, lambda h, v: _path(v, h.path))
        and _among(operation.ports, operation.not_ports, lambda v: int(v) == asked.call.destination_port)
    )


def _condition(condition: Condition, asked: _Asked) -> bool:
    call = asked.call
    plain: dict[str, _Test] = {
        "source.ip": lambda v: _within(v, call.source_ip),
        "remote.ip": lambda v: _within(v, _remote(call)),
        "source.namespace": lambda v: _text(v, _part(call.principal, "ns")),
        "source.principal": lambda v: _principal(v, asked),
        "source.serviceAccount": lambda v: _service_account(v, asked),
        "source.trustDomain": lambda v: _text(v, _trust_domain(call.principal)),
        "destination.ip": lambda v: _within(v, call.destination_ip),
        "destination.port": lambda v: int(v) == call.destination_port,
        "connection.sni": lambda v: _text(v, call.sni or None),
    }
    test = plain.get(condition.key)
    if test is not None:
        return _among(condition.values, condition.not_values, test)
    return _keyed_condition(condition, asked)


def _keyed_condition(condition: Condition, asked: _Asked) -> bool:
    call, key = asked.call, condition.key
    claims: dict[str, _Test] = {
        "request.auth.principal": lambda v: _request_principal(v, call),
        "request.auth.audiences": lambda v: _claim(call.claims, ("aud",), v),
        "request.auth.presenter": lambda v: _claim(call.claims, ("azp",), v),
    }
    test = claims.get(key)
    found = _KEYED.fullmatch(key)
    if test is None and found is not None:
        name, path = found.group(1), tuple(re.findall(r"\[([^\]]*)\]", found.group(2)))
        if name == "request.headers":
            return _http_among(
                asked, condition.values, condition.not_values, lambda h, v: _text(v, h.headers.get(path[0].lower()))
            )
        if name.startswith("experimental."):
            metadata = call.metadata.get(name.removeprefix("experimental."), {})
            return _among(condition.values, condition.not_values, lambda v: _metadata(metadata, path[0], v))
        if name == "request.auth.claims":
            test = lambda v: _claim(call.claims, path, v)  # noqa: E731 - as those above
    if test is None:
        return asked.denies  # nobody knows what it asks for: allows nothing, denies
    known = test
    return _http_among(asked, condition.values, condition.not_values, lambda _, v: known(v))


def _text(pattern: str, value: str | None) -> bool:
    """Exact, `prefix*`, `*suffix`, or `*` for anything that is there."""
    if value is None:
        return False
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _path(pattern: str, path: str) -> bool:
    if not _TEMPLATE.search(pattern):
        return _text(pattern, path)
    texts, stars = _TEMPLATE.split(pattern), _TEMPLATE.findall(pattern)
    parts = [re.escape(texts[0])]
    for star, text in zip(stars, texts[1:], strict=True):
        parts.append((f"(?:{_SEGMENT}|/)*" if star == "{**}" else f"{_SEGMENT}+") + re.escape(text))
    return re.fullmatch("".join(parts), path) is not None


def _principal(pattern: str, asked: _Asked) -> bool:
    principal = asked.call.principal or None
    return any(_text(name, principal) for name in _of_any_alias(pattern, asked.trust_domains))


def _of_any_alias(pattern: str, trust_domains: tuple[str, ...]) -> set[str]:
    """The pattern, and where its trust domain is one of the mesh's (`cluster.local` always stands for it), the pattern
    with each of them."""
    domain, slash, rest = pattern.partition("/")
    if (
        not slash
        or domain == "*"
        or not (domain == "cluster.local" or any(_text(domain, own) for own in trust_domains))
    ):
        return {pattern}
    return {f"{own}/{rest}" for own in trust_domains}


def _service_account(value: str, asked: _Asked) -> bool:
    namespace, slash, name = value.partition("/")
    wanted = (namespace, name) if slash else (asked.namespace, value)
    principal = asked.call.principal
    return (_part(principal, "ns"), _part(principal, "sa")) == wanted


def _part(principal: str, kind: str) -> str | None:
    """`ns` or `sa` of `TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT`."""
    parts = principal.split("/")
    if len(parts) != 5 or (parts[1], parts[3]) != ("ns", "sa"):
        return None
    return parts[2] if kind == "ns" else parts[4]


def _trust_domain(principal: str) -> str | None:
    return principal.partition("/")[0] or None


def _within(block: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block, strict=False)


def _remote(call: Call) -> str:
    return call.remote_ip or call.source_ip


def _request_principal(pattern: str, call: Call) -> bool:
    issuer, subject = call.claims.get("iss"), call.claims.get("sub")
    return isinstance(issuer, str) and isinstance(subject, str) and _text(pattern, f"{issuer}/{subject}")


def _claim(claims: Mapping[str, Any], path: tuple[str, ...], pattern: str) -> bool:
    value: Any = claims
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(item, str) and _text(pattern, item) for item in values)


def _metadata(metadata: Mapping[str, Any], key: str, pattern: str) -> bool:
    """`[pattern]` looks into a list, a pattern by itself at a text."""
    value = metadata.get(key)
    if pattern.startswith("[") and pattern.endswith("]"):
        return isinstance(value, list | tuple) and any(_text(pattern[1:-1], item) for item in value)
    return isinstance(value, str) and _text(pattern, value)
