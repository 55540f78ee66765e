"""What one Envoy is told, as names, versions and bytes.

`compile` makes these values and `xds` carries them; between the two nothing knows what the bytes mean. A version is a
hash of content, so two replicas given the same input agree on every version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin

_PREFIX: Final = "type.googleapis.com/envoy."
CLUSTER: Final = _PREFIX + "config.cluster.v3.Cluster"
ENDPOINT: Final = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
LISTENER: Final = _PREFIX + "config.listener.v3.Listener"
ROUTE: Final = _PREFIX + "config.route.v3.RouteConfiguration"
EXTENSION: Final = _PREFIX + "config.core.v3.TypedExtensionConfig"
SECRET: Final = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
TYPES: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE, EXTENSION, SECRET)
"""Every type that travels, in the order in which additions are safe to send (make before break)."""


def version_of(content: bytes) -> str:
    """Version of serialised content: sha256 cut to 16 bytes, in hex."""
    return hashlib.sha256(content).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Reference:
    """Another resource that one resource names."""

    type_url: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Resource:
    """One resource, serialised.

    `body` is the protobuf wire form of `google.protobuf.Any` (type URL and value). `references` are the resources that
    its content names (a listener its routes, policies and clusters; a route its clusters; a cluster its endpoints);
    None means unknown: it may name anything. `origins` are the user resources to blame for it.
    """

    type_url: str
    name: str
    version: str
    body: bytes = field(repr=False)
    references: frozenset[Reference] | None = None
    origins: tuple[Origin, ...] = ()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Resource):
            return NotImplemented
        return (self.type_url, self.name, self.version) == (other.type_url, other.name, other.version)

    def __hash__(self) -> int:
        return hash((self.type_url, self.name, self.version))


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What has to be said to turn one table into another."""

    changed: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


class Table(Mapping[str, Resource]):
    """Resources of one type by name. Immutable; proxies with equal needs share one table as one object."""

    __slots__ = ("__weakref__", "_deltas", "_entries", "digest", "type_url")

    def __init__(self, type_url: str, resources: Iterable[Resource] = ()) -> None:
        self.type_url = type_url
        self._entries = {resource.name: resource for resource in resources}
        self.digest = version_of("\n".join(f"{r.name}\t{r.version}" for r in self._sorted()).encode())
        self._deltas: WeakKeyDictionary[Table, Delta] = WeakKeyDictionary()

    def _sorted(self) -> list[Resource]:
        return sorted(self._entries.values(), key=lambda resource: resource.name)

    def __getitem__(self, name: str) -> Resource:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash((self.type_url, self.digest))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Table) and (self.type_url, self.digest) == (other.type_url, other.digest)

    def delta_from(self, previous: Table) -> Delta:
        """What changed since `previous`, computed once for all who hold the same two tables."""
        if self is previous or self == previous:
            return Delta()
        known = self._deltas.get(previous)
        if known is None:
            before = previous._entries
            changed = tuple(r for name, r in self._entries.items() if before.get(name) != r)
            removed = tuple(name for name in before if name not in self._entries)
            known = self._deltas[previous] = Delta(changed=changed, removed=removed)
        return known

    def __repr__(self) -> str:
        return f"Table({self.type_url.rpartition('.')[2]}, {len(self)} resources, {self.digest[:8]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """All that one proxy is told: for each type a few tables with disjoint names, the shared ones first."""

    tables: FrozenMap[str, tuple[Table, ...]] = field(default_factory=FrozenMap)

    def of_type(self, type_url: str) -> tuple[Table, ...]:
        return self.tables.get(type_url, ())

    def get(self, type_url: str, name: str) -> Resource | None:
        """The resource of this name, or None."""
        return next((table[name] for table in self.of_type(type_url) if name in table), None)

    def all_of(self, type_url: str) -> Iterator[Resource]:
        for table in self.of_type(type_url):
            yield from table.values()
