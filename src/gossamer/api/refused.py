"""What Istio's API offers and Gossamer turns down for good, with the reason and with what does the job instead.

Whoever writes such a field is told so. In MeshConfig it is a warning, and the setting is left out, since refusing them
all would take away more than it keeps; anywhere else it is an error.

Invariant: nothing acts on a field with an entry here. A value that says what is so anyway is let pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a field is not acted on, and what to do instead; `same` are the values that change nothing."""

    why: str
    instead: str = ""
    same: tuple[Any, ...] = ()


_BOOTSTRAP: Final = Refusal(
    why="a proxy's bootstrap is made by its agent, which reads no file of the proxy's host for it",
    instead="an EnvoyFilter with applyTo: BOOTSTRAP changes it",
)

REFUSED: Final[Mapping[str, Mapping[str, Refusal]]] = {
    "MeshConfig": {
        "configSources": Refusal(
            why="a MeshConfig is itself a part of the configuration, and does not say where the rest comes from",
            instead="name files and folders under `config` in gossamer.yaml, or with --config",
        ),
        "certificates": Refusal(
            why="Istio deprecates it: it makes certificates for Kubernetes' own webhooks",
            instead="a Secret holds a certificate for a gateway",
        ),
        "ca": Refusal(
            why="the mesh's own authority signs every certificate; a remote one could name any workload of the mesh",
            instead="the control plane's --ca names a folder with an intermediate certificate of yours to sign with",
        ),
        "extensionProviders[].sds": Refusal(
            why="keys reach a proxy from its own agent alone: no other server is asked for them",
            instead="a Secret document, or files of the gateway's host, hold a gateway's keys",
        ),
        "defaultConfig.interceptionMode=TPROXY": Refusal(
            why="Envoy would have to bind its callers' addresses, which an agent without privileges cannot",
            instead="who calls is told by X-Forwarded-For and X-Forwarded-Client-Cert",
        ),
        "defaultConfig.customConfigFile": _BOOTSTRAP,
        "defaultConfig.proxyBootstrapTemplatePath": _BOOTSTRAP,
        "defaultConfig.privateKeyProvider": Refusal(
            why="Envoy as it is released has neither provider: both are among its contributed extensions",
            instead="keys are used by Envoy itself",
        ),
    },
}
"""By kind (`Kind.identity`) and pattern, as in `unsupported`."""
