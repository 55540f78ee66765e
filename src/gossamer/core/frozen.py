"""A map that can be part of a frozen value."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final, TypeVar, overload

K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)
D = TypeVar("D")


class FrozenMap(Mapping[K, V_co]):
    """An immutable mapping: hashable when its values are, with the hash kept.

    Iteration is in insertion order; equality and hash do not depend on it.
    """

    __slots__ = ("_data", "_hash")
    _data: dict[K, V_co]
    _hash: int | None

    def __init__(self, data: Mapping[K, V_co] | Iterable[tuple[K, V_co]] = ()) -> None:
        self._data = dict(data)
        self._hash = None

    def __getitem__(self, key: K) -> V_co:
        return self._data[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    # what Mapping would do in Python, a dict does faster
    def items(self) -> ItemsView[K, V_co]:
        return self._data.items()

    def keys(self) -> KeysView[K]:
        return self._data.keys()

    def values(self) -> ValuesView[V_co]:
        return self._data.values()

    @overload
    def get(self, key: K, default: None = None, /) -> V_co | None: ...
    @overload
    def get(self, key: K, default: V_co | D, /) -> V_co | D: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        return self._data.get(key, default)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._data.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, FrozenMap):
            if self._hash is not None and other._hash is not None and self._hash != other._hash:
                return False
            return self._data == other._data
        if isinstance(other, Mapping):
            return self._data == dict(other)
        return NotImplemented

    def __repr__(self) -> str:
        return f"FrozenMap({self._data!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenMap, (self._data,))


EMPTY: Final[FrozenMap[Any, Any]] = FrozenMap()


class Value:
    """Base of frozen dataclasses made with `eq=False` that are compared often: the hash is kept, and equality looks at
    identity first, then at type, hash and fields."""

    __slots__ = ("_kept_hash",)
    _kept_hash: int

    def _fields(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__dataclass_fields__])  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        try:
            return self._kept_hash
        except AttributeError:
            value = hash(self._fields())
            object.__setattr__(self, "_kept_hash", value)
            return value

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return hash(self) == hash(other) and self._fields() == other._fields()
