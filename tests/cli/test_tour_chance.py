"""The bounds hold what they promise, by arithmetic that is exact and by arithmetic of another kind."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from gossamer.cli.tour.chance import binomial_bounds


def tail(count: int, share: Fraction, hits: range) -> Fraction:
    return sum((math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in hits), Fraction(0))


@pytest.mark.parametrize("count", [1, 20, 400])
@pytest.mark.parametrize("share", [Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("rare", [1e-2, 1e-4])
def test_the_bounds_are_the_narrowest_that_leave_out_only_what_is_rare(
    count: int, share: Fraction, rare: float
) -> None:
    low, high = binomial_bounds(count, float(share), rare=rare)
    assert tail(count, share, range(low)) <= rare / 2
    assert tail(count, share, range(low + 1)) > rare / 2
    assert tail(count, share, range(high + 1, count + 1)) <= rare / 2
    assert tail(count, share, range(high, count + 1)) > rare / 2


def test_what_is_certain_has_no_width() -> None:
    assert binomial_bounds(50, 0.0) == (0, 0)
    assert binomial_bounds(50, 1.0) == (50, 50)
    assert binomial_bounds(0, 0.5) == (0, 0)


def test_the_splits_of_the_tour_cannot_be_taken_for_one_another() -> None:
    tenth, third, half = (binomial_bounds(400, share) for share in (0.1, 0.33, 0.5))
    assert tenth[1] < third[0] < half[0]
