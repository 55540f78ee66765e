"""The newest value of something, and who wants to hear of the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds one value. Publishing an equal one is a no-op; subscribers are called, in order, with each new one."""

    __slots__ = ("_subscribers", "_value", "generation")

    def __init__(self, value: T) -> None:
        self._value = value
        self._subscribers: list[Callable[[T], None]] = []
        self.generation = 0

    @property
    def value(self) -> T:
        return self._value

    def publish(self, value: T) -> bool:
        """Make `value` the latest; returns whether it differed from the one before."""
        if value is self._value or value == self._value:
            return False
        self._value = value
        self.generation += 1
        for subscriber in tuple(self._subscribers):
            subscriber(value)
        return True

    def subscribe(self, subscriber: Callable[[T], None]) -> Callable[[], None]:
        """Call `subscriber` with every later value; returns a function that ends it."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe
