"""Batches that streams share, so that five hundred clients with equal needs cost one serialisation.

Sharing is by identity of the resources, which tables share already. The invariant: a batch holds at most `LIMIT` bytes
of resources (unless one alone is larger) and, of ECDS, one resource.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from gossamer.core.resources import EXTENSION, Resource, Table
from gossamer.xds.messages import Batch

LIMIT = 1024 * 1024
"""Bytes of resources in one response. Bounds what one slow client pins, and lets a stream be cut into even writes."""
KEPT = 48 * 1024 * 1024
"""Bytes of encoded batches that are kept for the next stream that needs them."""
WHOLES = 32
"""Complete first answers that are remembered: one for each set of tables among proxies that connect at about once."""
INTERNED = 64
"""Sets of subscribed names that are remembered."""

Goal = tuple[Table, ...]
Pick = Callable[[Goal, str], Resource | None]
"""What a name stands for in tables; a plain function, the same one each time."""
_WholeKey = tuple[str, Goal, frozenset[str] | None, Pick]


class Batches:
    """Makes batches; recent ones are found again. One per process, shared by its streams."""

    __slots__ = ("_kept", "_limit", "_names", "_size", "_whole")

    def __init__(self, kept_bytes: int = KEPT) -> None:
        self._kept: OrderedDict[tuple[int, ...], Batch] = OrderedDict()
        self._whole: OrderedDict[_WholeKey, list[tuple[Resource, ...]]] = OrderedDict()
        self._names: OrderedDict[frozenset[str], frozenset[str]] = OrderedDict()
        self._limit = kept_bytes
        self._size = 0

    def whole(self, type_url: str, goal: Goal, names: frozenset[str] | None, pick: Pick) -> list[Batch]:
        """Everything in `goal` (None) or what `pick` gives for `names`, for clients that hold nothing yet."""
        key = (type_url, goal, names, pick)
        found = self._whole.get(key)
        if found is None:
            if names is None:
                resources = [resource for table in goal for resource in table.values()]
            else:
                resources = [resource for name in sorted(names) if (resource := pick(goal, name)) is not None]
            found = self._whole[key] = list(_groups(type_url, resources))
            if len(self._whole) > WHOLES:
                self._whole.popitem(last=False)
        return [self._shared(type_url, group) for group in found]

    def intern(self, names: frozenset[str]) -> frozenset[str]:
        """An equal set, the same one for all who ask: proxies with equal tables subscribe to equal names."""
        found = self._names.setdefault(names, names)
        self._names.move_to_end(found)
        if len(self._names) > INTERNED:
            self._names.popitem(last=False)
        return found

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
