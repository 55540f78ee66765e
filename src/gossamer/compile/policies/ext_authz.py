"""The filters that ask an external authorizer about a request or connection.

Invariant: it is asked about exactly what the RBAC filter before has recorded (`ASKED`), for whichever authorizer that
was: while one takes the place of another, nothing passes unasked. Rules: Istio's
`EnvoyExternalAuthorizationGrpcProvider` and `EnvoyExternalAuthorizationHttpProvider`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.http_uri_pb2 import HttpUri
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import (
    AuthorizationRequest,
    AuthorizationResponse,
    BufferSettings,
    ExtAuthz,
    HttpService,
)
from envoy.extensions.filters.network.ext_authz.v3.ext_authz_pb2 import ExtAuthz as NetworkExtAuthz
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import ListStringMatcher, StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from envoy.type.v3.http_status_pb2 import HttpStatus, StatusCode
from google.protobuf.duration_pb2 import Duration

from gossamer.api.extension_provider import (
    EnvoyExternalAuthorizationGrpcProvider,
    EnvoyExternalAuthorizationHttpProvider,
    EnvoyExternalAuthorizationRequestBody,
)
from gossamer.compile.names import cluster_name
from gossamer.compile.policies import strings
from gossamer.compile.policies.rbac import ASKED, CUSTOM
from gossamer.model.authorizers import Authorizer

_TIMEOUT: Final = timedelta(seconds=600)
"""Istio's default."""


def compile_http_authorizer(authorizer: Authorizer) -> ExtAuthz:
    """Asks about requests. The authorizer is one that can decide about them."""
    spec = authorizer.spec
    assert spec is not None
    config = ExtAuthz(
        transport_api_version=ApiVersion.V3,
        failure_mode_allow=spec.fail_open,
        clear_route_cache=spec.clear_route_cache,
        filter_enabled_metadata=_asked("envoy.filters.http.rbac"),
    )
    if spec.status_on_error:
        config.status_on_error.CopyFrom(HttpStatus(code=StatusCode.ValueType(int(spec.status_on_error))))
    if spec.include_request_body_in_check is not None:
        config.with_request_body.CopyFrom(_body(spec.include_request_body_in_check))
    if isinstance(spec, EnvoyExternalAuthorizationGrpcProvider):
        config.grpc_service.CopyFrom(_grpc(authorizer))
        return config
    config.http_service.CopyFrom(_http(authorizer, spec))
    sent = _headers((*spec.include_headers_in_check, *spec.include_request_headers_in_check))
    if sent is not None:
        config.allowed_headers.CopyFrom(sent)
    return config


def compile_tcp_authorizer(authorizer: Authorizer) -> NetworkExtAuthz:
    """Asks about connections, over gRPC alone."""
    assert authorizer.spec is not None
    return NetworkExtAuthz(
        stat_prefix="tcp.",
        transport_api_version=ApiVersion.V3,
        failure_mode_allow=authorizer.spec.fail_open,
        grpc_service=_grpc(authorizer),
        filter_enabled_metadata=_asked("envoy.filters.network.rbac"),
    )


def _asked(filter_name: str) -> MetadataMatcher:
    """Whether the filter before has recorded a policy by which the authorizer is to be asked."""
    segment = MetadataMatcher.PathSegment(key=f"{ASKED}shadow_effective_policy_id")
    return MetadataMatcher(
        filter=filter_name, path=[segment], value=ValueMatcher(string_match=StringMatcher(prefix=CUSTOM))
    )


def _grpc(authorizer: Authorizer) -> GrpcService:
    cluster = cluster_name(authorizer.host, authorizer.port)
    return GrpcService(
        envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=cluster, authority=authorizer.host),
        timeout=_duration(authorizer),
    )


def _http(authorizer: Authorizer, spec: EnvoyExternalAuthorizationHttpProvider) -> HttpService:
    host, port = authorizer.host, authorizer.port
    added = sorted(spec.include_additional_headers_in_check.items())
    return HttpService(
        server_uri=HttpUri(
            uri=f"http://{host}:{port}", cluster=cluster_name(host, port), timeout=_duration(authorizer)
        ),
        path_prefix=spec.path_prefix,
        authorization_request=AuthorizationRequest(
            headers_to_add=[HeaderValue(key=name, value=value) for name, value in added]
        ),
        authorization_response=AuthorizationResponse(
            allowed_upstream_headers=_headers(spec.headers_to_upstream_on_allow),
            allowed_client_headers=_headers(spec.headers_to_downstream_on_deny),
            allowed_client_headers_on_success=_headers(spec.headers_to_downstream_on_allow),
        ),
    )


def _headers(patterns: Iterable[str]) -> ListStringMatcher | None:
    found = [strings.text(pattern, ignore_case=pattern != "*") for pattern in patterns]
    return ListStringMatcher(patterns=found) if found else None


def _body(settings: EnvoyExternalAuthorizationRequestBody) -> BufferSettings:
    return BufferSettings(
        max_request_bytes=settings.max_request_bytes,
        allow_partial_message=settings.allow_partial_message,
        pack_as_bytes=settings.pack_as_bytes,
    )


def _duration(authorizer: Authorizer) -> Duration:
    timeout = authorizer.spec.timeout if authorizer.spec is not None else None
    duration = Duration()
    duration.FromTimedelta(timeout or _TIMEOUT)
    return duration
