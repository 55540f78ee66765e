"""The envelope in which every kind comes: who it is, what is attached to it, and its spec.

Invariant: a resource is valid as it stands. What its author got wrong has become a Diagnostic, and, for a security
kind, a spec that denies (`fail_closed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import ResourceId

S_co = TypeVar("S_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource(Value, Generic[S_co]):
    """One resource of the configuration.

    `creation` is metadata.creationTimestamp as it was written (RFC 3339 in UTC sorts as text), empty when there is
    none: where two resources conflict the older wins, then the lesser `name.namespace`. `fail_closed` says that the
    author's spec was not valid and that this one denies in its stead.
    """

    id: ResourceId
    spec: S_co
    labels: FrozenMap[str, str] = EMPTY
    annotations: FrozenMap[str, str] = EMPTY
    creation: str = ""
    fail_closed: bool = False

    @property
    def namespace(self) -> str:
        return self.id.namespace

    @property
    def name(self) -> str:
        return self.id.name

    @property
    def age_key(self) -> tuple[str, str]:
        """Sorts by Istio's precedence: oldest first (those without a time before all), then by `name.namespace`."""
        return (self.creation, f"{self.id.name}.{self.id.namespace}")
