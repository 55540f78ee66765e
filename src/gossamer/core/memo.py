"""Memory for pure functions: the same frozen arguments give the same object back.

A `Memo` lives as long as its owner (one control plane, one command). Entries that a whole generation did not ask for
are dropped, so memory follows the configuration and no key is ever kept or invalidated by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class Memo:
    """Results of pure functions, by function and arguments. `enabled=False` computes everything anew."""

    __slots__ = ("_current", "_previous", "enabled", "hits", "misses")

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._current: dict[Hashable, object] = {}
        self._previous: dict[Hashable, object] = {}
        self.hits = 0
        self.misses = 0

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`function(*args, **kwargs)`, computed once per distinct (hashable) arguments."""
        if not self.enabled:
            return function(*args, **kwargs)
        key = (function, args, tuple(sorted(kwargs.items()))) if kwargs else (function, args)
        try:
            found = self._current[key]
        except KeyError:
            pass
        else:
            self.hits += 1
            return cast(R, found)
        if key in self._previous:
            self.hits += 1
            result = cast(R, self._previous[key])
        else:
            self.misses += 1
            result = function(*args, **kwargs)
        self._current[key] = result
        return result

    def next_generation(self) -> None:
        """Forget what was not asked for since the generation before; call once after each complete build."""
        self._previous, self._current = self._current, {}
