"""`defaultConfig.connectionSettings`, once what its profile recommends stands in for what it leaves open."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from gossamer.api.proxy_config import (
    ConnectionSettings,
    HeadersWithUnderscoresAction,
    PathWithEscapedSlashesAction,
    Profile,
)

_EDGE: Final = ConnectionSettings(
    listener_per_connection_buffer_limit_bytes=32 * 1024,
    cluster_per_connection_buffer_limit_bytes=32 * 1024,
    http_idle_timeout=timedelta(hours=1),
    http_request_timeout=timedelta(minutes=5),
    http_stream_idle_timeout=timedelta(minutes=5),
    http_max_concurrent_streams=100,
    http2_initial_stream_window_size=64 * 1024,
    http2_initial_connection_window_size=1024 * 1024,
    http_headers_with_underscores_action=HeadersWithUnderscoresAction.HEADERS_WITH_UNDERSCORES_REJECT_REQUEST,
    http_merge_slashes=True,
    http_path_with_escaped_slashes_action=PathWithEscapedSlashesAction.UNESCAPE_AND_REDIRECT,
)
"""What Envoy's documentation recommends for proxies at the edge; `profile: EDGE` starts from there."""


def connection_settings(given: ConnectionSettings | None) -> ConnectionSettings | None:
    """The settings with what their profile recommends in place of what they leave open."""
    if given is None or given.profile is not Profile.EDGE:
        return given
    unset = ConnectionSettings()
    said = {name: getattr(given, name) for name in ConnectionSettings.__slots__}
    return replace(_EDGE, **{name: value for name, value in said.items() if value != getattr(unset, name)})
