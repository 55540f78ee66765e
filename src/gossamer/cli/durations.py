"""Durations as people write them on a command line."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from gossamer.core.errors import UsageError

LifetimeOption = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        help="How long a workload's certificate is valid; by default 24h, or what the profile says.",
        show_default=False,
    ),
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def load_duration(text: str) -> timedelta:
    """`90s`, `5m`, `1h30m`, `7d`. UsageError for anything else."""
    if not text or _PART.sub("", text):
        raise UsageError(f"{text!r} is no duration: write 90s, 5m, 1h30m or 7d")
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
