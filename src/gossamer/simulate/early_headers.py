"""What a connection manager does to headers before it routes a request.

Invariant: what is written of the client is what its handshake has shown, and nothing else.
"""

from __future__ import annotations

from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import HeaderMutation

from gossamer.simulate.connection import Connection
from gossamer.simulate.decode import unpack
from gossamer.simulate.headers import Headers
from gossamer.simulate.notes import NotSimulatedError

_PEER: Final = "%DOWNSTREAM_PEER_URI_SAN%"


def mutate_early(headers: Headers, message: HttpConnectionManager, connection: Connection) -> None:
    """Apply the mutations in their order."""
    for extension in message.early_header_mutation_extensions:
        config = unpack(extension.typed_config)
        if not isinstance(config, HeaderMutation):
            raise NotSimulatedError(f"the early header mutation {extension.name}")
        for mutation in config.mutations:
            if mutation.remove:
                headers.remove(mutation.remove)
            else:
                _write(headers, mutation.append, connection)


def _write(headers: Headers, option: HeaderValueOption, connection: Connection) -> None:
    value = option.header.value
    if value == _PEER:
        value = ",".join(connection.peer.uris) if connection.peer is not None else ""
    elif "%" in value or option.append_action != HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD:
        raise NotSimulatedError(f"the early header {option.header.key}")
    if value:
        headers.set(option.header.key, value)
