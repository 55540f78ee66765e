"""`python -m benchmarks`: measure, show, keep, compare with the run before.

Two parts: the pipeline by itself, over services x proxies x rules, and a swarm of simulated proxies on a real control
plane. The second needs the swarm from beside the repository, and says so when it is not there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks import pipeline, swarm
from benchmarks.report import Budget, Figures, Run, about_here, load_runs, over_budget, save, show
from benchmarks.shape import Shape

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "bench"
FULL = (
    Shape(services=10, rules=8, proxies=10),
    Shape(services=100, rules=50, proxies=100),
    Shape(services=1000, rules=8, proxies=100),
    Shape(services=1000, rules=500, proxies=100),
    Shape(services=1000, rules=8, proxies=500),
    Shape(services=1000, rules=8, proxies=500, kubernetes=True),
)
QUICK = (Shape(services=100, rules=10, proxies=20), Shape(services=100, rules=10, proxies=20, kubernetes=True))
BUDGETS = (
    Budget(suite="swarm of 100", phase="endpoint", name="last_ms", limit=150),
    Budget(suite="swarm of 100", phase="route", name="last_ms", limit=500),
    Budget(suite="swarm of 500", phase="endpoint", name="last_ms", limit=400),
    Budget(suite="swarm of 500", phase="route", name="last_ms", limit=1000),
    Budget(suite="swarm of 500", phase="connect", name="last_ms", limit=8000),
    Budget(suite="swarm of 500, the process", phase="process", name="peak_mb", limit=500),
    Budget(suite="swarm of 100", phase="nothing", name="sent_mb", limit=0),
    Budget(suite="swarm of 500", phase="nothing", name="sent_mb", limit=0),
)
"""For two cores that have nothing else to do, with 1,000 services of 10 endpoints."""


def main() -> int:
    options = _options()
    console = Console()
    runs, about = load_runs(KEPT), about_here()
    figures: Figures = {}
    for suite, rows in _measured(options, console):
        figures[suite] = rows
        show(console, suite, figures, runs, BUDGETS)
    if not figures:
        return 1
    path = save(Run(figures=figures, about=about), KEPT)
    console.print(f"kept in {path.relative_to(ROOT)}", highlight=False)
    excesses = list(over_budget(figures, BUDGETS))
    for excess in excesses:
        console.print(f"[red]over budget[/] {excess}", highlight=False)
    return 1 if excesses and options.check else 0


def _measured(options: argparse.Namespace, console: Console) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    if "pipeline" in options.only:
        for shape in QUICK if options.quick else FULL:
            with console.status(shape.label):
                rows = pipeline.measure_apart(shape)
            yield shape.label, rows
    if "swarm" not in options.only:
        return
    shown = swarm.Swarm(
        shared=options.shared, services=100 if options.quick else 1000, repeat=options.repeat, eager=options.eager
    )
    if not shown.found:
        console.print(
            f"[yellow]no swarm:[/] {options.shared}/judge/swarm.py is not there, so nothing was measured over the "
            "network; set SHARED to the folder that contains judge/"
        )
        return
    for proxies in options.proxies or ((20,) if options.quick else (100, 500)):
        label = f"swarm of {proxies}" + (f" on {shown.services} services" if options.quick else "")
        with console.status(label), tempfile.TemporaryDirectory(prefix="gossamer-bench-") as folder:
            rows, process = swarm.measure(shown, Path(folder), proxies)
        yield label, rows
        yield f"{label}, the process", {"process": process}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    shared = Path(os.environ.get("SHARED", ROOT.parent / "shared")).resolve()
    add("--quick", action="store_true", help="small shapes: whether it runs, not how fast it is")
    add("--only", choices=("pipeline", "swarm"), action="append", help="one part alone")
    add("--proxies", type=int, action="append", help="size of a swarm (may be repeated; 100 and 500)")
    add("--repeat", type=int, default=5, help="runs of each change by a swarm (%(default)s)")
    add("--eager", action="store_true", help="simulated proxies ask for listeners at once")
    add("--shared", type=Path, default=shared, help="the folder that contains judge/ (%(default)s)")
    add("--check", action="store_true", help="exit with 1 if a budget is exceeded")
    options = parser.parse_args()
    options.only = options.only or ["pipeline", "swarm"]
    return options


if __name__ == "__main__":
    raise SystemExit(main())
