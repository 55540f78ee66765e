"""Step 6: one of several instances is killed under load, the others answer, and it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gossamer.cli.tour.load import Record, constant_load, open_client
from gossamer.cli.tour.report import Bar, Bars, Check, StepReport, tally
from gossamer.cli.tour.scene import REVIEWS, Question, Scene, UnmetError, ask_until, settle, version_of

RATE = 60.0
BEFORE_S = 1.0
AFTER_S = 1.0
BACK_S = 15.0
VERSIONS = ("v1", "v2", "v3")
VICTIM = "app default/reviews-v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The load, cut in three: with all instances, without one, and after its return `gone_s` seconds later."""

    before: Record
    without: Record
    after: Record
    gone_s: float

    @property
    def failed(self) -> Counter[str]:
        return self.before.problems() + self.without.problems() + self.after.problems()

    @property
    def total(self) -> int:
        return len(self.before) + len(self.without) + len(self.after)


async def tour_instance(scene: Scene) -> StepReport:
    """Kill the application of reviews-v2 while requests go to any version."""
    async with open_client(scene.mesh.ingress) as client:
        await settle(scene, client, "reviews/v1", "v1")
        scene.edit("reviews/any-version")
        question = Question(path=REVIEWS, label=version_of)
        await ask_until(client, question, lambda labels: set(VERSIONS) <= set(labels), "answers of all three versions")
    scene.teller.say(f"{RATE:.0f} requests a second to any version")
    async with constant_load(replace(scene.requests(REVIEWS, version_of), rate=RATE)) as record:
        began = time.monotonic()
        await asyncio.sleep(BEFORE_S)
        scene.teller.say(f"kill -9 {VICTIM}")
        victim = scene.mesh.pid(VICTIM)
        os.kill(victim, signal.SIGKILL)
        await _gone(victim)  # until then it may still answer
        killed = time.monotonic()
        back = await _back(record, killed, scene)
        await asyncio.sleep(AFTER_S)
        ended = time.monotonic()
    measured = Measured(
        before=record.between(began, killed),
        without=record.between(killed, back),
        after=record.between(back, ended),
        gone_s=back - killed,
    )
    return report(measured, scene.logs_of(VICTIM, "agent", "envoy default/productpage-v1"))


async def _gone(pid: int) -> None:
    """Return when a killed process runs no more, reaped or not."""
    stat = Path(f"/proc/{pid}/stat")
    with suppress(OSError):
        for _ in range(1000):
            if stat.read_text().rpartition(")")[2].split()[0] in "ZX":
                return
            await asyncio.sleep(0.001)


async def _back(record: Record, killed: float, scene: Scene) -> float:
    """When the first request was sent that the new process answered."""
    deadline = killed + BACK_S
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        answered = [sample.at for sample in record.between(killed, deadline) if sample.label == "v2"]
        if answered:
            return min(answered)
    raise UnmetError(
        f"reviews v2 back within {BACK_S:g} s",
        f"{len(record.between(killed, deadline))} requests, none answered by v2",
        scene.logs_of(VICTIM, "agent"),
    )


def report(measured: Measured, logs: tuple[Path, ...]) -> StepReport:
    """What the load saw."""
    without = measured.without.labels()
    failed = measured.failed
    blocks = tuple(
        Bars(
            caption=caption,
            bars=tuple(Bar(label=v, count=record.labels()[v], total=max(record.labels().total(), 1)) for v in VERSIONS),
        )
        for caption, record in (
            ("all three run", measured.before),
            (f"reviews-v2 is dead, for {measured.gone_s:.1f} s", measured.without),
            ("it is back", measured.after),
        )
    )
    checks = (
        Check(
            claim="no request fails, traffic goes on",
            seen=f"{failed.total()} of {measured.total} failed" + (f": {tally(failed)}" if failed else ""),
            passed=not failed and measured.total > 0,
        ),
        Check(
            claim="the others take over",
            seen=f"{without.total()} answers while it was gone",
            passed=without.total() > 0 and without["v2"] == 0,
        ),
        Check(
            claim="it is started again and takes part",
            seen=f"{measured.after.labels()['v2']} answers after {measured.gone_s:.1f} s",
            passed=measured.after.labels()["v2"] > 0,
        ),
    )
    return StepReport(
        about="kill -9 reviews-v2 under load. Whoever asked it is sent to another instance.",
        figure=f"{failed.total()} of {measured.total} requests failed, back after {measured.gone_s:.1f} s",
        blocks=blocks,
        checks=checks,
        logs=logs,
    )
