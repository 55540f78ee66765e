"""The tour from its first step to its last: each is shown as it ends, none stops the others, and all end in time.

Invariant: whatever a step does, its edits are undone, it is reported, and the next one is made while time is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gossamer.cli.tour.render import step_panel
from gossamer.cli.tour.report import Check, Finished, Step, StepReport
from gossamer.cli.tour.running import RunningMesh
from gossamer.cli.tour.scene import Scene, UnmetError
from gossamer.core.errors import GossamerError

STEP_S = 40.0


class ProgressTeller:
    """Shows on a terminal what a step does; says nothing where the output is no terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=text, total=None, completed=0)

    def count(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def telling(console: Console, title: str) -> Iterator[ProgressTeller]:
    """A line with a spinner while the context lasts, gone afterwards."""
    columns = (
        SpinnerColumn("dots" if not console.options.ascii_only else "line"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield ProgressTeller(progress, progress.add_task(title, total=None))


async def run_tour(
    mesh: RunningMesh, steps: Sequence[Step], console: Console, *, budget_s: float
) -> tuple[Finished, ...]:
    """Make the steps one after another within `budget_s` seconds, showing each; returns what each found."""
    finished: list[Finished] = []
    deadline = time.monotonic() + budget_s
    for number, step in enumerate(steps, 1):
        began = time.monotonic()
        left = min(STEP_S, deadline - began)
        with telling(console, step.title) as teller:
            scene = Scene(mesh=mesh, teller=teller)
            report = await _step_report(step, scene, left)
        one = Finished(number=number, title=step.title, report=report, elapsed_s=time.monotonic() - began)
        finished.append(one)
        console.print(step_panel(one, console))
    return tuple(finished)


async def _step_report(step: Step, scene: Scene, timeout_s: float) -> StepReport:
    """What the step found, or what kept it from finding anything."""
    if timeout_s <= 0:
        return _failed(scene, "the tour to come this far in time", "no time left for this step")
    try:
        async with asyncio.timeout(timeout_s):
            return await step.run(scene)
    except UnmetError as error:
        return _failed(scene, error.expected, error.seen, error.logs)
    except TimeoutError:
        return _failed(scene, f"an end within {timeout_s:.0f} s", "none")
    except GossamerError as error:
        return _failed(scene, "the mesh to answer", str(error))
    except Exception as error:  # a step that breaks must not take the others with it
        return _failed(scene, "no surprise", f"{type(error).__name__}: {error}")
    finally:
        scene.undo_all()


def _failed(scene: Scene, expected: str, seen: str, logs: tuple[Path, ...] = ()) -> StepReport:
    return StepReport(
        about="This step could not be made to its end.",
        figure=seen,
        checks=(Check(claim=expected, seen=seen, passed=False),),
        logs=logs or scene.logs_of("control-plane", "agent"),
    )
