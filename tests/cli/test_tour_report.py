"""What the tour looks like, and that every step calls good what is good and nothing else."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from gossamer.cli.tour.load import Record, Reply, Sample
from gossamer.cli.tour.render import step_panel, summary
from gossamer.cli.tour.report import Bar, Bars, Check, Excerpt, Finished, Rows, StepReport, tally
from gossamer.cli.tour.scene import settled, stars_of, version_of
from gossamer.cli.tour.steps import canary, control_plane, deny, edits, fault, instance, mtls, routing
from gossamer.demo.bookinfo.hops import Hop as PageHop
from gossamer.demo.bookinfo.hops import write_hops

LOGS = (Path("/var/log/gossamer/control-plane.log"),)
REPORT = StepReport(
    about="The new version gets a tenth of the readers.",
    figure="v2 had 9.8 % of 400 requests",
    blocks=(
        Bars(
            caption="weight 90 for v1, weight 10 for v2",
            bars=(
                Bar(label="v1", count=361, total=400, low=336, high=382),
                Bar(label="v2", count=39, total=400, low=18, high=64),
            ),
        ),
        Rows(columns=("reader", "requests"), rows=(("jason", "60"), ("alice", "7")), right=(1,)),
        Excerpt(caption="In the access log:", text="403 - rbac_access_denied_matched_policy[...]"),
    ),
    checks=(Check(claim="v2 gets a tenth", seen="39 of 400", passed=True),),
    logs=LOGS,
)
FAILED = replace(
    REPORT, checks=(Check(claim="every sidecar refuses plaintext", seen="details answered 200", passed=False),)
)


def show(finished: Finished, *, encoding: str = "utf-8", color: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=stream, width=80, force_terminal=color, color_system="truecolor" if color else None)
    console.print(step_panel(finished, console))
    console.print(summary([finished], console, elapsed_s=4.2))
    stream.flush()
    return raw.getvalue().decode(encoding)


def finished(report: StepReport) -> Finished:
    return Finished(number=2, title="A canary, measured", report=report, elapsed_s=4.2)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("report", [REPORT, FAILED])
def test_it_fits_into_eighty_columns_in_any_encoding(encoding: str, report: StepReport) -> None:
    text = show(finished(report), encoding=encoding)
    assert max(map(len, text.splitlines())) == 80
    for words in (report.about, "weight 90 for v1", "361", "90.2 %", "18 to 64 is chance", "jason", "rbac_access"):
        assert words in text
    assert "\x1b" not in text


def test_a_good_step_shows_what_was_seen_and_where_nothing_need_be_looked_for() -> None:
    text = show(finished(REPORT))
    assert "v2 gets a tenth: 39 of 400" in text
    assert "✔ All 1 steps are green" in text
    assert str(LOGS[0]) not in text


def test_a_failed_step_says_what_was_expected_what_was_seen_and_where_to_look() -> None:
    lines = show(finished(FAILED)).splitlines()
    assert any("expected every sidecar refuses plaintext" in line for line in lines)
    assert any("seen     details answered 200" in line for line in lines)
    assert any("look in" in line and str(LOGS[0]) in line for line in lines)
    assert any("1 of 1 steps failed: 2." in line for line in lines)


def test_ascii_and_colour_change_the_signs_and_not_the_words() -> None:
    assert "#" * 27 in show(finished(REPORT), encoding="ascii")
    assert "█" * 27 in show(finished(REPORT))
    assert "\x1b[" in show(finished(REPORT), color=True)


def test_a_step_without_checks_has_not_passed() -> None:
    assert not replace(REPORT, checks=()).passed


def test_tallies_read_from_the_most_frequent_down() -> None:
    assert tally(Counter({"503": 1, "200": 60})) == "60 x 200, 1 x 503"
    assert tally(Counter()) == "nothing"


def sound(report: StepReport) -> list[str]:
    """The claims that did not come true."""
    return [check.claim for check in report.checks if not check.passed]


def reply(body: object, status: int = 200, problem: str = "") -> Reply:
    return Reply(at=0.0, elapsed=0.1, status=status, body=json.dumps(body).encode(), problem=problem)


def test_answers_are_sorted_by_what_a_reader_sees() -> None:
    assert version_of(reply({"version": "v2"})) == "v2"
    assert version_of(reply({"error": "x"}, 504)) == "504"
    assert version_of(reply({}, 0, "connection refused")) == "connection refused"
    assert stars_of(reply({"reviews": [{"text": "x"}]})) == "no stars"
    assert stars_of(reply({"reviews": [{"rating": {"stars": 5, "color": "red"}}]})) == "red stars"
    assert stars_of(reply({"reviews": [{"rating": {"error": "x"}}]})) == "stars lost"
    assert stars_of(Reply(at=0.0, elapsed=0.1, status=200, body=b"<html>")) == "no stars"


def test_an_edit_counts_as_live_only_after_a_row_of_equal_answers() -> None:
    wanted = settled("v1")
    assert wanted(["v3", *["v1"] * 14])
    assert not wanted(["v1"] * 13)
    assert not wanted([*["v1"] * 13, "v3", "v1"])


INGRESS = mtls.CALLERS["productpage"]
PRODUCTPAGE = mtls.CALLERS["details"]
CALLS = mtls.Measured(
    pages=Counter({"200": mtls.PAGES}),
    hops=Counter(
        {
            mtls.Hop(called="productpage-v1", caller=INGRESS): 60,
            mtls.Hop(called="details-v1", caller=PRODUCTPAGE): 60,
            mtls.Hop(called="reviews-v2", caller=PRODUCTPAGE): 60,
            mtls.Hop(called="ratings-v1"): 40,
        }
    ),
    plaintext=dict.fromkeys(mtls.WORKLOADS, mtls.REFUSED),
    anonymous=dict.fromkeys(mtls.WORKLOADS, mtls.REFUSED),
    trespass='403 {"error": "The ratings service answered 403"}',
    certificates_end=datetime.now(UTC) + timedelta(hours=23),
    proxies=7,
)


def test_mtls_is_good_when_all_callers_are_attested_and_all_strangers_refused() -> None:
    assert not sound(mtls.report(CALLS, LOGS))
    stranger = Counter({**CALLS.hops, mtls.Hop(called="details-v1", caller=INGRESS): 1})
    assert sound(mtls.report(replace(CALLS, hops=stranger), LOGS)) == ["every caller is who it should be"]
    nobody = Counter({**CALLS.hops, mtls.Hop(called="reviews-v1"): 1})
    assert sound(mtls.report(replace(CALLS, hops=nobody), LOGS)) == ["every caller is who it should be"]
    no_calls = Counter({hop: n for hop, n in CALLS.hops.items() if "details" not in hop.called})
    assert sound(mtls.report(replace(CALLS, hops=no_calls), LOGS)) == ["every caller is who it should be"]
    open_door = CALLS.plaintext | {"default/details-v1": "answered 'HTTP/1.1 200 OK'"}  # type: ignore[operator]
    failed = mtls.report(replace(CALLS, plaintext=open_door), LOGS)
    assert sound(failed) == ["plaintext is refused by every sidecar"]
    assert "default/details-v1 answered" in next(check.seen for check in failed.checks if not check.passed)
    assert len(sound(mtls.report(replace(CALLS, plaintext={}, anonymous={}), LOGS))) == 2
    assert len(sound(mtls.report(replace(CALLS, trespass="200 {}"), LOGS))) == 1
    assert len(sound(mtls.report(replace(CALLS, certificates_end=None), LOGS))) == 1
    assert len(sound(mtls.report(replace(CALLS, pages=Counter({"200": 59, "503": 1})), LOGS))) == 1


def test_the_page_tells_who_called_whom() -> None:
    html = write_hops(
        (
            PageHop(name="productpage-v1", depth=0, elapsed=0.1, peer=INGRESS),
            PageHop(name="details-v1", depth=1, elapsed=0.02, peer=PRODUCTPAGE),
            PageHop(name="reviews-v2", depth=1, elapsed=0.03, failed=True, note="answered 503"),
            PageHop(name="ratings-v1", depth=2, elapsed=0.01),
            PageHop(name="ratings", depth=2, elapsed=None, note="not asked"),
        )
    )
    assert mtls.hops_of(html) == (
        mtls.Hop(called="productpage-v1", caller=INGRESS),
        mtls.Hop(called="details-v1", caller=PRODUCTPAGE),
        mtls.Hop(called="ratings-v1"),
    )


SPLITS = {
    "reviews/canary-90-10": Counter({"v1": 361, "v2": 39}),
    "reviews/canary-50-50": Counter({"v1": 205, "v2": 195}),
}


def test_a_canary_is_good_within_what_chance_allows() -> None:
    assert not sound(canary.report(SPLITS, LOGS))
    wrong = SPLITS | {"reviews/canary-90-10": SPLITS["reviews/canary-50-50"]}
    assert len(sound(canary.report(wrong, LOGS))) == 1
    stranger = SPLITS | {"reviews/canary-50-50": Counter({"v1": 205, "v2": 194, "503": 1})}
    assert len(sound(canary.report(stranger, LOGS))) == 1
    assert len(sound(canary.report({}, LOGS))) == 2


def test_routing_is_good_when_each_reader_sees_one_version() -> None:
    counts = {
        "jason": Counter(v2=routing.EACH),
        "alice": Counter(v1=routing.EACH),
        "nobody signed in": Counter(v1=routing.EACH),
    }
    assert not sound(routing.report(counts, LOGS))
    assert len(sound(routing.report(counts | {"alice": Counter(v1=59, v2=1)}, LOGS))) == 1
    assert len(sound(routing.report({}, LOGS))) == 3


FAULTS = fault.Measured(
    abort_jason=Counter({"stars lost": fault.EACH}),
    abort_others=Counter({"red stars": fault.EACH}),
    slow_jason=("stars lost", 2.51),
    slow_others=(Counter({"red stars": fault.EACH}), 0.02),
    late=("red stars", 2.02),
    cut=("504", 1.03),
)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(FAULTS, abort_jason=Counter({"red stars": fault.EACH})),
        replace(FAULTS, abort_others=Counter({"stars lost": fault.EACH})),
        replace(FAULTS, slow_jason=("red stars", 0.02)),
        replace(FAULTS, slow_others=(Counter({"red stars": fault.EACH}), 2.5)),
        replace(FAULTS, late=("red stars", 0.5)),
        replace(FAULTS, cut=("504", 2.02)),
        replace(FAULTS, cut=("200", 1.03)),
    ],
)
def test_faults_are_good_when_each_costs_what_was_ordered(wrong: fault.Measured) -> None:
    assert not sound(fault.report(FAULTS, LOGS))
    assert len(sound(fault.report(wrong, LOGS))) == 1


LINE = (
    '[2026-01-01T00:00:00.000Z] "GET /api/v1/products HTTP/1.1" 403 - '
    "rbac_access_denied_matched_policy[ns[default]-policy[close-the-api]-rule[0]] - 0 19"
)
DENIED = deny.Measured(
    before="200",
    denied="403 RBAC: access denied",
    denied_after_s=0.12,
    page_meanwhile="200",
    allowed_after_s=0.1,
    connections=1,
    log_line=LINE,
)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(DENIED, before="403"),
        replace(DENIED, connections=2),
        replace(DENIED, page_meanwhile="403"),
        replace(DENIED, log_line=LINE.replace("close-the-api", "another")),
        replace(DENIED, log_line="403 - -"),
    ],
)
def test_a_denial_is_good_on_the_old_connection_with_the_name_of_its_policy(wrong: deny.Measured) -> None:
    report = deny.report(DENIED, LOGS)
    assert not sound(report)
    assert report.figure == "403 after 0.12 s by default/close-the-api rule 0"
    assert len(sound(deny.report(wrong, LOGS))) == 1


def samples(count: int, *, start: float = 0.0, status: int = 200, label: str = "v1") -> list[Sample]:
    return [Sample(at=start + 0.01 * n, elapsed=0.01, status=status, label=label) for n in range(count)]


def record(*parts: list[Sample]) -> Record:
    return Record(sample for part in parts for sample in part)


KILLED = instance.Measured(
    before=record(*(samples(20, label=version) for version in instance.VERSIONS)),
    without=record(samples(20), samples(20, label="v3")),
    after=record(*(samples(10, label=version) for version in instance.VERSIONS)),
    gone_s=1.2,
)


@pytest.mark.parametrize(
    ("wrong", "failures"),
    [
        (replace(KILLED, without=record(samples(20), samples(1, status=503))), 1),
        (replace(KILLED, without=Record()), 1),
        (replace(KILLED, without=record(samples(5, label="v2"))), 1),
        (replace(KILLED, after=record(samples(5))), 1),
        (replace(KILLED, before=Record(), without=Record(), after=Record()), 3),
    ],
)
def test_a_killed_instance_is_good_when_nobody_noticed(wrong: instance.Measured, failures: int) -> None:
    assert not sound(instance.report(KILLED, LOGS))
    assert len(sound(instance.report(wrong, LOGS))) == failures


AWAY = control_plane.Measured(
    quiet=record(samples(200)),
    restarted=record(samples(100), samples(30, start=2.0, status=503), samples(50, start=2.5)),
    killed=1.0,
    envoy_killed=1.9,
    envoy_back=2.5,
    released=3.2,
    in_sync=4.0,
    effect_s=0.1,
)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(AWAY, quiet=record(samples(200), samples(1, status=503))),
        replace(AWAY, quiet=Record()),
        replace(AWAY, restarted=record(samples(100), samples(1, start=2.7, status=503))),
        replace(AWAY, restarted=record(samples(1, start=1.5, status=503))),
        replace(AWAY, envoy_back=3.3),
        replace(AWAY, effect_s=3.5),
    ],
)
def test_an_absent_control_plane_is_good_when_only_the_killed_envoy_cost_anything(
    wrong: control_plane.Measured,
) -> None:
    report = control_plane.report(AWAY, LOGS)
    assert not sound(report)
    assert report.figure == "0 of 200 failed; Envoy's restart: 30 in 0.60 s"
    assert len(sound(control_plane.report(wrong, LOGS))) == 1


EDITED = edits.Measured(
    effects_s=(0.1, 0.2, 0.15),
    refusals=tuple(edits.Refusal(edit=edit, line=13, after_s=0.1, excerpt="x") for edit in edits.BROKEN),
    load=record(samples(40)),
)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(EDITED, effects_s=(0.1, 1.2)),
        replace(EDITED, effects_s=()),
        replace(EDITED, refusals=EDITED.refusals[:1]),
        replace(EDITED, refusals=tuple(replace(refusal, line=0) for refusal in EDITED.refusals)),
        replace(EDITED, load=record(samples(40), samples(1, status=503))),
        replace(EDITED, load=record(samples(40), samples(1, label="v3"))),
        replace(EDITED, load=Record()),
    ],
)
def test_edits_are_good_when_quick_and_when_bad_ones_change_nothing(wrong: edits.Measured) -> None:
    assert not sound(edits.report(EDITED, LOGS))
    assert len(sound(edits.report(wrong, LOGS))) == 1


def test_a_refused_edit_is_shown_as_every_command_shows_it() -> None:
    text = "spec:\n  weight: fifty\n"
    diagnostic: dict[str, str | int] = {
        "severity": "error",
        "code": "wrong-type",
        "kind": "VirtualService",
        "namespace": "default",
        "name": "reviews",
        "path": "spec.weight",
        "message": "a weight is a number",
        "file": "/mesh/config/reviews.yaml",
        "line": 2,
        "column": 11,
        "hint": "",
    }
    lines = edits.spell(diagnostic, text, Path("/mesh")).splitlines()
    assert "a weight is a number" in lines[0]
    assert "config/reviews.yaml:2:11" in lines[1]
    (caret,) = [line for line in lines if "^" in line]
    (quoted,) = [line for line in lines if "weight: fifty" in line]
    assert caret.index("^") == quoted.index("fifty")


def test_every_figure_fits_beside_its_title() -> None:
    reports: list[Callable[[], StepReport]] = [
        lambda: mtls.report(CALLS, LOGS),
        lambda: canary.report(SPLITS, LOGS),
        lambda: fault.report(FAULTS, LOGS),
        lambda: deny.report(DENIED, LOGS),
        lambda: instance.report(KILLED, LOGS),
        lambda: control_plane.report(AWAY, LOGS),
        lambda: edits.report(EDITED, LOGS),
    ]
    for report in reports:
        assert len(report().figure) <= 72
        assert len(report().about) <= 100
