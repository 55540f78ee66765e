"""Policies speak of a workload's ports; a connection may arrive on another one. Here is what stands for which.

Invariant: a policy's port means the same in every capture mode. Captured traffic (15006) still carries the port that
was dialled; a listener bound for other sidecars (`mesh_ports`) or for a gateway carries the port it is bound to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import CaptureMode, Proxy, ProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPorts:
    """Where one proxy's connections arrive.

    `bound` maps a port as policies name it to the port that is really bound for it; `captured` says whether traffic
    arrives with its original destination too, which then is one of `addresses`.
    """

    captured: bool = True
    bound: FrozenMap[int, int] = field(default_factory=FrozenMap)
    addresses: tuple[str, ...] = ()


def local_ports(proxy: Proxy) -> LocalPorts:
    """The ports of a proxy. Proxies that bind none of their own all get equal ones, and so share their policies."""
    if proxy.type is ProxyType.ROUTER:
        return LocalPorts(captured=False, bound=proxy.gateway_ports)
    capture = proxy.capture
    if not capture.mesh_ports:
        return LocalPorts(captured=True)
    captured = capture.mode is CaptureMode.TRANSPARENT
    return LocalPorts(captured=captured, bound=capture.mesh_ports, addresses=proxy.addresses)
