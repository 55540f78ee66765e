"""What chance allows: whether a measured share can come of the share that was configured. Pure arithmetic."""

from __future__ import annotations

from math import exp, lgamma, log

RARE = 1e-4
"""A sound mesh may look unsound in one measurement of 10,000; the tour makes few, so it does not cry wolf."""


def binomial_bounds(count: int, share: float, *, rare: float = RARE) -> tuple[int, int]:
    """The fewest and the most of `count` independent requests that go where `share` (0 to 1) of them should, but for
    outcomes whose probability is `rare` in all, half of it on each side."""
    if share <= 0.0 or share >= 1.0:
        only = count if share >= 1.0 else 0
        return only, only
    chances = [_probability(count, hits, share) for hits in range(count + 1)]
    low, below = 0, 0.0
    while below + chances[low] <= rare / 2:
        below += chances[low]
        low += 1
    high, above = count, 0.0
    while above + chances[high] <= rare / 2:
        above += chances[high]
        high -= 1
    return low, high


def _probability(count: int, hits: int, share: float) -> float:
    ways = lgamma(count + 1) - lgamma(hits + 1) - lgamma(count - hits + 1)
    return exp(ways + hits * log(share) + (count - hits) * log(1 - share))
