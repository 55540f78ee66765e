"""Step 4: failures and delays made to order, and a timeout that bounds what they cost.

Times are those that a reader waits. productpage asks reviews a second time when the first answer is an error, so a
timeout of 0.5 s is felt twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from gossamer.cli.tour.load import Client, Record, Reply, open_client, send_requests
from gossamer.cli.tour.report import Check, Rows, StepReport, tally
from gossamer.cli.tour.scene import (
    JASON,
    REVIEWS,
    Question,
    Scene,
    Seen,
    ask_until,
    last_is,
    settle,
    stars_of,
    status_of,
)

EACH = 20
OTHER = {"end-user": "alice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What readers saw, and after how many seconds; the counts are by what the page shows of the stars."""

    abort_jason: Counter[str]
    abort_others: Counter[str]
    slow_jason: tuple[str, float]
    slow_others: tuple[Counter[str], float]
    late: tuple[str, float]
    cut: tuple[str, float]


async def tour_fault(scene: Scene) -> StepReport:
    """Fail ratings for jason, then delay it for him, then delay it for all and bound the wait."""
    async with open_client(scene.mesh.ingress, timeout_s=12.0) as client:
        await settle(scene, client, "reviews/v3", "v3")
        scene.teller.say("ratings fails for jason")
        scene.edit("ratings/abort-jason")
        jason = Question(path=REVIEWS, label=stars_of, headers=JASON)
        await ask_until(client, jason, last_is("stars lost"), "no stars for jason")
        abort_jason = await send_requests(scene.requests(REVIEWS, stars_of, JASON), EACH)
        abort_others = await send_requests(scene.requests(REVIEWS, stars_of, OTHER), EACH)
        scene.teller.say("ratings is seven seconds late for jason")
        scene.edit("ratings/delay-jason")
        slow = await ask_until(client, replace(jason, label=_pace_of), last_is("slow"), "a slow answer for jason")
        slow_others = await send_requests(scene.requests(REVIEWS, stars_of, OTHER), EACH)
        late, cut = await _bound_the_wait(scene, client)
    return report(
        Measured(
            abort_jason=_seen(abort_jason),
            abort_others=_seen(abort_others),
            slow_jason=(stars_of(slow.reply), slow.reply.elapsed),
            slow_others=(_seen(slow_others), slow_others.quantile_s(1.0)),
            late=(stars_of(late.reply), late.reply.elapsed),
            cut=(status_of(cut.reply), cut.reply.elapsed),
        ),
        scene.logs_of("envoy default/reviews-v3", "envoy default/productpage-v1", "app default/productpage-v1"),
    )


async def _bound_the_wait(scene: Scene, client: Client) -> tuple[Seen, Seen]:
    """An answer of v3 with ratings two seconds late for everybody, and one of v2 under a timeout of half a second."""
    scene.teller.say("ratings is two seconds late for everybody")
    scene.edit("ratings/delay-2s")
    late = await ask_until(client, Question(path=REVIEWS, label=_pace_of), last_is("slow"), "a slow answer")
    scene.teller.say("reviews gets half a second to answer")
    scene.edit("reviews/timeout")
    question = Question(path=REVIEWS, label=status_of)
    return late, await ask_until(client, question, last_is("504"), "a timeout")


def _pace_of(reply: Reply) -> str:
    return "slow" if reply.elapsed >= 1.0 else "quick"


def _seen(record: Record) -> Counter[str]:
    return record.labels() + record.problems()


def report(measured: Measured, logs: tuple[Path, ...]) -> StepReport:
    """What the readers' answers say."""
    slow, slow_s = measured.slow_jason
    others, others_s = measured.slow_others
    late, late_s = measured.late
    cut, cut_s = measured.cut
    checks = (
        _all("ratings fails for jason alone", measured.abort_jason, "stars lost", measured.abort_others, "red stars"),
        Check(
            claim="reviews v3 gives ratings 2.5 s and shows the text without stars",
            seen=f"{slow} after {slow_s:.2f} s",
            passed=slow == "stars lost" and 2.4 <= slow_s < 3.5,
        ),
        Check(
            claim="nobody else waits for jason's delay",
            seen=f"{tally(others)}, the slowest {others_s:.2f} s",
            passed=others == Counter({"red stars": EACH}) and others_s < 1.5,
        ),
        Check(
            claim="without a timeout a late ratings makes everybody wait 2 s",
            seen=f"{late} after {late_s:.2f} s",
            passed=late == "red stars" and 1.9 <= late_s < 3.0,
        ),
        Check(
            claim="a timeout of 0.5 s, felt twice, ends it with a 504",
            seen=f"{cut} after {cut_s:.2f} s",
            passed=cut == "504" and 0.9 <= cut_s < 1.8,
        ),
    )
    return StepReport(
        about="ratings fails and is late, to order; then a timeout bounds what that costs.",
        figure=f"delay felt {late_s:.2f} s, with a timeout {cut_s:.2f} s",
        blocks=(Rows(columns=("made to order", "reader", "saw", "after"), rows=_rows(measured), right=(3,)),),
        checks=checks,
        logs=logs,
    )


def _rows(measured: Measured) -> tuple[tuple[str, ...], ...]:
    others, others_s = measured.slow_others
    felt = [(measured.slow_jason[0], f"{measured.slow_jason[1]:.2f} s"), (tally(others), f"{others_s:.2f} s")]
    felt += [(what, f"{after:.2f} s") for what, after in (measured.late, measured.cut)]
    return (
        ("abort 500, jason alone", "jason", tally(measured.abort_jason), ""),
        ("", "alice", tally(measured.abort_others), ""),
        ("delay 7 s, jason alone", "jason", *felt[0]),
        ("", "alice", *felt[1]),
        ("delay 2 s, everybody", "anybody", *felt[2]),
        ("  and timeout 0.5 s", "anybody", *felt[3]),
    )


def _all(claim: str, first: Counter[str], one: str, second: Counter[str], other: str) -> Check:
    passed = first == Counter({one: EACH}) and second == Counter({other: EACH})
    return Check(claim=claim, seen=f"jason {tally(first)}; alice {tally(second)}", passed=passed)
