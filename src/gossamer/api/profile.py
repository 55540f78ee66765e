"""Profiles: configuration that lies under what users write, as documents like theirs.

Invariant: nothing but these documents makes a profile. Whatever a user writes of the same kind, namespace and name
stands in the place of the profile's, and where two resources conflict the user's is the older one.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from gossamer.api.rules.common import written
from gossamer.core.frozen import FrozenMap


class Profile(StrEnum):
    NONE = ""
    NIST = "nist"
    """What NIST SP 800-204A and 204B recommend: `docs/security.md` goes through it control by control."""


_LAST: Final = '"9999-12-31T23:59:59Z"'
"""A time of creation after every user's: of two that speak for the same, the older counts."""

_NIST: Final = f"""\
# profile nist: both ends of every connection prove who they are
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: nist-mutual-tls, namespace: ROOT, creationTimestamp: {_LAST}}}
spec:
  mtls: {{mode: STRICT}}
---
# profile nist: what no policy allows is denied
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: nist-deny-by-default, namespace: ROOT, creationTimestamp: {_LAST}}}
spec: {{}}
---
# profile nist: beside the caller's certificate, a verified token of the user for whom it calls. Who writes a policy of
# this name says what may do without: by notPrincipals, notPaths, notHosts or notPorts. TCP carries no token.
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: nist-end-user, namespace: ROOT, creationTimestamp: {_LAST}}}
spec:
  action: DENY
  rules:
  - from:
    - source: {{notRequestPrincipals: ["*"]}}
---
# profile nist: a workload calls its own namespace, unless a Sidecar of its namespace names others
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: nist-own-namespace, namespace: ROOT, creationTimestamp: {_LAST}}}
spec:
  egress:
  - hosts: ["./*"]
"""
_DOCUMENTS: Final = {Profile.NONE: "", Profile.NIST: _NIST}

_MESH: Final[dict[Profile, dict[str, Any]]] = {
    Profile.NONE: {},
    Profile.NIST: {
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        "pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"},
        "meshMTLS": {"minProtocolVersion": "TLSV1_3"},
        "accessLogFile": "/dev/stdout",
    },
}
_LIFETIMES: Final = {Profile.NONE: timedelta(hours=24), Profile.NIST: timedelta(hours=1)}


def profile_name(profile: Profile) -> str:
    """What stands for a file's name where a profile's documents are named."""
    return f"profile {profile.value}"


def profile_text(profile: Profile, root_namespace: str) -> str:
    """The documents of a profile for a mesh with this root namespace; empty for none."""
    return _DOCUMENTS[profile].replace("ROOT", root_namespace)


def profile_texts(profile: Profile, root_namespace: str) -> FrozenMap[str, str]:
    """The same by the name that stands for a file's."""
    text = profile_text(profile, root_namespace)
    return FrozenMap({profile_name(profile): text} if text else {})


def profile_lifetime(profile: Profile) -> timedelta:
    """How long certificates of workloads are valid, unless something else is asked for."""
    return _LIFETIMES[profile]


def lay_mesh_under(value: Any, profile: Profile) -> Any:
    """A MeshConfig as it was written, with what the profile says wherever it says nothing."""
    return _laid_under(value, _MESH[profile])


def _laid_under(value: Any, under: dict[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for name, default in under.items():
        given = written(value, name)
        if given is None:
            found[name] = default
        elif isinstance(default, dict):
            spelt = name if name in value else next(key for key in value if written({key: 0}, name) is not None)
            found[spelt] = _laid_under(given, default)
    return found
