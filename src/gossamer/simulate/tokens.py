"""Envoy's JWT filter, as far as it can be told without time and keys; with who knows those (`CheckToken`), to the end.

Invariant: a token is refused here only for what nothing can mend: its form, its issuer, its audience, the want of any
key. Whether a signature and a date are good nobody here knows; who does says so by a check, or by the claims in the
request's metadata, and then the token counts as verified.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
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
from gossamer.simulate.rbac import Facts
from gossamer.simulate.request import EARLY, EXPIRED, CheckToken

_BEARER: Final = "Bearer "


@dataclass(slots=True, kw_only=True)
class _Need:
    """Which providers' tokens are taken, and whether a request may come without."""

    providers: list[str] = field(default_factory=list)
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """Why a token is not taken. `strange`: its issuer is another's; any other reason is told before that."""

    why: str
    status: int = 401
    strange: bool = False


def verify(found: Filter, headers: Headers, facts: Facts, check: CheckToken | None, trace: Trace) -> Outcome | None:
    """An Outcome when the filter turns the request away. Else the claims of a good token stand in the metadata of
    `facts`, and the headers are as the filter leaves them."""
    config = found.config
    assert isinstance(config, JwtAuthentication)
    if facts.metadata.get(JWT_METADATA):
        return None
    need = _need(config)
    _forget_claims(need, config, headers)
    why: _Refusal | None = None
    for name in need.providers:
        provider = config.providers[name]
        tokens = list(_tokens(provider, headers))
        problem = next(filter(None, (_problem(token, provider, check) for token in tokens)), None)
        if tokens and not problem:  # where one provider's come several times, each has to be good
            _admit(tokens[-1], provider, headers, facts)
            trace.policies.append(PolicyDecision(filter=found.name, action="JWT", allowed=True, origins=found.origins))
            return None
        if problem is not None and (why is None or not problem.strange):
            why = problem
    if why is None and need.optional:
        return None
    decision = PolicyDecision(filter=found.name, action="JWT", allowed=False, origins=found.origins)
    trace.policies.append(decision)
    why = why or _Refusal(why="a token is required and there is none")
    return trace.end(Verdict.DENIED, why.why, status=why.status)


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


def _problem(token: str, provider: JwtProvider, check: CheckToken | None) -> _Refusal | None:
    """What is wrong with a token, looked for in Envoy's order; None if it is good."""
    claims = claims_of(token)
    if claims is None:
        return _Refusal(why="a token is no JSON Web Token")
    if provider.issuer and claims.get("iss") != provider.issuer:
        return _Refusal(why=f"nobody takes tokens of issuer {claims.get('iss')}", strange=True)
    jwks = provider.local_jwks.inline_string
    doubt = check(token, jwks) if check is not None else ""
    if doubt in (EXPIRED, EARLY):
        return _Refusal(why=doubt)
    audience = claims.get("aud", ())
    audiences = [audience] if isinstance(audience, str) else audience
    if provider.audiences and not set(provider.audiences) & {str(one).rstrip("/") for one in audiences}:
        return _Refusal(why="a token is for another audience", status=403)
    keys = json.loads(jwks or "{}").get("keys", [])
    if all(key.get("kid") == "nobody" for key in keys):
        return _Refusal(why=f"there are no keys for tokens of issuer {claims.get('iss')}")
    if check is None:
        raise NotSimulatedError("whether a token's signature and dates are good; give its claims as metadata")
    return _Refusal(why=doubt) if doubt else None


def _admit(token: str, provider: JwtProvider, headers: Headers, facts: Facts) -> None:
    """Leave what the filter leaves of a good token: its claims as metadata and in headers, itself only if forwarded."""
    said = claims_of(token) or {}
    claims = dict(said)
    for name in provider.normalize_payload_in_metadata.space_delimited_claims:
        if isinstance(claims.get(name), str):
            claims[name] = str(claims[name]).split()
    facts.metadata = {**facts.metadata, JWT_METADATA: {provider.payload_in_metadata: claims}}
    if provider.forward_payload_header:
        headers.set(provider.forward_payload_header, token.split(".")[1])
    for one in provider.claim_to_headers:
        value = _in_header(_at(said, one.claim_name))
        if value is not None:
            headers.set(one.header_name, value)
    if not provider.forward:
        _take_out(token, provider, headers)


def _forget_claims(need: _Need, config: JwtAuthentication, headers: Headers) -> None:
    """Whatever the client says in headers that are for verified claims goes, token or none."""
    for name in need.providers:
        provider = config.providers[name]
        for header in (provider.forward_payload_header, *(one.header_name for one in provider.claim_to_headers)):
            headers.remove(header)


def _at(claims: Any, name: str) -> Any:
    """A claim; dots in its name lead into objects."""
    for part in name.split("."):
        claims = claims.get(part) if isinstance(claims, dict) else None
    return claims


def _in_header(value: Any) -> str | None:
    """A claim as Envoy writes it into a header."""
    match value:
        case bool():
            return str(value).lower()
        case str() | int():
            return str(value)
        case float():
            return f"{value:f}"
        case list() | dict():
            return base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()
    return None


def _take_out(token: str, provider: JwtProvider, headers: Headers) -> None:
    """Out of headers and parameters; Envoy leaves cookies as they are."""
    own = bool(provider.from_headers or provider.from_params or provider.from_cookies)
    names = [place.name for place in provider.from_headers] if own else ["authorization"]
    for name in names:
        if token in headers.get(name):
            headers.remove(name)
    path, mark, query = headers.get(":path").partition("?")
    kept = [part for part in query.split("&") if token not in part]
    if mark and len(kept) < len(query.split("&")):
        headers.set(":path", f"{path}?{'&'.join(kept)}" if kept else path)


def claims_of(token: str) -> dict[str, Any] | None:
    """What a token says, whoever has signed it; None if it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
