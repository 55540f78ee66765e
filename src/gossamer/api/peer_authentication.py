"""PeerAuthentication: which mutual TLS a workload asks of its callers.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from gossamer.api.common import FROZEN, STRICT, UInt32Key, WorkloadSelector
from gossamer.core.frozen import EMPTY, FrozenMap


class MutualTLSMode(StrEnum):
    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAuthentication:
    """`PeerAuthentication`."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: Annotated[FrozenMap[UInt32Key, MutualTLS], FROZEN] = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class MutualTLS:
    """`PeerAuthentication.mtls`."""

    mode: MutualTLSMode = MutualTLSMode.UNSET
