"""RequestAuthentication.

Rules: Istio's documentation of RequestAuthentication and JWTRule, what its CRD enforces, and RFC 7517 for inline keys.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

from gossamer.api.findings import At
from gossamer.api.request_authentication import JWTRule, RequestAuthentication
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check,
    check_count,
    check_duration,
    check_filled,
    check_length,
    check_pattern,
    is_written,
    written,
)
from gossamer.api.rules.targets import check_targets, check_workload_selector

HEADER_PATTERN: Final = "[-_A-Za-z0-9]+"


def check_request_authentication(resource: Resource[RequestAuthentication], raw: Any, at: At) -> None:
    spec = resource.spec
    check_workload_selector(spec.selector, at["selector"])
    check_targets(spec, raw, at, strict=True)
    check_count(spec.jwt_rules, 4096, at["jwtRules"])
    raw_rules = written(raw, "jwtRules") or []
    for index, rule in enumerate(spec.jwt_rules):
        _check_rule(rule, raw_rules[index], at["jwtRules", index])


def _check_rule(rule: JWTRule, raw: Any, at: At) -> None:
    if is_written(raw, "issuer"):
        check_length(rule.issuer, 1, len(rule.issuer), at["issuer"])
    _check_keys(rule, raw, at)
    check_filled(rule.audiences, at["audiences"])
    check_filled(rule.from_params, at["fromParams"])
    check_filled(rule.from_cookies, at["fromCookies"])
    check_filled(rule.space_delimited_claims, at["spaceDelimitedClaims"])
    check_count(rule.space_delimited_claims, 64, at["spaceDelimitedClaims"])
    for index, location in enumerate(rule.from_headers):
        check_length(location.name, 1, len(location.name), at["fromHeaders", index, "name"])
    for index, copied in enumerate(rule.output_claim_to_headers):
        here = at["outputClaimToHeaders", index]
        check_length(copied.claim, 1, len(copied.claim), here["claim"])
        if check_length(copied.header, 1, len(copied.header), here["header"]):
            check_pattern(copied.header, HEADER_PATTERN, here["header"])
    check_duration(rule.timeout, at["timeout"])


def _check_keys(rule: JWTRule, raw: Any, at: At) -> None:
    """Where the keys come from: an URL, the rule itself, or the issuer by OpenID Connect's discovery."""
    if is_written(raw, "jwks") and is_written(raw, "jwksUri"):
        at["jwks"].error("exclusive-fields", "only one of jwks or jwksUri can be set", on_key=True)
    if is_written(raw, "jwksUri") and check_length(rule.jwks_uri, 1, 2048, at["jwksUri"]):
        check(_url_problem(rule.jwks_uri), at["jwksUri"], "invalid-url")
    if rule.jwks:
        check(_keys_problem(rule.jwks), at["jwks"], "invalid-jwks")
    if not (rule.issuer or rule.jwks or rule.jwks_uri):
        at.warning("no-effect", "without issuer, jwks and jwksUri nothing says which tokens are good: none is")


def _url_problem(url: str) -> str:
    if not url.lower().startswith(("http://", "https://")) or "\\" in url or any(char.isspace() for char in url):
        return f'url must have scheme http:// or https://, which "{url}" has not'
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    return "" if valid else f'"{url}" is not a URL: after the scheme come a host and a port, if any, from 1 to 65535'


def _keys_problem(text: str) -> str:
    """For a JSON Web Key Set, or a single key."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"jwks is not JSON: {error}"
    keys = value.get("keys", [value]) if isinstance(value, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) and isinstance(key.get("kty"), str) for key in keys):
        return 'jwks must be a JSON Web Key Set: {"keys": [...]}, each key with its kty'
    return ""
