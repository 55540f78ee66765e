"""RequestAuthentications as Envoy's JWT filter.

Invariant: a request without any token passes, unless a rule requires one; a token that no rule takes does not. Keys
stand in the filter; Envoy fetches none, so that an issuer that is down takes nobody's access away. Rules: Istio's
`RequestAuthentication`: those of all policies are read as if they were one's.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.route.v3.route_components_pb2 import RouteMatch
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwtAuthentication,
    JwtClaimToHeader,
    JwtHeader,
    JwtProvider,
    JwtRequirement,
    JwtRequirementOrList,
    RequirementRule,
)
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from google.protobuf.empty_pb2 import Empty

from gossamer.api.request_authentication import JWTRule, Presence
from gossamer.compile.claims import JWT_PAYLOAD
from gossamer.model.tokens import TokenRule

_NOBODYS: Final = {
    "kty": "OKP",
    "crv": "Ed25519",
    "alg": "EdDSA",
    "kid": "nobody",
    "x": base64.urlsafe_b64encode(hashlib.sha256(b"gossamer: the key that nobody has").digest()).rstrip(b"=").decode(),
}
"""A key that nobody can sign with. It stands in every set: Envoy refuses a filter whose set has no key that it can
read, and the filter before it, which may have checked nothing, would stay."""
_SPACED: Final = ("permission", "scope")
"""Claims that are lists written as one text (Istio's rule; rules may name more)."""


def compile_tokens(rules: tuple[TokenRule, ...], *, tells: bool = False) -> JwtAuthentication:
    """The filter for these rules, of which there is at least one. Why a token is refused is in the access log; the
    caller learns it if `tells`."""
    providers = {_name(index, found): _provider(found.rule, found.keys) for index, found in enumerate(rules)}
    needed = [_name(index, found) for index, found in enumerate(rules) if found.rule.presence is Presence.REQUIRED]
    parts = [JwtRequirement(provider_name=name) for name in needed or providers]
    if not needed:
        parts.append(JwtRequirement(allow_missing=Empty()))
    requires = parts[0]
    if len(parts) > 1:
        requires = JwtRequirement(requires_any=JwtRequirementOrList(requirements=parts))
    return JwtAuthentication(
        providers=providers,
        rules=[RequirementRule(match=match, requires=requires) for match in _everything()],
        strip_failure_response=not tells,
    )


def _everything() -> list[RouteMatch]:
    """Every request: with a path, with none (CONNECT), and `OPTIONS *`."""
    return [
        RouteMatch(prefix="/"),
        RouteMatch(connect_matcher=RouteMatch.ConnectMatcher()),
        RouteMatch(safe_regex=RegexMatcher(regex=".*")),
    ]


def _name(index: int, found: TokenRule) -> str:
    resource = found.origin.resource
    return f"{index}-ns[{resource.namespace}]-RequestAuthentication[{resource.name}]"


def _key_set(text: str) -> str:
    """The set with the key that nobody has; a key by itself is a set of one."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        value = {}
    keys = value.get("keys", [value] if value else []) if isinstance(value, dict) else []
    return json.dumps({"keys": [*(key for key in keys if isinstance(key, dict)), _NOBODYS]}, separators=(",", ":"))


def _provider(rule: JWTRule, keys: str) -> JwtProvider:
    return JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        local_jwks=DataSource(inline_string=_key_set(rule.jwks or keys)),
        forward=rule.forward_original_token,
        from_headers=[JwtHeader(name=one.name, value_prefix=one.prefix) for one in rule.from_headers],
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        forward_payload_header=rule.output_payload_to_header,
        claim_to_headers=[
            JwtClaimToHeader(header_name=one.header, claim_name=one.claim) for one in rule.output_claim_to_headers
        ],
        payload_in_metadata=JWT_PAYLOAD,
        normalize_payload_in_metadata=JwtProvider.NormalizePayload(
            space_delimited_claims=dict.fromkeys((*_SPACED, *rule.space_delimited_claims))
        ),
        clear_route_cache=True,
    )
