"""What an application is told by its environment when traffic is not captured by the kernel.

Pure. Names of services follow Kubernetes' rule for container environment variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gossamer.model.proxy import Capture

_LOCAL: Final = "localhost,127.0.0.0/8,::1"


def explicit_environment(
    capture: Capture, ports: tuple[int, ...], services: Mapping[str, tuple[str, int]]
) -> dict[str, str]:
    """Variables of an application in explicit capture.

    HOST and PORT say where to listen, MESH_DNS where names are answered over DNS. `services` maps a short name to the
    address and port of its outbound listener.
    """
    address = capture.address
    proxy = f"http://{address}:{capture.http_proxy_port}"
    variables = {"HOST": address}
    if capture.dns_port:
        variables["MESH_DNS"] = f"{address}:{capture.dns_port}"
    if ports:
        variables["PORT"] = str(ports[0])
    for name in ("HTTP_PROXY", "http_proxy"):
        variables[name] = proxy
    for name in ("NO_PROXY", "no_proxy"):
        variables[name] = f"{_LOCAL},{address}"
    for service, (host, port) in services.items():
        prefix = re.sub(r"[^A-Z0-9]", "_", service.upper())
        variables[f"{prefix}_SERVICE_HOST"] = host
        variables[f"{prefix}_SERVICE_PORT"] = str(port)
    return variables


def short_name(hostname: str, namespace: str) -> str:
    """The name by which workloads of `namespace` know a Kubernetes service; empty for any other host."""
    parts = hostname.split(".")
    if len(parts) >= 3 and parts[1] == namespace and parts[2] == "svc":
        return parts[0]
    return ""
