"""The HTTP proxy of a workload whose traffic nobody redirects, and where it looks up hosts that nobody declared.

Invariant: the proxy serves plain HTTP. A client that asks it for a tunnel (CONNECT) is refused: what went through it
would be neither routed nor seen.
"""

from __future__ import annotations

from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from gossamer.compile.draft import Draft, pack, references
from gossamer.compile.dynamic_dns import forward_proxy, http_lookup
from gossamer.compile.hcm import Direction, connection_manager
from gossamer.compile.names import FORWARD_PROXY
from gossamer.compile.streams import socket
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE
from gossamer.model.explicit import PROXY_TABLE
from gossamer.model.proxy import Capture, CaptureMode
from gossamer.model.settings import MeshSettings, Unknown


def http_proxy(capture: Capture, settings: MeshSettings) -> tuple[Draft, ...]:
    """The HTTP proxy's listener, and the cluster of hosts that it looks up."""
    name = f"{capture.address}_{capture.http_proxy_port}"
    listener = Listener(
        name=name,
        address=socket(capture.address, capture.http_proxy_port, capture.network_namespace),
        traffic_direction=OUTBOUND,
        filter_chains=[FilterChain(name=PROXY_TABLE, filters=[_manager(name, capture, settings)])],
    )
    named = references(ROUTE, [PROXY_TABLE]) | references(CLUSTER, [FORWARD_PROXY])
    draft = Draft(type_url=LISTENER, name=name, message=listener, references=named)
    declared = settings.outbound.unknown is Unknown.ALLOW_ANY_DYNAMIC_DNS  # then every sidecar has that cluster
    return (draft,) if declared else (forward_proxy(settings), draft)


def _manager(name: str, capture: Capture, settings: MeshSettings) -> Filter:
    """A connection manager that looks up the hosts of routes to the forward proxy's cluster. An application that nobody
    redirects has the host's own loopback anyway."""
    made = connection_manager(Direction.OUTBOUND, f"outbound_{name}", PROXY_TABLE, settings)
    manager = HttpConnectionManager.FromString(made.typed_config.value)
    guarded = {found.name for found in http_lookup(guarded=True)}
    *others, router = [found for found in manager.http_filters if found.name not in guarded]
    del manager.http_filters[:]
    manager.http_filters.extend([*others, *http_lookup(guarded=capture.mode is CaptureMode.TRANSPARENT), router])
    return Filter(name=made.name, typed_config=pack(manager))
