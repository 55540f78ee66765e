"""Batches that streams share, so that five hundred clients with equal needs cost one serialisation.

Sharing is by identity of the resources, which tables share already. The invariant: a batch holds at most `LIMIT` bytes
of resources (unless one alone is larger) and, of ECDS, one resource.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from gossamer.core.resources import EXTENSION, Resource
from gossamer.xds.messages import Batch

LIMIT = 512 * 1024
"""Bytes of resources in one response. Bounds what one slow client pins, and lets a stream be cut into even writes."""
KEPT = 48 * 1024 * 1024
"""Bytes of encoded batches that are kept for the next stream that needs them."""


class Batches:
    """Makes batches; recent ones are found again. One per process, shared by its streams."""

    __slots__ = ("_kept", "_limit", "_size")

    def __init__(self, kept_bytes: int = KEPT) -> None:
        self._kept: OrderedDict[tuple[int, ...], Batch] = OrderedDict()
        self._limit = kept_bytes
        self._size = 0

    def split(self, type_url: str, resources: Sequence[Resource], removed: Sequence[str] = ()) -> list[Batch]:
        """`resources` and `removed` as batches, in order; at least one, which may be empty."""
        if not resources or removed:
            groups = list(_groups(type_url, resources)) or [()]
            return [Batch(type_url, group, tuple(removed) if i == 0 else ()) for i, group in enumerate(groups)]
        return [self._shared(type_url, group) for group in _groups(type_url, resources)]

    def _shared(self, type_url: str, resources: tuple[Resource, ...]) -> Batch:
        # Identities are safe keys: a batch keeps its resources alive, and one that is dropped takes its key along.
        key = tuple(map(id, resources))
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        batch = self._kept[key] = Batch(type_url, resources)
        self._size += _cost(batch)
        while self._size > self._limit and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= _cost(dropped)
            dropped.forget_encoded()
        return batch


def _cost(batch: Batch) -> int:
    return sum(len(resource.body) + 200 for resource in batch.resources)


def _groups(type_url: str, resources: Sequence[Resource]) -> Iterator[tuple[Resource, ...]]:
    if type_url == EXTENSION:
        # A response with several slots that is rejected is partly applied all the same (measured).
        yield from ((resource,) for resource in resources)
        return
    start, size = 0, 0
    for index, resource in enumerate(resources):
        size += len(resource.body)
        if size > LIMIT and index > start:
            yield tuple(resources[start:index])
            start, size = index, len(resource.body)
    if start < len(resources):
        yield tuple(resources[start:])
