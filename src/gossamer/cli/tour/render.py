"""The tour on a terminal: a panel a step, bars for shares, a table at the end.

Invariant: what is shown reads without colour and in 80 columns, and in ASCII where the output takes nothing else.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gossamer.cli.tour.report import Bar, Bars, Block, Check, Excerpt, Finished, Rows
from gossamer.cli.tour.running import RunningMesh

WIDEST = 100
BAR_CELLS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """Signs that the output can show."""

    good: str = "✔"
    bad: str = "✘"
    full: str = "█"
    band: str = "░"
    dot: str = "·"


ASCII = Glyphs(good="ok", bad="FAILED", full="#", band=".", dot="-")


def open_console() -> Console:
    """Standard output, no wider than reads well; 80 columns when it is no terminal."""
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST)
    return console


def glyphs_for(console: Console) -> Glyphs:
    return ASCII if console.options.ascii_only else Glyphs()


def step_panel(finished: Finished, console: Console) -> RenderableType:
    """One step as a panel: what it is about, what was measured, what was claimed."""
    signs, report = glyphs_for(console), finished.report
    parts: list[RenderableType] = [Text(report.about)]
    for block in report.blocks:
        parts.extend(("", _block(block, signs)))
    parts.append("")
    parts.extend(_check(check, signs) for check in report.checks)
    if not report.passed and report.logs:
        parts.append(_look_in(report.logs))
    color = "green" if report.passed else "red"
    mark = signs.good if report.passed else signs.bad
    return Panel(
        Group(*parts),
        title=Text(f" {finished.number} {signs.dot} {finished.title} ", style="bold"),
        title_align="left",
        subtitle=Text(f" {mark} {finished.elapsed_s:.1f} s ", style=color),
        subtitle_align="right",
        border_style=color,
        padding=(0, 1),
    )


def summary(finished: Sequence[Finished], console: Console, *, elapsed_s: float) -> RenderableType:
    """All steps in a table, and the verdict in a line."""
    signs = glyphs_for(console)
    table = Table(title="The tour", title_style="bold", title_justify="left", expand=True, box=SIMPLE_HEAD)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("Step", ratio=3)
    table.add_column("", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Figures", ratio=7)
    for one in finished:
        passed = one.report.passed
        mark = Text(signs.good if passed else signs.bad, style="green" if passed else "bold red")
        figure = Text(one.report.figure)
        table.add_row(str(one.number), Text(one.title), mark, f"{one.elapsed_s:.1f} s", figure)
    failed = [one for one in finished if not one.report.passed]
    verdict = Text(f"{signs.good} All {len(finished)} steps are green, {elapsed_s:.0f} s in all.", style="bold green")
    if failed:
        names = ", ".join(str(one.number) for one in failed)
        verdict = Text(f"{signs.bad} {len(failed)} of {len(finished)} steps failed: {names}.", style="bold red")
    return Group(table, verdict)


def _block(block: Block, signs: Glyphs) -> RenderableType:
    match block:
        case Rows():
            return _rows(block)
        case Bars():
            return _bars(block, signs)
        case Excerpt():
            return _excerpt(block)


def _rows(block: Rows) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, name in enumerate(block.columns):
        right = number in block.right
        table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in block.rows:
        table.add_row(*map(Text, row))
    return Padding(table, (0, 0, 0, 2))


def _bars(block: Bars, signs: Glyphs) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim")
    for bar in block.bars:
        allowed = f"{bar.low} to {bar.high} is chance" if bar.high else ""
        share = f"{100 * bar.count / bar.total:.1f} %" if bar.total else ""
        grid.add_row(Text(bar.label), _bar(bar, signs), str(bar.count), share, allowed)
    return Padding(Group(Text(block.caption, style="bold"), grid), (0, 0, 0, 2))


def _bar(bar: Bar, signs: Glyphs) -> Text:
    total = max(bar.total, 1)
    filled = round(BAR_CELLS * bar.count / total)
    if bar.count and not filled:
        filled = 1
    band = max(0, round(BAR_CELLS * bar.high / total) - filled)
    within = not bar.high or bar.low <= bar.count <= bar.high
    text = Text(signs.full * filled, style="cyan" if within else "red")
    text.append(signs.band * band, style="dim")
    text.append(" " * (BAR_CELLS - filled - band))
    return text


def _excerpt(block: Excerpt) -> RenderableType:
    text = Text(block.text, style="red" if block.alarming else "cyan", overflow="fold")
    return Group(Text(block.caption, style="bold"), text)  # not indented: lines of code need all the width


def _check(check: Check, signs: Glyphs) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    if check.passed:
        grid.add_row(Text(signs.good, style="green"), Text.assemble(check.claim, (f": {check.seen}", "bold")))
        return grid
    grid.add_column()
    grid.add_row(Text(signs.bad, style="bold red"), Text("expected", style="dim"), Text(check.claim))
    grid.add_row("", Text("seen", style="dim"), Text(check.seen, style="bold red"))
    return grid


def _look_in(logs: Sequence[Path]) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, log in enumerate(logs):
        grid.add_row("look in" if number == 0 else "", Text(str(log)))
    return Padding(grid, (0, 0, 0, 2))


def welcome(mesh: RunningMesh, console: Console, *, page_s: float, ready_s: float) -> RenderableType:
    """What runs, since when, and how its traffic is captured."""
    signs = glyphs_for(console)
    text = Text.assemble(
        (f"{signs.good} ", "green"),
        (f"Bookinfo runs at {mesh.ingress}/productpage", "bold"),
        f"\n  first page after {page_s:.1f} s, all ready after {ready_s:.1f} s",
        f"\n  capture: {mesh.capture}",
    )
    return Padding(text, (1, 0))


def hints(ingress: str, folder: Path) -> Text:
    """What a person can look at, edit and try while the example runs. Printed unwrapped: its lines are for copying."""
    gossamer = "gossamer" if shutil.which("gossamer") else sys.argv[0]
    reviews = f"{ingress}/api/v1/products/0/reviews"
    return Text.assemble(
        "\nOpen ",
        (f"{ingress}/productpage", "bold cyan"),
        " in a browser and reload it.\n",
        "\nEdit and save; the next request follows, and mistakes show up below:\n",
        *_lines(
            (f"{folder}/config/reviews.yaml", "which version of reviews readers get"),
            (f"{folder}/config/ratings.yaml", "how ratings is reached: delay it, fail it"),
            (f"{folder}/config/access.yaml", "who may ask whom"),
        ),
        "\nTry in another terminal:\n",
        *_lines(
            (f"curl -s {reviews}", "the answer of one version of reviews"),
            (f"curl -s -H 'end-user: jason' {reviews}", "the same, signed in as jason"),
            (f"{gossamer} proxy list", "every Envoy, and whether it is in sync"),
            (f"{gossamer} proxy log productpage-v1", "its requests, and what decided about them"),
            (f"{gossamer} validate -f {folder}/config", "what is wrong with the files, if anything"),
            (f"{gossamer} demo --check", "all of this as a tour that checks itself"),
        ),
    )


def _lines(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    found = []
    for what, why in pairs:
        found += [(f"  {what}\n", "cyan"), (f"      {why}\n", "dim")]
    return found
