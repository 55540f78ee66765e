"""Step 7: the control plane is killed under load and stays away; an Envoy that restarts meanwhile has what it needs.

Two loads run side by side: one whose proxies are left alone, which must not notice anything, and one to details, whose
only Envoy is killed, which shows what that costs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from gossamer.cli.tour.load import Record, constant_load, open_client
from gossamer.cli.tour.report import Check, Rows, StepReport, tally
from gossamer.cli.tour.scene import (
    DETAILS,
    REVIEWS,
    Question,
    Scene,
    UnmetError,
    ask_until,
    last_is,
    settle,
    status_of,
    version_of,
)
from gossamer.core.errors import UnavailableError

RATE = 25.0
BEFORE_S = 0.7
ALONE_S = 1.2
AFTER_S = 1.0
ENVOY_S = 15.0
STEADY = 5
"""Good answers in a row after which those that failed are over."""
AGAIN_S = 25.0
EDIT_S = 3.0
"""More than an edit takes at rest: the control plane has just come to life."""
CONTROL_PLANE = "control-plane"
ENVOY = "envoy default/details-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Both loads, and when things happened (monotonic clock); `effect_s` is what an edit took after the return."""

    quiet: Record
    restarted: Record
    killed: float
    envoy_killed: float
    envoy_back: float
    released: float
    in_sync: float
    effect_s: float


async def tour_control_plane(scene: Scene) -> StepReport:
    """Kill the control plane, then an Envoy, let both come back, and edit something."""
    async with open_client(scene.mesh.ingress) as client:
        await settle(scene, client, "reviews/v3", "v3")
    quiet_requests = replace(scene.requests(REVIEWS, version_of), rate=RATE)
    details_requests = replace(scene.requests(DETAILS, status_of), rate=RATE)
    async with constant_load(quiet_requests) as quiet, constant_load(details_requests) as restarted:
        await asyncio.sleep(BEFORE_S)
        scene.teller.say("kill -9 control-plane, and nobody starts it again")
        with scene.mesh.held(CONTROL_PLANE):
            _, killed = _kill(scene, CONTROL_PLANE)
            await asyncio.sleep(ALONE_S)
            scene.teller.say(f"kill -9 {ENVOY}, with no control plane to ask")
            victim, envoy_killed = _kill(scene, ENVOY)
            envoy_back = await _back(restarted, victim, envoy_killed, scene)
            await asyncio.sleep(ALONE_S / 2)
        released = time.monotonic()
        scene.teller.say("the control plane starts again")
        in_sync = await _in_sync(scene)
        effect_s = await _edit_again(scene)
        await asyncio.sleep(AFTER_S)
    measured = Measured(
        quiet=quiet,
        restarted=restarted,
        killed=killed,
        envoy_killed=envoy_killed,
        envoy_back=envoy_back,
        released=released,
        in_sync=in_sync,
        effect_s=effect_s,
    )
    return report(measured, scene.logs_of(CONTROL_PLANE, "agent", ENVOY))


def _kill(scene: Scene, what: str) -> tuple[int, float]:
    victim = scene.mesh.pid(what)
    when = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    return victim, when


async def _back(record: Record, victim: int, killed: float, scene: Scene) -> float:
    """When the first request after those that failed was sent, once another Envoy runs; `killed` if none failed."""
    seen = "no other Envoy"
    while time.monotonic() < killed + ENVOY_S:
        await asyncio.sleep(0.05)
        failed = [sample.at for sample in record if sample.failed and sample.ended >= killed]
        since = max(failed, default=killed)
        good = [sample.at for sample in record if not sample.failed and sample.at > since]
        if await _pid(scene, ENVOY) in (0, victim):
            continue
        seen = f"another Envoy, {len(failed)} requests failed"
        if len(good) >= STEADY and (failed or time.monotonic() > killed + ALONE_S):
            return good[0] if failed else killed
    raise UnmetError(f"details answers again within {ENVOY_S:g} s", seen, scene.logs_of(ENVOY, "agent", CONTROL_PLANE))


async def _pid(scene: Scene, what: str) -> int:
    try:
        return await asyncio.to_thread(scene.mesh.pid, what)
    except UnavailableError:
        return 0


async def _in_sync(scene: Scene) -> float:
    deadline = time.monotonic() + AGAIN_S
    seen = "no answer from the control plane"
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        try:
            status = await scene.mesh.status()
        except UnavailableError as error:
            seen = str(error)
            continue
        states = {proxy.name: proxy.state for proxy in status.proxies}
        late = [w.name for w in status.workloads if states.get(w.name) != "SYNCED"]
        if status.workloads and not late:
            return time.monotonic()
        seen = ", ".join(f"{name} {states.get(name, 'not connected')}" for name in late)
    raise UnmetError(f"every proxy in sync within {AGAIN_S:g} s", seen, scene.logs_of(CONTROL_PLANE, "agent"))


async def _edit_again(scene: Scene) -> float:
    scene.teller.say("an edit, to see that it works again")
    async with open_client(scene.mesh.ingress) as client:
        edited = scene.edit("reviews/v1")
        seen = await ask_until(client, Question(path=REVIEWS, label=version_of), last_is("v1"), "an edit's effect")
    return seen.at - edited


def report(measured: Measured, logs: tuple[Path, ...]) -> StepReport:
    """What both loads saw."""
    quiet, restarted = measured.quiet, measured.restarted
    away = measured.released - measured.killed
    gap = measured.envoy_back - measured.envoy_killed
    outside = [
        sample for sample in restarted.failed if sample.ended < measured.envoy_killed or sample.at > measured.envoy_back
    ]
    rows = (
        ("reviews, its proxies left alone", str(len(quiet)), str(len(quiet.failed)), _millis(quiet)),
        ("details, its Envoy killed", str(len(restarted)), str(len(restarted.failed)), _millis(restarted)),
    )
    checks = (
        Check(
            claim="the control plane's death costs no request",
            seen=f"{len(quiet.failed)} of {len(quiet)} failed in {away:.1f} s without it{_told(quiet)}",
            passed=not quiet.failed and len(quiet) > 0 and not outside,
        ),
        Check(
            claim="an Envoy that restarts meanwhile serves again, from the agent's copy",
            seen=f"after {gap:.2f} s, {measured.released - measured.envoy_back:.1f} s before the control plane",
            passed=measured.envoy_back < measured.released,
        ),
        Check(
            claim="the control plane returns and every proxy is in sync",
            seen=f"after {measured.in_sync - measured.released:.2f} s",
            passed=measured.in_sync > measured.released,
        ),
        Check(
            claim="and edits are live again",
            seen=f"after {measured.effect_s:.2f} s",
            passed=0.0 < measured.effect_s < EDIT_S,
        ),
    )
    return StepReport(
        about="kill -9 the control plane, and an Envoy while it is away; then all return.",
        figure=f"{len(quiet.failed)} of {len(quiet)} failed; Envoy's restart: {len(restarted.failed)} in {gap:.2f} s",
        blocks=(Rows(columns=("load", "requests", "failed", "median"), rows=rows, right=(1, 2, 3)),),
        checks=checks,
        logs=logs,
    )


def _millis(record: Record) -> str:
    return f"{1000 * record.quantile_s(0.5):.0f} ms"


def _told(record: Record) -> str:
    return f": {tally(record.problems())}" if record.failed else ""
