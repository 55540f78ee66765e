"""What is wrong with security policies beside the rest of the configuration.

Invariant: no diagnostic here has a position; `source_index.placed` gives it the one that is known.
"""

from __future__ import annotations

from gossamer.api.authorization_policy import Action
from gossamer.api.config import Config
from gossamer.core.diagnostics import Diagnostics, diagnostic_about


def check_policies(config: Config) -> Diagnostics:
    """Policies with action CUSTOM whose provider MeshConfig does not have: they deny what their rules match."""
    known = {
        provider.name
        for provider in config.mesh.extension_providers
        if provider.envoy_ext_authz_grpc is not None or provider.envoy_ext_authz_http is not None
    }
    return tuple(
        diagnostic_about(
            resource.id,
            "bad-provider",
            "spec.provider.name",
            f"MeshConfig has no extension provider {provider.name} that can be asked to decide",
            "until it has one, this policy denies what its rules match",
        )
        for resource in config.authorization_policies
        if resource.spec.action is Action.CUSTOM
        and (provider := resource.spec.provider) is not None
        and provider.name not in known
    )
