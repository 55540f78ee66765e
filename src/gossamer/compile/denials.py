"""What a caller is told when it is denied.

By default no more than that: a name of a policy, or what is wrong with a token, helps whoever tries keys, and all of it
stands in the access log. `GOSSAMER_TELL_DENIALS` in MeshConfig's `defaultConfig.proxyMetadata` switches it on: the
header `x-gossamer-denied-by` then says what `%RESPONSE_CODE_DETAILS%` says in the log, and Envoy's own words about a
token reach the caller. Invariant: the status is the same either way, and a refused token is answered with the challenge
that RFC 9110 asks for.
"""

from __future__ import annotations

from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLogFilter,
    ExtensionFilter,
    ResponseFlagFilter,
)
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.access_loggers.filters.cel.v3.cel_pb2 import ExpressionFilter
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    LocalReplyConfig,
    ResponseMapper,
)

from gossamer.compile.draft import pack

DENIED_BY: Final = "x-gossamer-denied-by"
_ASKED: Final = "%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_ext_authz_shadow_effective_policy_id)%"
_DETAILS: Final = "%RESPONSE_CODE_DETAILS%"


def local_replies(*, tells: bool) -> LocalReplyConfig:
    """How an Envoy's own answers to denied requests are dressed."""
    if not tells:
        challenge = _mapper(_details("jwt_authn_access_denied"), "www-authenticate", "Bearer")
        return LocalReplyConfig(mappers=[challenge])
    return LocalReplyConfig(
        mappers=[
            _mapper(AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["UAEX"])), DENIED_BY, _ASKED),
            _mapper(_details("rbac_access_denied"), DENIED_BY, _DETAILS),
            _mapper(_details("jwt_authn_access_denied"), DENIED_BY, _DETAILS),
        ]
    )


def _mapper(which: AccessLogFilter, header: str, value: str) -> ResponseMapper:
    option = HeaderValueOption(
        header=HeaderValue(key=header, value=value), append_action=HeaderValueOption.ADD_IF_ABSENT
    )
    return ResponseMapper(filter=which, headers_to_add=[option])


def _details(prefix: str) -> AccessLogFilter:
    """Answers whose details begin so: an application's own 403 is none of them."""
    expression = ExpressionFilter(expression=f'response.code_details.startsWith("{prefix}")')
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=pack(expression)
        )
    )
