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
ALONE = 64 * 1024
"""Bytes of a resource from which on it travels alone, so that it is shared whatever else a proxy is told."""
APART = 32
"""Resources of a table from which on its batches hold nothing else, for the same reason."""
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
    """Makes batches; recent ones are found again. One per process, shared by its streams.

    With `kept_bytes` 0 nothing is kept: for who has one client alone.
    """

    __slots__ = ("_kept", "_limit", "_made", "_names", "_size", "_whole")

    def __init__(self, kept_bytes: int = KEPT) -> None:
        self._kept: OrderedDict[tuple[int, ...], Batch] = OrderedDict()
        self._whole: OrderedDict[_WholeKey, list[tuple[Resource, ...]]] = OrderedDict()
        self._names: OrderedDict[frozenset[str], frozenset[str]] = OrderedDict()
        self._limit = kept_bytes
        self._made = 0
        self._size = 0

    def whole(self, type_url: str, goal: Goal, names: frozenset[str] | None, pick: Pick) -> list[Batch]:
        """Everything in `goal` (None) or what `pick` gives for `names`, for clients that hold nothing yet."""
        if names is None and len(goal) > 1:
            parts = list(_apart(goal))
            if len(parts) > 1:
                return [batch for part in parts for batch in self.whole(type_url, part, None, pick)]
        key = (type_url, goal, names, pick)
        found = self._whole.get(key)
        if found is not None:
            self._whole.move_to_end(key)
        else:
            if names is None:
                resources = [resource for table in goal for resource in table.values()]
            else:
                resources = [resource for name in sorted(names) if (resource := pick(goal, name)) is not None]
            found = self._whole[key] = list(_groups(type_url, resources))
            if len(self._whole) > WHOLES or not self._limit:
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
            return [
                Batch(type_url, group, () if place else tuple(removed), self._nonce())
                for place, group in enumerate(groups)
            ]
        return [self._shared(type_url, group) for group in _groups(type_url, resources)]

    def _shared(self, type_url: str, resources: tuple[Resource, ...]) -> Batch:
        # Identities are safe keys: a batch keeps its resources alive, and one that is dropped takes its key along.
        key = tuple(map(id, resources))
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        batch = self._kept[key] = Batch(type_url, resources, nonce=self._nonce())
        self._size += _cost(batch)
        while self._size > self._limit and self._kept:
            _, dropped = self._kept.popitem(last=False)
            self._size -= _cost(dropped)
            dropped.forget_encoded()
        return batch

    def _nonce(self) -> str:
        self._made += 1
        return f"{self._made:x}"


def _apart(goal: Goal) -> Iterator[Goal]:
    """Tables in order: the large ones each by itself, those between them together."""
    small: list[Table] = []
    for table in goal:
        if len(table) < APART:
            small.append(table)
            continue
        if small:
            yield tuple(small)
            small = []
        yield (table,)
    if small:
        yield tuple(small)


def _cost(batch: Batch) -> int:
    return sum(len(resource.body) + 200 for resource in batch.resources)


def _groups(type_url: str, resources: Sequence[Resource]) -> Iterator[tuple[Resource, ...]]:
    if type_url == EXTENSION:
        # A response with several slots that is rejected is partly applied all the same (measured).
        yield from ((resource,) for resource in resources)
        return
    start, size = 0, 0
    for index, resource in enumerate(resources):
        length = len(resource.body)
        size += length
        if index > start and (size > LIMIT or length > ALONE or len(resources[index - 1].body) > ALONE):
            yield tuple(resources[start:index])
            start, size = index, length
    if start < len(resources):
        yield tuple(resources[start:])
