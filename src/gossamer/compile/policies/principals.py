"""The caller's side of a rule: sources, and conditions on the caller or on what the request carries.

Invariant: fields of one source are joined by AND, values of one field by OR; of a `not` field, none may match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from envoy.config.rbac.v3.rbac_pb2 import Principal, SourcedMetadata
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher

from gossamer.api.authorization_policy import Condition, Source
from gossamer.compile.policies import strings
from gossamer.compile.streams import cidr

KEYED: Final = re.compile(r"([^\[]+)((?:\[[^\]]*\])+)")
"""`request.headers[X-Foo]`, `request.auth.claims[a][b]`: a name, then keys in brackets."""
_JWT: Final = "envoy.filters.http.jwt_authn"
_PAYLOAD: Final = "payload"
"""Under this key of its metadata the JWT filter puts a token's claims."""

ANY: Final = Principal(any=True)

Name = Callable[[str], Principal]


class Callers:
    """How the names of one policy are read: its namespace and the mesh's trust domains."""

    __slots__ = ("_namespace", "_trust_domains")

    def __init__(self, namespace: str, trust_domains: tuple[str, ...]) -> None:
        self._namespace = namespace
        self._trust_domains = trust_domains

    def source(self, source: Source) -> Principal:
        """One `from[].source`."""
        return _all(
            [
                *self._among(source.principals, source.not_principals, self._principal),
                *self._among(source.request_principals, source.not_request_principals, request_principal),
                *self._among(source.namespaces, source.not_namespaces, _of_namespace),
                *self._among(source.service_accounts, source.not_service_accounts, self._service_account),
                *self._among(source.trust_domains, source.not_trust_domains, _of_trust_domain),
                *self._among(source.ip_blocks, source.not_ip_blocks, _direct_address),
                *self._among(source.remote_ip_blocks, source.not_remote_ip_blocks, _remote_address),
            ]
        )

    def condition(self, condition: Condition) -> list[Principal] | None:
        """What one `when[]` asks of the caller or the request; None when it asks about the destination."""
        plain: dict[str, Name] = {
            "source.ip": _direct_address,
            "remote.ip": _remote_address,
            "source.namespace": _of_namespace,
            "source.principal": self._principal,
            "source.serviceAccount": self._service_account,
            "source.trustDomain": _of_trust_domain,
            "request.auth.principal": request_principal,
            "request.auth.audiences": lambda value: _claim(("aud",), value),
            "request.auth.presenter": lambda value: _claim(("azp",), value),
        }
        name = plain.get(condition.key) or _keyed(condition.key)
        return self._among(condition.values, condition.not_values, name) if name is not None else None

    @staticmethod
    def _among(values: Iterable[str], excluded: Iterable[str], name: Name) -> list[Principal]:
        """Nothing, when neither is asked for."""
        wanted, unwanted = [name(value) for value in values], [name(value) for value in excluded]
        found = [_any(wanted)] if wanted else []
        return [*found, Principal(not_id=_any(unwanted))] if unwanted else found

    def _principal(self, value: str) -> Principal:
        names = strings.aliases(value, self._trust_domains)
        return _any([_authenticated(strings.principal(name)) for name in names])

    def _service_account(self, value: str) -> Principal:
        return _authenticated(strings.service_account(value, self._namespace))


def principal_of(parts: list[Principal]) -> Principal:
    """All of the parts; anyone when there are none."""
    return _all(parts)


def metadata_matcher(filter_name: str, key: str, value: str) -> MetadataMatcher:
    """Metadata that a filter left: `[value]` is looked for in a list, `value` compared with a text."""
    listed = value.startswith("[") and value.endswith("]")
    item = ValueMatcher(string_match=strings.text(value[1:-1] if listed else value))
    return MetadataMatcher(filter=filter_name, path=_path((key,)), value=_one_of(item) if listed else item)


def request_principal(pattern: str) -> Principal:
    """`ISSUER/SUBJECT` of a verified token; an issuer may hold slashes. A pattern without one that ends with a star
    is about the issuer, one that starts with a star about the subject."""
    issuer, slash, subject = pattern.rpartition("/")
    if not slash:
        issuer, subject = ("*", pattern) if pattern.startswith("*") else (pattern, "*" if pattern.endswith("*") else "")
    return _all([_text_claim("iss", issuer), _text_claim("sub", subject)])


def _keyed(key: str) -> Name | None:
    found = KEYED.fullmatch(key)
    if found is None:
        return None
    keys = tuple(re.findall(r"\[([^\]]*)\]", found.group(2)))
    if found.group(1) == "request.headers":
        return lambda value: Principal(header=_header(keys[0], value))
    return (lambda value: _claim(keys, value)) if found.group(1) == "request.auth.claims" else None


def _header(name: str, pattern: str) -> HeaderMatcher:
    if pattern == "*":
        return HeaderMatcher(name=name, present_match=True)
    return HeaderMatcher(name=name, string_match=strings.text(pattern))


def _of_namespace(value: str) -> Principal:
    return _authenticated(strings.namespace(value))


def _of_trust_domain(value: str) -> Principal:
    return _authenticated(strings.trust_domain(value))


def _authenticated(name: StringMatcher) -> Principal:
    return Principal(authenticated=Principal.Authenticated(principal_name=name))


def _direct_address(block: str) -> Principal:
    return Principal(direct_remote_ip=cidr(block))


def _remote_address(block: str) -> Principal:
    return Principal(remote_ip=cidr(block))


def _claim(keys: tuple[str, ...], pattern: str) -> Principal:
    """A claim that is this text, or a list that holds it."""
    item = ValueMatcher(string_match=strings.text(pattern))
    return _payload(keys, ValueMatcher(or_match=OrMatcher(value_matchers=[item, _one_of(item)])))


def _text_claim(key: str, pattern: str) -> Principal:
    return _payload((key,), ValueMatcher(string_match=strings.text(pattern)))


def _payload(keys: tuple[str, ...], value: ValueMatcher) -> Principal:
    matcher = MetadataMatcher(filter=_JWT, path=_path((_PAYLOAD, *keys)), value=value)
    return Principal(sourced_metadata=SourcedMetadata(metadata_matcher=matcher))


def _path(keys: tuple[str, ...]) -> list[MetadataMatcher.PathSegment]:
    return [MetadataMatcher.PathSegment(key=key) for key in keys]


def _one_of(item: ValueMatcher) -> ValueMatcher:
    return ValueMatcher(list_match=ListMatcher(one_of=item))


def _any(parts: list[Principal]) -> Principal:
    return parts[0] if len(parts) == 1 else Principal(or_ids=Principal.Set(ids=parts))


def _all(parts: list[Principal]) -> Principal:
    if not parts:
        return ANY
    return parts[0] if len(parts) == 1 else Principal(and_ids=Principal.Set(ids=parts))
