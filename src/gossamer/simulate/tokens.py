"""Envoy's JWT filter, as far as it can be told without time and keys.

Invariant: a token is refused here only for what nothing can mend: its form, its issuer, its audience, the want of any
key. Whether a signature and a date are good nobody here knows; who does says so by the claims in the request's
metadata, and then the token counts as verified.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication, JwtProvider, JwtRequirement

from gossamer.compile.claims import JWT_METADATA
from gossamer.simulate.connection import Trace
from gossamer.simulate.headers import Headers
from gossamer.simulate.index import Filter
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.outcome import Outcome, PolicyDecision, Verdict

_BEARER: Final = "Bearer "


@dataclass(slots=True, kw_only=True)
class _Need:
    """Which providers' tokens are taken, and whether a request may come without."""

    providers: list[str] = field(default_factory=list)
    optional: bool = False


def verify(found: Filter, headers: Headers, metadata: Mapping[str, Any], trace: Trace) -> Outcome | None:
    """An Outcome when the filter turns the request away."""
    config = found.config
    assert isinstance(config, JwtAuthentication)
    if metadata.get(JWT_METADATA):
        return None
    need = _need(config)
    why = ""
    for name in need.providers:
        provider = config.providers[name]
        for token in _tokens(provider, headers):
            problem = _problem(token, provider)
            if not problem:
                raise NotSimulatedError("whether a token's signature and dates are good; give its claims as metadata")
            why = why or problem
    if not why and need.optional:
        return None
    decision = PolicyDecision(filter=found.name, action="JWT", allowed=False, origins=found.origins)
    trace.policies.append(decision)
    return trace.end(Verdict.DENIED, why or "a token is required and there is none", status=401)


def _need(config: JwtAuthentication) -> _Need:
    kinds = {rule.requires.SerializeToString(deterministic=True) for rule in config.rules}
    if len(kinds) != 1:
        raise NotSimulatedError("tokens that are required of some requests only")
    need = _Need()
    requires = config.rules[0].requires
    parts = requires.requires_any.requirements if requires.HasField("requires_any") else [requires]
    for part in parts:
        _take(part, need)
    return need


def _take(part: JwtRequirement, need: _Need) -> None:
    match part.WhichOneof("requires_type"):
        case "provider_name":
            need.providers.append(part.provider_name)
        case "allow_missing":
            need.optional = True
        case kind:
            raise NotSimulatedError(f"a requirement of tokens by {kind}")


def _tokens(provider: JwtProvider, headers: Headers) -> Iterator[str]:
    """The tokens at the places where the provider's are looked for."""
    query = parse_qs(urlsplit(headers.get(":path")).query)
    cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie").split(";"))
    if not (provider.from_headers or provider.from_params or provider.from_cookies):
        if headers.get("authorization").startswith(_BEARER):
            yield headers.get("authorization").removeprefix(_BEARER)
        yield from query.get("access_token", ())
    for place in provider.from_headers:
        value = headers.get(place.name)
        if place.name in headers and place.value_prefix in value:
            yield value.partition(place.value_prefix)[2] if place.value_prefix else value
    for name in provider.from_params:
        yield from query.get(name, ())
    yield from (cookies[name] for name in provider.from_cookies if cookies.get(name))


def _problem(token: str, provider: JwtProvider) -> str:
    """What nothing can mend; empty if the token may be good."""
    parts = token.split(".")
    claims = _decoded(parts[1]) if len(parts) == 3 else None
    if claims is None:
        return "a token is no JSON Web Token"
    if provider.issuer and claims.get("iss") != provider.issuer:
        return f"nobody takes tokens of issuer {claims.get('iss')}"
    audience = claims.get("aud", ())
    audiences = [audience] if isinstance(audience, str) else audience
    if provider.audiences and not set(provider.audiences) & {str(one).rstrip("/") for one in audiences}:
        return "a token is for another audience"
    keys = json.loads(provider.local_jwks.inline_string or "{}").get("keys", [])
    if all(key.get("kid") == "nobody" for key in keys):
        return f"there are no keys for tokens of issuer {claims.get('iss')}"
    return ""


def _decoded(part: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
