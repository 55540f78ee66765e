"""What Istio's API offers and has no meaning here, with the reason: there is nothing that it could change.

Invariant: a field with an entry here does nothing, and whoever writes it is told why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_STARTS_ENVOY: Final = "it says how Istio's agent starts a proxy; here the agent decides that itself"

NO_EFFECT: Final[Mapping[str, Mapping[str, str]]] = {
    "WorkloadGroup": {
        "metadata.annotations": "a registered workload has none",
    },
    "ProxyConfig": {
        "image": "it chooses a container's image; here proxies are the Envoy that is installed",
    },
    "Gateway.gateway.networking.k8s.io": {
        "infrastructure": "it is about what a controller makes in Kubernetes for a Gateway",
    },
    "GatewayClass": {
        "description": "it is for people to read",
        "parametersRef": "a gateway's settings are in the mesh file and in MeshConfig",
    },
    "MeshConfig": {
        "ingressService": "it says whose address Kubernetes writes into an Ingress's status",
        "enableTracing": "Istio deprecates it; tracing is a matter of Telemetry",
        "enablePrometheusMerge": "the application's own metrics are scraped from the application",
        "disableEnvoyListenerLog": "listeners write no log of connections that no filter chain takes",
        "hboneIdleTimeout": "HBONE is ambient's, and there are no ambient proxies",
        "serviceScopeConfigs": "it is about ambient meshes of several clusters, and there are no ambient proxies",
        "caCertificates[].certSigners": "it names Kubernetes' signers, and none of them signs for the mesh",
        "defaultConfig.sds": "Istio deprecates it: keys and certificates always come over SDS, from the agent",
        "defaultConfig.statsCompression": "a proxy tells its statistics to its own agent alone, over a UNIX socket",
        "defaultConfig.proxyStatsMatcher": "no statistic is left out here",
        "defaultConfig.proxyHeaders.metadataExchangeHeaders": "peers know one another by certificates alone",
        **{
            f"defaultConfig.{name}": _STARTS_ENVOY
            for name in (
                "configPath", "binaryPath", "serviceCluster", "discoveryAddress", "discoveryRefreshDelay",
                "proxyAdminPort", "controlPlaneAuthPolicy", "statNameLength", "statusPort", "meshId",
                "availabilityZone", "tracingServiceName", "holdApplicationUntilProxyStarts", "image",
            )
        },
    },
}  # fmt: skip
"""By kind (`Kind.identity`) and path from the spec: why."""
