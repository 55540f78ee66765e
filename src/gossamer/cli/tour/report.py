"""What a step of the tour found, as plain values: steps make them, `render` shows them, tests compare them.

Invariant: a step passed when every one of its checks did, and it has at least one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gossamer.cli.tour.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A claim, and what was seen of it. `claim` reads as what was expected whether it came true or not."""

    claim: str
    seen: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A small table. The first column is text, the others are aligned as `right` says (by column number)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A share of a whole. `low` and `high` are the counts that chance allows, both 0 when nothing was promised."""

    label: str
    count: int
    total: int
    low: int = 0
    high: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Shares of one whole under a caption."""

    caption: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Text quoted as it stands, such as a line of a log or of a file that is wrong."""

    caption: str
    text: str
    alarming: bool = False


def tally(counts: Counter[str]) -> str:
    """Counts in words, the largest first: `60 x 200, 1 x 503`."""
    return ", ".join(f"{count} x {what}" for what, count in counts.most_common()) or "nothing"


Block: TypeAlias = Rows | Bars | Excerpt


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step: what it is about in a sentence, what was measured, what was claimed, and the figure to remember.

    `logs` are the files to look into when a check failed.
    """

    about: str
    figure: str
    checks: tuple[Check, ...]
    blocks: tuple[Block, ...] = ()
    logs: tuple[Path, ...] = ()

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A part of the tour: it leaves behind no edit that it does not tell its scene of."""

    title: str
    run: Callable[[Scene], Awaitable[StepReport]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A step that was made, and the seconds that it took."""

    number: int
    title: str
    report: StepReport
    elapsed_s: float
