"""What of ProxyConfig and MeshConfig's `defaultConfig` is not acted on, and why.

Invariant: a diagnostic here has no position: whoever knows the source gives it one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from gossamer.api.config import Config
from gossamer.core.diagnostics import Diagnostic, Diagnostics, diagnostic_about
from gossamer.core.ids import ResourceId
from gossamer.model.settings import TELL_DENIALS
from gossamer.model.started import may_be_set

_MESH = ResourceId(kind="MeshConfig")


def check_proxies(config: Config) -> Diagnostics:
    """What is wrong with how proxies are to be started."""
    return tuple(_findings(config))


def _findings(config: Config) -> Iterator[Diagnostic]:
    default = config.mesh.default_config
    if default is not None:
        yield from _variables(
            _MESH, "defaultConfig.proxyMetadata", (name for name in default.proxy_metadata if name != TELL_DENIALS)
        )
        if default.proxy_metadata.get(TELL_DENIALS, "false") not in ("true", "false"):
            message = "write true or false; as it is, whoever is denied is not told why"
            yield diagnostic_about(_MESH, "invalid-value", f"defaultConfig.proxyMetadata.{TELL_DENIALS}", message)
        if default.statsd_udp_address and not _is_place(default.statsd_udp_address):
            message = "statistics go to no name: Envoy takes IP:PORT, such as 10.0.0.1:8125; nothing is sent"
            yield _unsupported(_MESH, "defaultConfig.statsdUdpAddress", message)
    for resource in config.proxy_configs:
        yield from _variables(resource.id, "spec.environmentVariables", resource.spec.environment_variables)
        if resource.spec.image is not None:
            message = "there are no container images here: an agent starts the Envoy that is installed with it"
            yield _unsupported(resource.id, "spec.image", message)


def _variables(resource: ResourceId, path: str, names: Iterable[str]) -> Iterator[Diagnostic]:
    for name in names:
        if not may_be_set(name):
            message = (
                f"Envoy is not started with {name}: what changes which code a process of the host loads is not set"
            )
            yield _unsupported(resource, f"{path}.{name}", message)


def _is_place(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return port.isdecimal()


def _unsupported(resource: ResourceId, path: str, message: str) -> Diagnostic:
    return diagnostic_about(resource, "unsupported-field", path, message)
