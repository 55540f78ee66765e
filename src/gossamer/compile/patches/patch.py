"""One patch, ready to be applied: its value decoded, its match flattened to what is asked of each kind of object.

Invariant: a field of a match that is not set asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message

from gossamer.api.envoy_filter import (
    ApplyTo,
    ClusterMatch,
    EnvoyConfigObjectMatch,
    FilterChainMatch,
    FilterClass,
    ListenerMatch,
    Operation,
    PatchContext,
    RouteConfigurationMatch,
)
from gossamer.compile.patches.bootstrap import BootstrapPatch
from gossamer.compile.patches.merge import merge, names_in
from gossamer.compile.patches.value import MESSAGES, NotThat, build_value
from gossamer.core.frozen import FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.core.resources import CLUSTER, EXTENSION, ROUTE, Reference
from gossamer.model.patches import SelectedPatch

MERGES: Final = frozenset({Operation.MERGE, Operation.MERGE_AND_REPLACE_LIST})
INSERTS: Final = frozenset({Operation.INSERT_FIRST, Operation.INSERT_BEFORE, Operation.INSERT_AFTER})
_LONGEST_NAME: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place(Value):
    """Where the objects of a table stand: on a gateway, and which ports mean the same as a port that is bound there
    (a service's for its workload's, a Gateway server's for the one that is opened)."""

    gateway: bool = False
    ports: FrozenMap[int, tuple[int, ...]] = field(default_factory=FrozenMap)

    def is_port(self, bound: int, wanted: int) -> bool:
        """Whether an object bound to one port is meant by the other; 0 means every."""
        return wanted in (0, bound) or wanted in self.ports.get(bound, ())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """A patch: compared by identity, so that applying it can be memoised. `value` is never changed."""

    apply_to: ApplyTo
    operation: Operation
    context: PatchContext
    listener: ListenerMatch
    routes: RouteConfigurationMatch
    cluster: ClusterMatch
    filter_class: FilterClass
    value: Message
    origin: Origin
    references: frozenset[Reference]

    @property
    def chain(self) -> FilterChainMatch:
        return self.listener.filter_chain or FilterChainMatch()

    def is_for(self, context: PatchContext) -> bool:
        return self.context in (PatchContext.ANY, context)

    def merged_into(self, message: Message) -> None:
        """Lay the value over a message of its type."""
        merge(message, self.value, replace_lists=self.operation is Operation.MERGE_AND_REPLACE_LIST)


def compile_patch(selected: SelectedPatch) -> Patch | None:
    """The patch; None for one that says nothing, or whose value is not what it should be (`check` says so)."""
    spec, patch = selected.spec, selected.spec.patch
    if patch is None or spec.apply_to.value not in MESSAGES:
        return None
    match = spec.match or EnvoyConfigObjectMatch()
    value = build_value(spec.apply_to.value, patch.value or "{}")
    if isinstance(value, NotThat):
        return None
    return Patch(
        apply_to=spec.apply_to,
        operation=patch.operation,
        context=match.context,
        listener=match.listener or ListenerMatch(),
        routes=match.route_configuration or RouteConfigurationMatch(),
        cluster=match.cluster or ClusterMatch(),
        filter_class=patch.filter_class,
        value=value,
        origin=selected.origin,
        references=_references(value),
    )


def _references(value: Message) -> frozenset[Reference]:
    """What a value may name. Whatever it names that is not there is waited for by nobody."""
    names = {name for name in names_in(value) if len(name) < _LONGEST_NAME and not any(map(str.isspace, name))}
    return frozenset(Reference(type_url=kind, name=name) for name in names for kind in (CLUSTER, ROUTE, EXTENSION))


def bootstrap_patches(selected: Iterable[SelectedPatch]) -> tuple[BootstrapPatch, ...]:
    """The patches of a bootstrap; MERGE is all that it knows."""
    patches = (one.spec.patch for one in selected)
    return tuple(
        BootstrapPatch(value=one.value, replace_lists=one.operation is Operation.MERGE_AND_REPLACE_LIST)
        for one in patches
        if one is not None and one.value is not None and one.operation in MERGES
    )
