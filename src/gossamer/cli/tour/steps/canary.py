"""Step 2: weights are what really happens, measured over a few hundred requests and judged by what chance allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from gossamer.cli.tour.chance import binomial_bounds
from gossamer.cli.tour.load import open_client, send_requests
from gossamer.cli.tour.report import Bar, Bars, Check, StepReport
from gossamer.cli.tour.scene import REVIEWS, Question, Scene, ask_until, last_is, settle, version_of

REQUESTS = 300
SPLITS: Mapping[str, Mapping[str, float]] = {
    "reviews/canary-90-10": {"v1": 0.9, "v2": 0.1},
    "reviews/canary-50-50": {"v1": 0.5, "v2": 0.5},
}


async def tour_canary(scene: Scene) -> StepReport:
    """Give v2 a tenth, then half, and count."""
    counts: dict[str, Counter[str]] = {}
    question = Question(path=REVIEWS, label=version_of)
    async with open_client(scene.mesh.ingress) as client:
        await settle(scene, client, "reviews/v1", "v1")
        for edit in SPLITS:
            scene.edit(edit)
            wanted = last_is("v2") if not counts else _even
            await ask_until(client, question, wanted, f"the effect of {edit}")
            scene.teller.say(f"{edit.partition('/')[2]}: {REQUESTS} requests")
            record = await send_requests(
                scene.requests(REVIEWS, version_of), REQUESTS, told=lambda done: scene.teller.count(done, REQUESTS)
            )
            counts[edit] = record.labels() + record.problems()
    return report(counts, scene.logs_of("envoy default/productpage-v1", "control-plane"))


def _even(labels: Sequence[str]) -> bool:
    """Whether the last twenty answers cannot come of one in ten."""
    return labels[-20:].count("v2") >= 8


def report(counts: Mapping[str, Counter[str]], logs: tuple[Path, ...]) -> StepReport:
    """What the counts of each split, by version, say."""
    blocks, checks, figures = [], [], []
    for edit, shares in SPLITS.items():
        seen = counts.get(edit, Counter())
        total = seen.total()
        bars = []
        for version, share in shares.items():
            low, high = binomial_bounds(total, share)
            bars.append(Bar(label=version, count=seen[version], total=total, low=low, high=high))
        others = {label: count for label, count in seen.items() if label not in shares}
        bars += [Bar(label=label, count=count, total=total) for label, count in others.items()]
        blocks.append(Bars(caption=f"config/reviews.yaml: {_spell(shares)}", bars=tuple(bars)))
        canary = bars[1]
        checks.append(
            Check(
                claim=f"v2 gets {100 * shares['v2']:.0f} % of {total}, give or take",
                seen=f"{canary.count} ({canary.low} to {canary.high} is chance)"
                + "".join(f"; {count} {label}" for label, count in others.items()),
                passed=total > 0 and not others and canary.low <= canary.count <= canary.high,
            )
        )
        figures.append(f"{100 * canary.count / total:.1f} %" if total else "none")
    return StepReport(
        about="The new version gets a tenth of the readers, then half of them.",
        figure=f"v2 had {' then '.join(figures)} of {REQUESTS} requests each",
        blocks=tuple(blocks),
        checks=tuple(checks),
        logs=logs,
    )


def _spell(shares: Mapping[str, float]) -> str:
    return ", ".join(f"weight {100 * share:.0f} for {version}" for version, share in shares.items())
