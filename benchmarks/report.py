"""Figures as tables, kept as JSON, and held against the run before and against their budgets.

The invariant: a figure is found again under the same suite, phase and name, so that any two runs can be compared.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

Figures = dict[str, dict[str, dict[str, float]]]
"""By suite (a shape), phase and name of the figure; smaller is better for all of them."""

SCHEMA = 1
NOISE = 0.1
"""Differences below a tenth are not worth a colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run measured, and where and when."""

    figures: Figures
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that a figure may be."""

    suite: str
    phase: str
    name: str
    limit: float

    def excess(self, figures: Figures) -> str | None:
        """What is over the budget; None if nothing is, or nothing was measured."""
        value = figures.get(self.suite, {}).get(self.phase, {}).get(self.name)
        if value is None or value <= self.limit:
            return None
        return f"{self.suite}: {self.phase} {self.name} is {value:,.0f}, budget {self.limit:,.0f}"


def load_runs(folder: Path) -> list[Run]:
    """The runs that are kept and that this program can read, the newest first."""
    documents = [json.loads(path.read_text()) for path in sorted(folder.glob("run-*.json"), reverse=True)]
    return [Run(figures=d["figures"], about=d["about"]) for d in documents if d.get("schema") == SCHEMA]


def save(run: Run, folder: Path) -> Path:
    """Keep a run; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"run-{run.about['at'].replace(':', '')}.json"
    path.write_text(json.dumps({"schema": SCHEMA, "about": run.about, "figures": run.figures}, indent=1))
    return path


def about_here() -> dict[str, Any]:
    """This machine and this moment."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, check=False, capture_output=True, text=True)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown",
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def show(console: Console, suite: str, figures: Figures, runs: list[Run], budgets: tuple[Budget, ...]) -> None:
    """One suite as a table: a row for each phase; beside a figure, its ratio to the newest run that has the suite."""
    rows = figures[suite]
    before = next((run for run in runs if suite in run.figures), None)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table(title=suite, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE)
    table.add_column("phase")
    for name in names:
        table.add_column(_heading(name), justify="right")
    for phase, row in rows.items():
        old = before.figures[suite].get(phase, {}) if before else {}
        limits = {b.name: b.limit for b in budgets if (b.suite, b.phase) == (suite, phase)}
        table.add_row(phase, *(_cell(row.get(name), old.get(name), limits.get(name)) for name in names))
    if before is not None:
        table.caption = f"x: to {before.about['commit']}, {before.about['at']}"
        table.caption_justify = "left"
    console.print(table)


def over_budget(figures: Figures, budgets: tuple[Budget, ...]) -> Iterator[str]:
    """Everything that is over its budget."""
    return (excess for budget in budgets if (excess := budget.excess(figures)) is not None)


def _heading(name: str) -> str:
    words, _, unit = name.rpartition("_")
    known = {"ms": "ms", "s": "s", "mb": "MB"}
    return f"{words.replace('_', ' ')}, {known[unit]}" if unit in known else name


def _cell(value: float | None, old: float | None, limit: float | None) -> str:
    if value is None:
        return ""
    text = _number(value)
    if limit is not None:
        text = f"[{'green' if value <= limit else 'bold red'}]{text}[/] [dim]of {_number(limit)}[/]"
    if old:
        ratio = value / old
        colour = "dim" if abs(ratio - 1) < NOISE else "green" if ratio < 1 else "yellow"
        text += f" [{colour}]x{ratio:.2f}[/]"
    return text


def _number(value: float) -> str:
    return (
        f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
    )
