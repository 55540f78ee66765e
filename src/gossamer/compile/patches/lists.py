"""Operations on a list of named objects: filters, listener filters, routes.

Invariant: what ends a list (a router, a TCP proxy) goes on ending it, unless a patch names it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Any

from gossamer.api.envoy_filter import Operation
from gossamer.compile.patches.patch import MERGES, Patch

Place = tuple[int, int]
"""The first and the last of the objects that are meant."""


def edit(
    items: MutableSequence[Any],
    patch: Patch,
    chosen: Place | None,
    *,
    named: bool,
    end: int,
    merged: Callable[[Any], bool] | None = None,
) -> bool:
    """Apply a patch to a repeated field; returns whether anything changed.

    `chosen` is what the patch's match selects (None: nothing), `named` whether it selects by name at all, `end` where
    the list is added to. Rules are Istio's: without a name, INSERT_BEFORE is the front and INSERT_AFTER the end; with
    one that is not there, nothing happens. MERGE calls `merged` for each object meant, or for all without a name.
    """
    operation = patch.operation
    if operation in MERGES:
        first, last = chosen or ((0, -1) if named else (0, len(items) - 1))
        found = [(merged or _merge_with(patch))(item) for item in list(items)[first : last + 1]]
        return any(found)
    if operation is Operation.ADD:
        _insert(items, end, patch)
    elif named and chosen is None:
        return False
    elif operation is Operation.INSERT_FIRST:
        _insert(items, 0, patch)
    elif operation is Operation.INSERT_BEFORE:
        _insert(items, chosen[0] if chosen else 0, patch)
    elif operation is Operation.INSERT_AFTER:
        _insert(items, chosen[1] + 1 if chosen else end, patch)
    elif operation in (Operation.REMOVE, Operation.REPLACE) and chosen is not None:
        del items[chosen[0] : chosen[1] + 1]
        if operation is Operation.REPLACE:
            _insert(items, chosen[0], patch)
    else:
        return False
    return True


def _merge_with(patch: Patch) -> Callable[[Any], bool]:
    def merged(item: Any) -> bool:
        patch.merged_into(item)
        return True

    return merged


def _insert(items: MutableSequence[Any], at: int, patch: Patch) -> None:
    """Protobuf's repeated messages have `insert` and copy what they are given."""
    items.insert(at, patch.value)
