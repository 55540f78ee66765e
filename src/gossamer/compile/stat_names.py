"""Under which name Envoy counts what it passes to a service, or to its own application: MeshConfig's
`outboundClusterStatName` and `inboundClusterStatName`.

Invariant: without a pattern nothing is named, and Envoy counts under the cluster's own name.
"""

from __future__ import annotations

import re
from typing import Final

from gossamer.model.names import split_service
from gossamer.model.service import Port
from gossamer.model.settings import MeshSettings
from gossamer.model.view import InboundPort, Target

_VARIABLE: Final = re.compile(r"%[A-Z_]+%")


def outbound_stat_name(host: str, port: Port, subset: str, settings: MeshSettings) -> str:
    """The name for calls to a port (of a subset) of a service; empty for the cluster's own."""
    pattern = settings.outbound_stat_name
    return _filled(pattern, host, port, subset, settings.domain) if pattern else ""


def target_stat_name(target: Target, settings: MeshSettings) -> str:
    """The same for what TCP connections are passed to."""
    port = target.declared
    return outbound_stat_name(target.host, port, target.subset, settings) if port is not None else ""


def inbound_stat_name(port: InboundPort, settings: MeshSettings) -> str:
    """The name for calls to a port of the workload's own; empty where no service leads there, and for the cluster's
    own."""
    pattern = settings.inbound_stat_name
    if not pattern or not port.services:
        return ""
    service, number = port.services[0]
    declared = service.port(number) or Port(number=number)
    own = Port(number=number, name=declared.name, target=port.number)
    return _filled(pattern, service.hostname, own, "", settings.domain)


def _filled(pattern: str, host: str, port: Port, subset: str, domain: str) -> str:
    known = split_service(host, domain)
    values = {
        "%SERVICE%": ".".join(known) if known else host,
        "%SERVICE_NAME%": known[0] if known else host,
        "%SERVICE_FQDN%": host,
        "%SERVICE_PORT%": str(port.number),
        "%SERVICE_PORT_NAME%": port.name,
        "%TARGET_PORT%": str(port.target or port.number),
        "%SUBSET_NAME%": subset,
    }
    return _VARIABLE.sub(lambda found: values.get(found[0], found[0]), pattern)
