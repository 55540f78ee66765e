"""Who else may vouch for a host: a file of attestors, for a control plane.

Each names an issuer of signed tokens, where its keys are, and what a token of it lets a host be. Invariant: strict, and
closed by default: a token that no `allow` of its attestor matches opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from gossamer.api import names
from gossamer.api.common import FROZEN, STRICT, Boolean, Duration, Exact, Prefix, StringMatch, UInt32
from gossamer.api.findings import At
from gossamer.api.own_file import read_own_file
from gossamer.api.rules.common import check, check_string_match, check_unique, require
from gossamer.api.structure import build_typed
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.frozen import EMPTY, FrozenMap

VERSION: Final = 1
LEEWAY: Final = timedelta(seconds=30)
"""How far the clocks of an issuer and of the control plane may lie apart."""
_MOST_LEEWAY: Final = timedelta(minutes=5)
_SHORTEST: Final = timedelta(minutes=1)
_POD_LIFETIME: Final = timedelta(hours=24)
_JOB_LIFETIME: Final = timedelta(hours=1)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerKeys:
    """Where an issuer's keys are: in the file itself, in another one (a JSON Web Key Set or public keys in PEM), at a
    URL, or (nothing given) where its discovery document says. `ca_file` verifies the certificate of what is dialled."""

    inline: str = field(default="", repr=False)
    file: str = ""
    uri: str = ""
    ca_file: str = ""
    allow_private_redirects: Boolean = False
    """Whether redirects, and a discovery document, may lead to another host with a private address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedAccount:
    """Pods' service accounts (`*` for any) whose token is good; without `grants` each may be itself and no other."""

    namespace: str
    service_account: str
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesTokens:
    """Projected service-account tokens of a Kubernetes cluster."""

    allow: tuple[AllowedAccount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedClaims:
    """Tokens all of whose claims named here match, and what their host may run: `NAMESPACE/SERVICE-ACCOUNT`.

    `a.b` is the claim of that name or, if there is none, `b` in the claim `a`.
    """

    claims: Annotated[FrozenMap[str, StringMatch], FROZEN] = EMPTY
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdTokens:
    """Tokens of a cloud or of a CI system (OpenID Connect)."""

    allow: tuple[AllowedClaims, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestor:
    """An issuer whose tokens vouch for hosts. `lifetime` is how long a host is believed for one token, and how long the
    certificates of its workloads are valid at most."""

    name: str
    issuer: str
    audiences: tuple[str, ...]
    keys: IssuerKeys = field(default_factory=IssuerKeys)
    kubernetes: KubernetesTokens | None = None
    oidc: OpenIdTokens | None = None
    leeway: Duration = LEEWAY
    lifetime: Duration | None = None
    reuse: Boolean = False
    """Whether a token that one key has joined with may bring in another key."""

    @property
    def kind(self) -> str:
        return "kubernetes" if self.kubernetes is not None else "oidc"

    @property
    def host_lifetime(self) -> timedelta:
        """As written; else a day for a pod, which can show a new token then, and an hour for a job."""
        return self.lifetime or (_POD_LIFETIME if self.kubernetes is not None else _JOB_LIFETIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestorFile:
    """A whole file."""

    __pydantic_config__ = STRICT
    version: UInt32
    attestors: tuple[Attestor, ...]


def load_attestors(text: str, name: str) -> tuple[tuple[Attestor, ...] | None, Diagnostics]:
    """What the file says; None, with what is wrong and where, if it is not all good. Never raises for what it holds."""
    return read_own_file(text, name, _build)


def _build(value: Any, at: At) -> tuple[Attestor, ...] | None:
    file = build_typed(AttestorFile, value, at)
    if file is not None:
        _check(file, at)
    return None if at.has_errors or file is None else file.attestors


def _check(file: AttestorFile, at: At) -> None:
    if file.version != VERSION:
        message = f"version {file.version} is not one that this Gossamer reads"
        at["version"].error("unknown-version", message, f"write version: {VERSION}")
    for index, attestor in enumerate(file.attestors):
        _check_attestor(attestor, at["attestors", index])
    check_unique([(one.name, at["attestors", i, "name"]) for i, one in enumerate(file.attestors)], "name")


def _check_attestor(attestor: Attestor, at: At) -> None:
    check(names.namespace_problem(attestor.name), at["name"], "invalid-name")
    require(attestor.issuer, at["issuer"], "name the issuer, exactly as its tokens do (iss)")
    require(
        attestor.audiences, at["audiences"], "name the audience that its tokens are for (aud): the mesh, not others"
    )
    for index, audience in enumerate(attestor.audiences):
        require(audience, at["audiences", index], "an audience must not be empty")
    if (attestor.kubernetes is None) == (attestor.oidc is None):
        at.error("exclusive-fields", "say whose tokens these are: one of kubernetes or oidc")
    _check_keys(attestor, at)
    if not timedelta() <= attestor.leeway <= _MOST_LEEWAY:
        at["leeway"].error("out-of-range", "a leeway is between 0s and 5m")
    if attestor.lifetime is not None and attestor.lifetime < _SHORTEST:
        at["lifetime"].error("out-of-range", "a lifetime is a minute or more")
    if attestor.kubernetes is not None:
        _check_accounts(attestor.kubernetes, at["kubernetes", "allow"])
    if attestor.oidc is not None:
        _check_claims(attestor.oidc, at["oidc", "allow"])


def _check_keys(attestor: Attestor, at: At) -> None:
    keys = attestor.keys
    given = [name for name in ("inline", "file", "uri") if getattr(keys, name)]
    if len(given) > 1:
        at["keys", given[1]].error("exclusive-fields", f"only one of {', '.join(given)} can be set", on_key=True)
    if keys.uri:
        check(_url_problem(keys.uri), at["keys", "uri"], "invalid-url")
    elif not given and attestor.issuer and _url_problem(attestor.issuer):
        hint = "give its keys by keys.file, keys.inline or keys.uri"
        at["issuer"].error("invalid-url", f"no keys can be discovered here: {_url_problem(attestor.issuer)}", hint)


def _url_problem(url: str) -> str:
    """Keys are fetched where nobody on the way can put in others."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in ("http", "https") or any(char.isspace() for char in url):
        return f'"{url}" is no https:// URL'
    if parts.scheme == "http" and host not in _LOOPBACK:
        return f'"{url}" is not https://: anybody on the way could put in keys of his own'
    return ""


def _check_accounts(tokens: KubernetesTokens, at: At) -> None:
    require(tokens.allow, at, "name the service accounts whose tokens are good; none is otherwise")
    for index, allowed in enumerate(tokens.allow):
        if allowed.namespace != "*":
            check(names.namespace_problem(allowed.namespace), at[index, "namespace"], "invalid-name")
        if allowed.service_account != "*":
            check(names.object_name_problem(allowed.service_account), at[index, "serviceAccount"], "invalid-name")
        _check_grants(allowed.grants, at[index, "grants"])


def _check_claims(tokens: OpenIdTokens, at: At) -> None:
    require(tokens.allow, at, "say which tokens are good; none is otherwise")
    for index, allowed in enumerate(tokens.allow):
        here = at[index]
        require(allowed.claims, here["claims"], "name a claim: everybody in the world may have a token of this issuer")
        for claim, match in allowed.claims.items():
            require(claim, here["claims", claim], "a claim has a name")
            check_string_match(match, here["claims", claim])
            if not isinstance(match, (Exact, Prefix)) or not match.value:
                here["claims", claim].error("invalid-value", "a claim is compared by exact or prefix")
        require(allowed.grants, here["grants"], "say what the host may run: NAMESPACE/SERVICE-ACCOUNT")
        _check_grants(allowed.grants, here["grants"])


def _check_grants(grants: Iterable[str], at: At) -> None:
    for index, grant in enumerate(grants):
        namespace, slash, account = grant.partition("/")
        problem = "" if slash else f'"{grant}" is no grant: write NAMESPACE/SERVICE-ACCOUNT, * for any of either'
        problem = problem or ("" if namespace == "*" else names.namespace_problem(namespace))
        check(problem or ("" if account == "*" else names.object_name_problem(account)), at[index], "invalid-grant")
