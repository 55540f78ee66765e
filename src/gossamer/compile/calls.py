"""One way to call a service: a port, in a subset or not, with all that was said about it looked up once.

Invariant: nothing here is Envoy's yet, and whoever spells it for Envoy looks nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gossamer.api.destination_rule import (
    ConnectionPoolSettings,
    H2UpgradePolicy,
    HTTPSettings,
    OutlierDetection,
    TrafficPolicy,
)
from gossamer.model.destinations import Subset
from gossamer.model.nearness import Nearness
from gossamer.model.places import nearness_on
from gossamer.model.service import Port
from gossamer.model.settings import MeshSettings
from gossamer.model.view import OutboundService


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What becomes one cluster. `http2`: its HTTP is HTTP/2 whatever the caller speaks, because the port's protocol
    says so or because it is to be upgraded."""

    outbound: OutboundService
    port: Port
    subset: Subset | None
    policy: TrafficPolicy
    pool: ConnectionPoolSettings | None
    detection: OutlierDetection | None
    nearness: Nearness | None
    http2: bool = False

    @property
    def http(self) -> HTTPSettings:
        return (self.pool.http if self.pool else None) or HTTPSettings()


def build_call(outbound: OutboundService, port: Port, subset: Subset | None, settings: MeshSettings) -> Call:
    """The call, the mesh's defaults filled in where no DestinationRule says anything."""
    policy = outbound.destination.on(port.number, subset)
    if policy.tls is not None and (tls := settings.tls.of_client(policy.tls)) is not policy.tls:
        policy = replace(policy, tls=tls)
    pool = policy.connection_pool or settings.default_pool
    return Call(
        outbound=outbound,
        port=port,
        subset=subset,
        policy=policy,
        pool=pool,
        detection=policy.outlier_detection or settings.default_outlier_detection,
        nearness=nearness_on(outbound, port.number, subset, settings),
        http2=_http2(port, (pool.http if pool else None) or HTTPSettings(), settings),
    )


def _http2(port: Port, http: HTTPSettings, settings: MeshSettings) -> bool:
    """`useClientProtocol` makes an upgrade ineffective, as it is documented."""
    if http.use_client_protocol:
        return False
    asked = http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE
    upgraded = asked or (settings.upgrade_to_http2 and http.h2_upgrade_policy is H2UpgradePolicy.DEFAULT)
    return port.protocol.is_http2 or upgraded
