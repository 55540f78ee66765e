"""Step 8: files are edited while the mesh runs; a good edit is live in under a second, a bad one is refused with its
line and nobody's traffic notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from statistics import median

from gossamer.cli.render import print_diagnostics
from gossamer.cli.tour.load import Record, constant_load, open_client
from gossamer.cli.tour.report import Block, Check, Excerpt, Rows, StepReport
from gossamer.cli.tour.running import DiagnosticJson
from gossamer.cli.tour.scene import REVIEWS, Question, Scene, UnmetError, ask_until, last_is, settle, version_of
from gossamer.core.diagnostics import Diagnostic, Position, Severity

EDITS = 10
PAUSE_S = 0.15
RATE = 40.0
REFUSED_S = 5.0
BROKEN = {"reviews/broken": "A weight that is no number", "reviews/unreadable": "A bracket that is missing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A broken edit: the line that is blamed, after how many seconds, and what a person is shown."""

    edit: str
    line: int
    after_s: float
    excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds from each edit to the first answer that shows it; the refusals; the load while files were broken."""

    effects_s: tuple[float, ...]
    refusals: tuple[Refusal, ...]
    load: Record


async def tour_edits(scene: Scene) -> StepReport:
    """Flip reviews between two versions, then break its file twice under load."""
    effects = await _flip(scene)
    refusals = []
    scene.teller.say("breaking config/reviews.yaml under load")
    async with constant_load(replace(scene.requests(REVIEWS, version_of), rate=RATE)) as load:
        for edit in BROKEN:
            refusals.append(await _broken(scene, edit))
        await asyncio.sleep(2 * PAUSE_S)
    scene.undo_all()
    await _no_diagnostics(scene)
    measured = Measured(effects_s=tuple(effects), refusals=tuple(refusals), load=load)
    return report(measured, scene.logs_of("control-plane", "agent", "envoy default/productpage-v1"))


async def _flip(scene: Scene) -> list[float]:
    effects = []
    async with open_client(scene.mesh.ingress) as client:
        await settle(scene, client, "reviews/v1", "v1")
        question = Question(path=REVIEWS, label=version_of)
        scene.teller.say(f"{EDITS} edits, each timed until its first effect")
        for number in range(EDITS):
            version = "v1" if number % 2 else "v3"
            edited = scene.edit(f"reviews/{version}")
            seen = await ask_until(client, question, last_is(version), f"reviews {version}")
            effects.append(seen.at - edited)
            scene.teller.count(number + 1, EDITS)
            await asyncio.sleep(PAUSE_S)
    return effects


async def _broken(scene: Scene, edit: str) -> Refusal:
    """Make a broken edit and wait until the mesh says what is wrong with it."""
    before = {_place(diagnostic) for diagnostic in (await scene.mesh.status()).diagnostics}
    edited = scene.edit(edit)
    while time.monotonic() < edited + REFUSED_S:
        for diagnostic in (await scene.mesh.status()).diagnostics:
            new = _place(diagnostic) not in before
            if new and diagnostic["severity"] == "error" and str(diagnostic["file"]).endswith("reviews.yaml"):
                after = time.monotonic() - edited
                text = Path(str(diagnostic["file"])).read_text(encoding="utf-8")
                excerpt = spell(diagnostic, text, scene.mesh.folder)
                return Refusal(edit=edit, line=int(diagnostic["line"]), after_s=after, excerpt=excerpt)
        await asyncio.sleep(0.02)
    raise UnmetError(f"{edit} refused within {REFUSED_S:g} s", "no diagnostic", scene.logs_of("control-plane"))


async def _no_diagnostics(scene: Scene) -> None:
    deadline = time.monotonic() + REFUSED_S
    while left := [d for d in (await scene.mesh.status()).diagnostics if d["severity"] == "error"]:
        if time.monotonic() > deadline:
            raise UnmetError("no error once the files are whole again", str(left[0]["message"]))
        await asyncio.sleep(0.05)


def _place(diagnostic: DiagnosticJson) -> tuple[object, ...]:
    return diagnostic["file"], diagnostic["line"], diagnostic["message"]


def spell(diagnostic: DiagnosticJson, text: str, folder: Path) -> str:
    """A diagnostic as every command shows it, with its line of `text` and a caret; its file as seen from `folder`."""
    file = Path(str(diagnostic["file"]))
    name = str(file.relative_to(folder) if file.is_relative_to(folder) else file)
    words = {key: str(diagnostic[key]) for key in ("code", "message", "kind", "namespace", "name", "path", "hint")}
    place = Position(file=name, line=int(diagnostic["line"]), column=int(diagnostic["column"]))
    shown = StringIO()
    said = Diagnostic(severity=Severity(str(diagnostic["severity"])), position=place, **words)
    print_diagnostics([said], {name: text}, file=shown)
    return shown.getvalue().strip()


def report(measured: Measured, logs: tuple[Path, ...]) -> StepReport:
    """What the clock and the mesh said."""
    effects = measured.effects_s
    blocks: list[Block] = [
        Rows(columns=("edits", "fastest", "median", "slowest"), rows=(_times(effects),), right=(0, 1, 2, 3))
    ]
    blocks += [
        Excerpt(caption=f"{BROKEN[refusal.edit]}:", text=refusal.excerpt, alarming=True)
        for refusal in measured.refusals
    ]
    failed, versions = measured.load.failed, measured.load.labels()
    checks = (
        Check(
            claim="every edit is live in under a second",
            seen=f"the slowest of {len(effects)} in {max(effects, default=0.0):.2f} s",
            passed=bool(effects) and max(effects) < 1.0,
        ),
        Check(
            claim="a broken edit is refused with its file and line",
            seen=", ".join(f"line {r.line} after {r.after_s:.2f} s" for r in measured.refusals),
            passed=len(measured.refusals) == len(BROKEN) and all(r.line for r in measured.refusals),
        ),
        Check(
            claim="traffic goes on by the last good file",
            seen=f"{len(failed)} of {len(measured.load)} failed, all by {', '.join(versions) or 'nobody'}",
            passed=len(measured.load) > 0 and not failed and versions.keys() == {"v1"},
        ),
    )
    return StepReport(
        about="Files are edited; each edit is timed until the first request that feels it.",
        figure=f"live in {_spell(effects)}; {len(measured.refusals)} broken edits refused",
        blocks=tuple(blocks),
        checks=checks,
        logs=logs,
    )


def _times(effects: Sequence[float]) -> tuple[str, ...]:
    if not effects:
        return ("0", "", "", "")
    return (str(len(effects)), *(f"{1000 * time_s:.0f} ms" for time_s in (min(effects), median(effects), max(effects))))


def _spell(effects: Sequence[float]) -> str:
    return f"{1000 * median(effects):.0f} ms (at most {1000 * max(effects):.0f})" if effects else "no time"
