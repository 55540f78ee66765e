"""What an Envoy's access log entry says about who asked what, and what was decided.

Invariant: of what a caller chooses, only method and path are kept, in bounded spellings; who it is comes from its
certificate, which port from the listener, and who decided from Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from envoy.config.core.v3.base_pb2 import RequestMethod
from envoy.data.accesslog.v3.accesslog_pb2 import (
    AccessLogCommon,
    AccessLogType,
    HTTPAccessLogEntry,
    ResponseFlags,
)
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.struct_pb2 import Struct

from gossamer.compile.seen_names import REFUSED, ROUTED
from gossamer.sources.path_classes import spelt
from gossamer.sources.seen import ANONYMOUS, OUTSIDE, PLAINTEXT, Group, Verdict

_HTTP_RBAC: Final = "envoy.filters.http.rbac"
_TCP_RBAC: Final = "envoy.filters.network.rbac"
_DENIED: Final = re.compile(r"rbac_access_denied_matched_policy\[(.+)\]$", re.DOTALL)
_TOKEN: Final = re.compile(r"jwt_authn_access_denied\{(.+)\}$", re.DOTALL)
_ASKED: Final = "ext_authz_denied"
_UNASKED: Final = "ext_authz_error"
_PORT: Final = re.compile(r"inbound\|(\d+)\|")
_OTHER: Final = "OTHER"
_METHODS: Final = {number: name for name, number in RequestMethod.items() if number}
_KNOWN: Final = 4096
_SHORT: Final = 256


class Entry(NamedTuple):
    """One entry as `Observed.add` takes it."""

    group: Group
    path: str
    at: float
    lasts: bool = False


class Reader:
    """How the entries of one Envoy are read. `ports` maps a port that it is bound to, to the workload's; at a `gateway`
    callers without an identity are from outside, and their addresses nobody's business here."""

    __slots__ = ("_gateway", "_known", "_ports")

    def __init__(self, ports: Mapping[int, int] | None = None, *, gateway: bool = False) -> None:
        self._ports = ports if ports is not None else {}
        self._gateway = gateway
        self._known: dict[tuple[object, ...], tuple[Group, str]] = {}
        """What entries that are alike were read as: most are like one before, and reading takes its time."""

    def entries(self, message: StreamAccessLogsMessage, log: str) -> Iterator[Entry]:
        """What a message of the stream for `log` tells."""
        for request in message.http_logs.log_entry:
            yield self._request(request, log)
        for connection in message.tcp_logs.log_entry:
            yield self._connection(connection.common_properties, log)

    def _request(self, entry: HTTPAccessLogEntry, log: str) -> Entry:
        common, request, details = entry.common_properties, entry.request, entry.response.response_code_details
        decided = common.metadata.filter_metadata
        rbac = decided.get(_HTTP_RBAC)
        path = request.original_path if log == ROUTED and request.original_path else request.path
        caller, port = self._caller(common), self._port(common)
        said = rbac.SerializeToString(deterministic=True) if rbac is not None else b""
        lost = common.response_flags.no_route_found
        key = (caller, port, request.request_method, path, details, said, lost)
        known = self._known.get(key)
        if known is None:
            verdict, by = _verdict(details, rbac)
            would = _would(verdict, by, rbac)
            if verdict is Verdict.ALLOWED and lost:
                verdict = Verdict.UNROUTED
            method = _METHODS.get(request.request_method, _OTHER)
            known = Group(caller, port, "http", method, str(verdict), by, would), spelt(path)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            if len(path) <= _SHORT:
                self._known[key] = known
        return Entry(*known, _at(common))

    def _connection(self, common: AccessLogCommon, log: str) -> Entry:
        caller, port = self._caller(common), self._port(common)
        if log == REFUSED:
            refused = Group(caller, port, "tcp", "", str(Verdict.REFUSED), "no filter chain", "")
            return Entry(refused, "", _at(common))
        decided = common.metadata.filter_metadata
        rbac = decided.get(_TCP_RBAC)
        flags = common.response_flags.unauthorized_details
        asked = flags.reason == ResponseFlags.Unauthorized.Reason.EXTERNAL_SERVICE
        verdict, by = _verdict(_ASKED if asked else common.connection_termination_details, rbac)
        lasts = common.access_log_type == AccessLogType.TcpPeriodic
        group = Group(caller, port, "tcp", "", str(verdict), by, _would(verdict, by, rbac))
        return Entry(group, "", _at(common), lasts)

    def _caller(self, common: AccessLogCommon) -> str:
        tls = common.HasField("tls_properties")
        if tls:
            for name in common.tls_properties.peer_certificate_properties.subject_alt_name:
                if name.uri.startswith("spiffe://"):
                    return name.uri
        if self._gateway:
            return OUTSIDE
        address = common.downstream_direct_remote_address.socket_address.address
        return f"{ANONYMOUS if tls else PLAINTEXT}{address}"

    def _port(self, common: AccessLogCommon) -> int:
        if found := _PORT.match(common.upstream_cluster):
            return int(found[1])
        bound = common.downstream_local_address.socket_address.port_value
        return self._ports.get(bound, bound)


def _verdict(details: str, rbac: Struct | None) -> tuple[Verdict, str]:
    """What was decided, and by which policy; an ALLOW names the one that matched, if any was needed."""
    if found := _DENIED.match(details):
        return Verdict.DENIED, found[1]
    if found := _TOKEN.match(details):
        return Verdict.DENIED, f"token: {found[1].replace('_', ' ')}"
    if details.startswith((_ASKED, _UNASKED)):
        asked = _text(rbac, "istio_ext_authz_shadow_effective_policy_id") or "an authorizer"
        return Verdict.DENIED, f"{asked} (did not answer)" if details.startswith(_UNASKED) else asked
    if _text(rbac, "enforced_engine_result") == "allowed":
        return Verdict.ALLOWED, _text(rbac, "enforced_effective_policy_id")
    return Verdict.ALLOWED, ""


def _would(verdict: Verdict, by: str, rbac: Struct | None) -> str:
    """What policies in a dry run would have done otherwise. One more ALLOW narrows nothing where another one let the
    call in; it opens where none did."""
    if rbac is None:
        return ""
    allowed = _text(rbac, "istio_dry_run_allow_shadow_engine_result")
    if verdict is Verdict.ALLOWED:
        if _text(rbac, "istio_dry_run_deny_shadow_engine_result") == "denied":
            return f"deny:{_text(rbac, 'istio_dry_run_deny_shadow_effective_policy_id')}"
        return "deny:none" if allowed == "denied" and not by else ""
    if by == "none" and allowed == "allowed":
        return f"allow:{_text(rbac, 'istio_dry_run_allow_shadow_effective_policy_id')}"
    return ""


def _text(metadata: Struct | None, key: str) -> str:
    if metadata is None or key not in metadata.fields:
        return ""
    return metadata.fields[key].string_value


def _at(common: AccessLogCommon) -> float:
    return common.start_time.seconds + common.start_time.nanos / 1e9
