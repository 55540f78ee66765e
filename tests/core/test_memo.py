"""A memo gives the same object back, keeps what a live result rests on, and forgets the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.core.memo import Memo


@dataclass
class Counted:
    """A function that says how often it ran."""

    ran: list[object] = field(default_factory=list)

    def __call__(self, value: object) -> tuple[object, str]:
        self.ran.append(value)
        return (value, "made")

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def test_equal_arguments_give_the_same_object() -> None:
    memo, function = Memo(), Counted()
    first = memo(function, (1, 2))
    assert memo(function, (1, 2)) is first
    assert function.ran == [(1, 2)]
    assert memo(function, (1, 3)) is not first


def test_switched_off_it_computes_anew() -> None:
    memo, function = Memo(enabled=False), Counted()
    assert memo(function, 1) == memo.keep("", function, 1)
    assert len(function.ran) == 2


def test_keep_compares_arguments_that_cannot_be_hashed() -> None:
    memo, function = Memo(), Counted()
    first = memo.keep("a", function, [1, 2])
    assert memo.keep("a", function, [1, 2]) is first
    assert memo.keep("a", function, [1, 2, 3]) is not first
    assert memo.keep("b", function, [1, 2]) is not first, "a key is another place to look"


def test_an_equal_result_is_the_earlier_object() -> None:
    def parity(value: int) -> tuple[str, int]:
        return ("parity", value % 2)

    memo = Memo()
    first = memo.keep("", parity, 2)
    assert memo.keep("", parity, 4) is first
    assert memo.keep("", parity, 5) is not first


def test_variants_of_one_key_live_side_by_side() -> None:
    memo, function = Memo(), Counted()
    results = [memo.keep("", function, [number]) for number in range(5)]
    memo.next_generation()
    assert [memo.keep("", function, [number]) for number in range(5)] == results
    assert len(function.ran) == 5


def test_what_a_live_result_rests_on_is_kept_though_nobody_asks() -> None:
    memo, leaf = Memo(), Counted()

    def whole(parts: tuple[int, ...]) -> tuple[object, ...]:
        return tuple(memo(leaf, part) for part in parts)

    parts = tuple(range(100))
    memo.keep("", whole, parts)
    for _ in range(500):  # many generations in which only the whole is asked for
        memo.keep("", whole, parts)
        memo.next_generation()
    memo.keep("", whole, (*parts, 100))
    assert len(leaf.ran) == 101, "one new leaf, and none of the old ones again"


def test_what_nobody_needs_is_forgotten() -> None:
    memo, leaf = Memo(), Counted()
    for number in range(20_000):
        memo(leaf, number)
        if number % 100 == 0:
            memo.next_generation()
    for _ in range(100):
        memo.next_generation()
    assert memo.size < 1000


def test_an_exception_leaves_nothing_behind() -> None:
    memo = Memo()
    tries = []

    def fails() -> None:
        tries.append(1)
        raise ValueError("no")

    def outer() -> int:
        for _ in range(2):
            try:
                memo(fails)
            except ValueError:
                continue
        return len(tries)

    assert memo(outer) == 2
    assert memo(outer) == 2
