"""Tables of what was seen stay within their bounds, whatever callers send, and lose nothing without counting it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossamer.sources.path_classes import UNSPELT, PathClasses, is_class, spelt
from gossamer.sources.seen import (
    ADDRESSES,
    PATHS,
    PLAINTEXT,
    ROWS,
    Group,
    Observed,
    Row,
    SeenTable,
    Tally,
    Verdict,
)

SEGMENTS = st.text(alphabet="ab*{?#é\n", max_size=4)
PATHS_SENT = st.lists(SEGMENTS, max_size=4).map(lambda parts: "/" + "/".join(parts)) | st.text(max_size=12)


def group(caller: str = "spiffe://td/ns/a/sa/b", verdict: str = "allowed", **other: str) -> Group:
    return Group(caller, 80, "http", other.get("method", "GET"), verdict, other.get("by", ""), other.get("would", ""))


def row(path: str, count: int = 1, at: float = 1.0, of: Group | None = None) -> Row:
    return Row(group=of or group(), path=path, tally=Tally(count, at, at))


@given(st.lists(PATHS_SENT, max_size=60))
def test_every_path_has_one_class_that_a_policy_would_match(paths: list[str]) -> None:
    classes = PathClasses(10)
    for path in paths:
        classes.take(spelt(path))
        assert len(classes) <= 10
    for path in paths:
        kept = spelt(path)
        found = classes.find(kept)
        assert found is not None
        assert is_class(found)
        if found.endswith("/*"):
            assert kept.startswith(found[:-1])
        else:
            assert found == kept


def test_many_of_a_kind_become_a_beginning_and_the_others_stay() -> None:
    classes = PathClasses(20)
    for path in ("/health", "/orders", *(f"/users/{number}/name" for number in range(100))):
        classes.take(path)
    assert [classes.find(path) for path in ("/health", "/users/7/name", "/users", "/other")] == [
        "/health",
        "/users/*",
        None,
        None,
    ]


def test_what_a_caller_sends_is_never_a_pattern() -> None:
    assert [spelt(path) for path in ("/*", "/a/*", "/{**}", "/a*", "*", "x", "/\x1b[2J")] == [UNSPELT] * 7
    assert spelt("/a?b=/*") == "/a"
    assert spelt("") == ""
    assert spelt("/" + "a" * 500) == UNSPELT, "a beginning of it would be everything"
    assert spelt("/b/" + "a" * 500) == "/b/*"


def test_a_table_hands_over_what_came_since_and_counts_the_rest() -> None:
    observed = Observed()
    for number in range(5):
        observed.add(group(), f"/{number}", float(number))
    observed.add(group(), "/4", 9.0)
    rows, taken, unrecorded = observed.take()
    assert (sum(one.tally.count for one in rows), taken, unrecorded) == (6, 6, 0)
    assert [(one.path, one.tally.first, one.tally.last) for one in rows][-1] == ("/4", 4.0, 9.0)
    assert observed.take() == ([], 0, 0)
    for number in range(ROWS + 10):
        observed.add(group(method=str(number)), "/", 1.0)
    rows, taken, unrecorded = observed.take()
    assert (len(rows), taken, unrecorded) == (ROWS, ROWS + 10, 10)


def test_addresses_of_callers_without_identity_are_bounded() -> None:
    observed = Observed()
    for number in range(ADDRESSES + 50):
        observed.add(group(f"{PLAINTEXT}10.0.0.{number}"), "/", 1.0)
    callers = {one.group.caller: one.tally.count for one in observed.take()[0]}
    assert len(callers) == ADDRESSES + 1
    assert callers[f"{PLAINTEXT}others"] == 50


def test_a_connection_that_lasts_is_counted_when_it_has_ended() -> None:
    observed = Observed()
    for at in (1.0, 61.0):
        observed.add(group(), "", at, lasts=True)
    assert [one.tally for one in observed.take()[0]] == [Tally(0, 1.0, 61.0)]
    observed.add(group(), "", 99.0)
    assert [one.tally for one in observed.take()[0]] == [Tally(1, 99.0, 99.0)]


@given(st.lists(st.tuples(PATHS_SENT, st.integers(1, 5), st.floats(0, 100)), max_size=80))
def test_no_count_is_lost_on_the_way(sent: list[tuple[str, int, float]]) -> None:
    observed, table = Observed(), SeenTable()
    for number, (path, count, at) in enumerate(sent):
        for _ in range(count):
            observed.add(group(verdict=Verdict.DENIED if number % 3 else Verdict.ALLOWED), spelt(path), at)
        if number % 7 == 0:
            for one in observed.take()[0]:
                table.add(one)
    for one in observed.take()[0]:
        table.add(one)
    rows = list(table.rows())
    assert sum(one.tally.count for one in rows) == sum(count for _, count, _ in sent)
    assert len(rows) == len(table) == len({(one.group, one.path) for one in rows})
    if sent:
        assert (min(r.tally.first for r in rows), max(r.tally.last for r in rows)) == (
            min(at for _, _, at in sent),
            max(at for _, _, at in sent),
        )


def test_a_beginning_takes_over_what_was_told_before() -> None:
    table = SeenTable()
    for number in range(10):
        table.add(row(f"/a/{number}", at=float(number)))
    table.add(row("/b"))
    table.add(row("/a/*", 5, 20.0))
    assert [(one.path, one.tally) for one in table.rows()] == [
        ("/a/*", Tally(15, 0.0, 20.0)),
        ("/b", Tally(1, 1.0, 1.0)),
    ]
    assert len(table) == 2
    table.forget(2.0)
    assert [one.path for one in table.rows()] == ["/a/*"]


def test_a_table_is_bounded() -> None:
    table = SeenTable()
    for number in range(200):
        for path in range(PATHS + 5):
            table.add(row(f"/{path % 3}/x{path}", of=group(method=str(number))))
    assert len(table) <= ROWS
    assert sum(one.tally.count for one in table.rows()) + table.unrecorded == 200 * (PATHS + 5)
