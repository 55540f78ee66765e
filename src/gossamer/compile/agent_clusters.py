"""The two clusters of every bootstrap: how an Envoy's configuration and its secrets are asked of the agent.

Invariant: they are static, and no compiled cluster has their names. Alone here, so that an agent, which writes
bootstraps, needs nothing of what compiles the rest.
"""

from __future__ import annotations

from typing import Final

XDS_CLUSTER: Final = "xds-grpc"
SDS_CLUSTER: Final = "sds-grpc"
TRUST_ANCHORS: Final = "ROOTCA-anchors"
"""The secret by which agents are told of anchors of trust beside the mesh's own roots."""
FOREIGN_ANCHORS: Final = "ROOTCA-foreign"
"""The secret by which agents are told of the roots of foreign trust domains, for which the mesh's own do not count."""
SPIFFE_VALIDATOR: Final = "envoy.tls.cert_validator.spiffe"
