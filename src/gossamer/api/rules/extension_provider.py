"""The extension providers of MeshConfig that decide about requests (`envoyExtAuthzGrpc`, `envoyExtAuthzHttp`).

Rules: Istio's documentation of MeshConfig.ExtensionProvider and what Envoy takes of it. A provider that nobody can be
asked by hurts the policies that name it alone: they deny what their rules match, and the MeshConfig stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from gossamer.api import names
from gossamer.api.common import json_name
from gossamer.api.extension_provider import (
    EnvoyExternalAuthorizationGrpcProvider,
    EnvoyExternalAuthorizationHttpProvider,
    MeshExtensionProvider,
)
from gossamer.api.findings import At
from gossamer.api.positions import Path

Authorization = EnvoyExternalAuthorizationGrpcProvider | EnvoyExternalAuthorizationHttpProvider

STATUSES: Final = frozenset((
    100, *range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 418), 421, 422, 423, 424, 426, 428, 429, 431,
    *range(500, 509), 510, 511,
))  # fmt: skip
"""The HTTP statuses that Envoy can answer with."""
_SHORTEST: Final = timedelta(milliseconds=1)
_LISTS: Final = (
    "include_headers_in_check", "include_request_headers_in_check", "headers_to_upstream_on_allow",
    "headers_to_downstream_on_deny", "headers_to_downstream_on_allow",
)  # fmt: skip


def check_extension_providers(providers: tuple[MeshExtensionProvider, ...], at: At) -> None:
    """Say of each provider why nobody can be asked by it."""
    known: set[str] = set()
    for index, provider in enumerate(providers):
        here = at[index]
        if provider.name in known:
            here["name"].warning("invalid-value", f"there is a provider {provider.name} already: the first one counts")
        known.add(provider.name)
        if authorization_of(provider) is None:
            continue
        for path, problem in provider_problems(provider):
            hint = "policies with action CUSTOM that name this provider deny what their rules match"
            here[path].warning("bad-provider", problem, hint)


def authorization_of(provider: MeshExtensionProvider) -> Authorization | None:
    """How the provider is asked for a decision; None for one that decides nothing."""
    return provider.envoy_ext_authz_grpc or provider.envoy_ext_authz_http


def provider_problems(provider: MeshExtensionProvider) -> Iterator[tuple[Path, str]]:
    """Why nobody can be asked by an authorizing provider, with where that stands."""
    if not provider.name:
        yield ("name",), "a provider needs a name"
    if provider.envoy_ext_authz_grpc is not None and provider.envoy_ext_authz_http is not None:
        yield ("envoyExtAuthzHttp",), "a provider is asked over gRPC or over HTTP, not by both"
    spec = authorization_of(provider)
    kind = "envoyExtAuthzGrpc" if provider.envoy_ext_authz_grpc is not None else "envoyExtAuthzHttp"
    for field, problem in _problems(spec) if spec is not None else ():
        yield (kind, *field), problem


def _problems(spec: Authorization) -> Iterator[tuple[Path, str]]:
    _, _, host = spec.service.rpartition("/")
    if not host:
        yield ("service",), "service must name the authorizer: HOST or NAMESPACE/HOST"
    elif problem := names.domain_problem(host):
        yield ("service",), problem
    if not 0 < spec.port <= 65535:
        yield ("port",), f"port must be between 1-65535, not {spec.port}"
    if spec.timeout is not None and spec.timeout < _SHORTEST:
        yield ("timeout",), "timeout must be at least 1ms"
    if spec.status_on_error and not _is_status(spec.status_on_error):
        yield ("statusOnError",), f'"{spec.status_on_error}" is no HTTP status that Envoy can answer with'
    body = spec.include_request_body_in_check
    if body is not None and not body.max_request_bytes:
        yield ("includeRequestBodyInCheck", "maxRequestBytes"), "say how many bytes of a body are sent: at least 1"
    if isinstance(spec, EnvoyExternalAuthorizationHttpProvider):
        yield from _http_problems(spec)


def _http_problems(spec: EnvoyExternalAuthorizationHttpProvider) -> Iterator[tuple[Path, str]]:
    if spec.path_prefix and not spec.path_prefix.startswith("/"):
        yield ("pathPrefix",), f'"{spec.path_prefix}" does not start with /'
    for name in _LISTS:
        for index, pattern in enumerate(getattr(spec, name)):
            if not pattern:
                yield (json_name(name), index), "a header's name must not be empty"
    for name in spec.include_additional_headers_in_check:
        if not name or any(char.isspace() or char in "\0:" for char in name.removeprefix(":")):
            yield ("includeAdditionalHeadersInCheck", name), f'"{name}" is no name of a header'


def _is_status(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) == 3 and int(text) in STATUSES
