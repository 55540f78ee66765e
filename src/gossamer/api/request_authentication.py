"""RequestAuthentication: which tokens a workload takes.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, Boolean, Duration, PolicyTargetReference, WorkloadSelector


class Presence(StrEnum):
    OPTIONAL = "OPTIONAL"
    REQUIRED = "REQUIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAuthentication:
    """`RequestAuthentication`."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    jwt_rules: tuple[JWTRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTRule:
    """`RequestAuthentication.jwtRules[]`."""

    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    output_payload_to_header: str = ""
    from_cookies: tuple[str, ...] = ()
    forward_original_token: Boolean = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    timeout: Duration | None = None
    space_delimited_claims: tuple[str, ...] = ()
    presence: Presence = Presence.OPTIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTHeader:
    """`RequestAuthentication.jwtRules[].fromHeaders[]`."""

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimToHeader:
    """`RequestAuthentication.jwtRules[].outputClaimToHeaders[]`."""

    header: str
    claim: str
