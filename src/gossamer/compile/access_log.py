"""Where every connection and request is written down.

Invariant: a line names what decided: `%RESPONSE_CODE_DETAILS%` and `%CONNECTION_TERMINATION_DETAILS%` carry the policy
of a denial (`rbac_access_denied_matched_policy[ns[foo]-policy[name]-rule[0]]`).
"""

from __future__ import annotations

import json
from typing import Any, Final

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog, AccessLogFilter, ResponseFlagFilter
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from google.protobuf.struct_pb2 import Struct

from gossamer.compile.draft import pack
from gossamer.model.settings import MeshSettings

TEXT_FORMAT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
"""Istio's documented default format, so that tools that read it go on working."""


_ASKED: Final = {
    tcp: f"%DYNAMIC_METADATA(envoy.filters.{kind}.rbac:istio_ext_authz_shadow_effective_policy_id)%"
    for tcp, kind in ((False, "http"), (True, "network"))
}
_ASKED_FORMAT: Final = {
    False: f'[%START_TIME%] %RESPONSE_CODE_DETAILS% {_ASKED[False]} "%REQ(X-REQUEST-ID)%"\n',
    True: f"[%START_TIME%] %RESPONSE_CODE_DETAILS% {_ASKED[True]} %DOWNSTREAM_REMOTE_ADDRESS%\n",
}
JSON_FIELDS: Final = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
    "asked_policy": _ASKED[False],
}
"""The same as JSON, under the names that Istio documents; and the policy by which an external authorizer was asked,
since the details of its denial (`ext_authz_denied`) do not say that."""


def access_logs(settings: MeshSettings, *, tcp: bool = False) -> list[AccessLog]:
    """The access log of a connection manager or (`tcp`) a TCP proxy: none without accessLogFile. A JSON format that is
    not a JSON object falls back to the default fields."""
    if not settings.access_log:
        return []
    if settings.access_log_json:
        fields = Struct()
        fields.update(_json_fields(settings.access_log_format, tcp=tcp))
        return [_file(settings, SubstitutionFormatString(json_format=fields))]
    text = settings.access_log_format or TEXT_FORMAT
    return [_file(settings, _text(text if text.endswith("\n") else text + "\n"))]


def asked_logs(settings: MeshSettings, *, tcp: bool = False) -> list[AccessLog]:
    """A line for what an external authorizer denied. The default text has no room for the policy by which it was asked,
    and Envoy's details of such a denial do not name it."""
    if not settings.access_log or settings.access_log_json or settings.access_log_format:
        return []
    log = _file(settings, _text(_ASKED_FORMAT[tcp]))
    log.filter.CopyFrom(AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["UAEX"])))
    return [log]


def _file(settings: MeshSettings, format_: SubstitutionFormatString) -> AccessLog:
    config = FileAccessLog(path=settings.access_log, log_format=format_)
    return AccessLog(name="envoy.access_loggers.file", typed_config=pack(config))


def _text(line: str) -> SubstitutionFormatString:
    return SubstitutionFormatString(text_format_source=DataSource(inline_string=line))


def _json_fields(text: str, *, tcp: bool) -> dict[str, Any]:
    try:
        given = json.loads(text) if text else None
    except ValueError:
        given = None
    return given if isinstance(given, dict) else JSON_FIELDS | {"asked_policy": _ASKED[tcp]}
