"""Step 3: one reader is routed by a header, and nobody else is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from gossamer.cli.tour.load import open_client, send_requests
from gossamer.cli.tour.report import Check, Rows, StepReport, tally
from gossamer.cli.tour.scene import JASON, REVIEWS, Question, Scene, ask_until, last_is, settle, settled, version_of

EACH = 60
READERS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "jason": (JASON, "v2"),
    "alice": ({"end-user": "alice"}, "v1"),
    "nobody signed in": ({}, "v1"),
}


async def tour_routing(scene: Scene) -> StepReport:
    """Route jason to v2 and ask as three readers."""
    async with open_client(scene.mesh.ingress) as client:
        await settle(scene, client, "reviews/v3", "v3")
        scene.edit("reviews/jason")
        question = Question(path=REVIEWS, label=version_of)
        await ask_until(client, question, last_is("v1"), "the effect of reviews/jason")
        jason = Question(path=REVIEWS, label=version_of, headers=JASON)
        await ask_until(client, jason, settled("v2"), "v2 for jason")
    counts: dict[str, Counter[str]] = {}
    for number, (reader, (headers, _)) in enumerate(READERS.items()):
        scene.teller.say(f"{EACH} requests of {reader}")
        scene.teller.count(number * EACH, len(READERS) * EACH)
        record = await send_requests(scene.requests(REVIEWS, version_of, headers), EACH)
        counts[reader] = record.labels() + record.problems()
    return report(counts, scene.logs_of("envoy default/productpage-v1", "control-plane"))


def report(counts: Mapping[str, Counter[str]], logs: tuple[Path, ...]) -> StepReport:
    """What the versions that each reader saw say."""
    rows, checks = [], []
    for reader, (headers, wanted) in READERS.items():
        seen = counts.get(reader, Counter())
        told = tally(seen)
        rows.append((reader, headers.get("end-user", ""), told))
        claim = f"{reader} sees reviews {wanted} alone"
        checks.append(Check(claim=claim, seen=told, passed=seen == Counter({wanted: EACH})))
    return StepReport(
        about="productpage says in the header end-user who is signed in; a route matches.",
        figure=f"{EACH} of {EACH} for jason, {2 * EACH} of {2 * EACH} for others"
        if all(check.passed for check in checks)
        else "some were routed wrongly",
        blocks=(Rows(columns=("reader", "end-user", "saw reviews"), rows=tuple(rows)),),
        checks=tuple(checks),
        logs=logs,
    )
