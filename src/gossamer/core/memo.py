"""Memory for pure functions: the same frozen arguments give the same object back.

A `Memo` lives as long as its owner (one control plane, one command). It knows which results went into which, so what
still stands under a live result is kept although nobody asks for it by itself, and all else goes: memory follows the
configuration, and no key is ever invalidated by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

_SWEEP_AFTER: Final = 64
"""Generations after which garbage is collected even when little was computed."""


class _Entry:
    """A result, the arguments that gave it, the entries that it was made of, and when it was last of use."""

    __slots__ = ("arguments", "asked", "children", "mark", "result", "used")

    def __init__(self, arguments: tuple[Any, ...], result: object, children: list[_Entry]) -> None:
        self.arguments = arguments
        self.result = result
        self.children = children
        self.used = 0
        self.asked = -2
        self.mark = 0


class Memo:
    """Results of pure functions, by function and arguments. `enabled=False` computes everything anew."""

    __slots__ = ("_entries", "_kept", "_limit", "_parent", "_swept", "enabled", "generation", "hits", "misses")

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.hits = 0
        self.misses = 0
        self.generation = 0
        self._entries: dict[Hashable, _Entry] = {}
        self._kept: dict[Hashable, list[_Entry]] = {}
        self._parent: list[_Entry] | None = None
        self._swept = 0
        self._limit = 4096

    def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`function(*args, **kwargs)`, computed once per distinct (hashable) arguments."""
        if not self.enabled:
            return function(*args, **kwargs)
        key = (function, args, tuple(sorted(kwargs.items()))) if kwargs else (function, args)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._computed(function, *args, **kwargs)
        else:
            self.hits += 1
        return cast(R, self._use(entry))

    def keep(self, key: Hashable, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`function(*args)` where the arguments are too large to hash: they are compared, identity first, with the few
        calls of `function` remembered under `key`, which only says where to look and is no argument. A result equal to
        an earlier one is that very object, so that whoever depends on it stops there."""
        if not self.enabled:
            return function(*args, **kwargs)
        arguments: tuple[Any, ...] = (*args, *kwargs.values()) if kwargs else args
        found = self._kept.get((function, key), ())
        for entry in found:
            if entry.arguments == arguments:
                self.hits += 1
                return cast(R, self._use(entry))
        entry = self._computed(function, *args, **kwargs)
        for earlier in found:
            if earlier.result == entry.result:
                entry.result = earlier.result
                break
        recent = [earlier for earlier in found if earlier.used >= self.generation - 1]
        self._kept[(function, key)] = [entry, *recent]
        return cast(R, self._use(entry))

    def next_generation(self) -> None:
        """A complete build has ended: what neither it nor the one before asked for, nor rests on, may be forgotten."""
        self.generation += 1
        count = len(self._entries) + len(self._kept)
        if count > self._limit or self.generation - self._swept >= _SWEEP_AFTER:
            self._sweep()

    @property
    def size(self) -> int:
        """How many results are held. (Not `__len__`: an empty memo is as true as any.)"""
        return len(self._entries) + sum(map(len, self._kept.values()))

    def _computed(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> _Entry:
        self.misses += 1
        outer, children = self._parent, list[_Entry]()
        self._parent = children
        try:
            result = function(*args, **kwargs)
        finally:
            self._parent = outer
        return _Entry((*args, *kwargs.values()), result, children)

    def _use(self, entry: _Entry) -> object:
        entry.used = self.generation
        if self._parent is None:
            entry.asked = self.generation
        else:
            self._parent.append(entry)
        return entry.result

    def _sweep(self) -> None:
        self._swept = mark = self.generation
        held = [*self._entries.values(), *(entry for kept in self._kept.values() for entry in kept)]
        waiting = [entry for entry in held if entry.asked >= self.generation - 2]
        while waiting:
            entry = waiting.pop()
            if entry.mark != mark:
                entry.mark = mark
                waiting.extend(entry.children)
        self._entries = {key: entry for key, entry in self._entries.items() if entry.mark == mark}
        live = ((key, [entry for entry in kept if entry.mark == mark]) for key, kept in self._kept.items())
        self._kept = {key: kept for key, kept in live if kept}
        self._limit = max(4096, 2 * (len(self._entries) + len(self._kept)))
