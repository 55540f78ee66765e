"""YAML as Kubernetes reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.api.reader import MAX_DEPTH, UnreadableError, read_value, split_documents
from gossamer.api.scalars import resolve_plain


def _read(text: str) -> tuple[Any, bool]:
    try:
        return read_value(text), False
    except UnreadableError:
        return None, True


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other and type(one) is type(other))


@pytest.mark.parametrize("name", ["documents", "scalars"])
def test_the_answers_of_kubernetes(cases: Path, name: str) -> None:
    wrong = []
    rows = json.loads((cases / "yaml" / f"{name}.json").read_text())
    for row in rows:
        value, refused = _read(row["yaml"] if name == "documents" else f"a: {row['yaml']}")
        if name == "scalars" and isinstance(value, dict):
            value = value["a"]
        if refused != row["error"] or not (refused or _same(value, row["json"])):
            wrong.append((row, value))
    assert len(rows) > 20
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("0777", 511),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("-0", 0),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("08", 8.0),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1e999", "1e999"),
        ("9080", 9080),
        ("10.0.0.1", "10.0.0.1"),
        ("True.", "True."),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert found == value
    assert type(found) is type(value)


def test_a_number_with_a_thousand_digits_is_a_float_or_text() -> None:
    assert resolve_plain("9" * 300) == float("9" * 300)
    assert resolve_plain("9" * 5000) == "9" * 5000


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' is here twice", 3, 1),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "the key 'c' is here twice", 4, 3),
        ("1: a\n'1': b\n", "the key '1' is here twice", 2, 1),
        ("a: [1, 2\nb: 3\n", "expected", 2, 2),
        ("a: *nowhere\n", "*nowhere refers to no finished anchor", 1, 4),
        ("a: &x [*x]\n", "*x refers to no finished anchor", 1, 8),
        ("? {a: 1}\n: 2\n", "a key must be a string", 1, 3),
        ("~: 1\n", "a key must be a string", 1, 1),
        ("a: .nan\n", "has no meaning in JSON", 1, 4),
        ("a: !!int x\n", "not of the type", 1, 4),
        ("a: \x07\n", "control characters are not allowed", 1, 4),
        ("ok: 1\na: \ud800\n", "not valid Unicode", 1, 1),
        ("a: {<<: 3}\n", "<< takes a mapping", 1, 9),
        ("a: 1\n--- \nb: 2\n", "a second document starts here", 2, 1),
    ],
)
def test_what_cannot_be_read_has_a_place(text: str, message: str, line: int, column: int) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_value(text)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (line, column)


def test_depth_is_bounded() -> None:
    assert read_value("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    for bomb in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000):
        with pytest.raises(UnreadableError, match="deeper"):
            read_value(bomb)


def test_aliases_share_but_do_not_explode() -> None:
    assert read_value("a: &x {b: [1]}\nc: *x\n") == {"a": {"b": [1]}, "c": {"b": [1]}}
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(UnreadableError, match="aliases add more than"):
        read_value("\n".join(lines))


def test_merge_keys() -> None:
    assert read_value("a: &x {b: 1}\nc: {<<: *x, d: 2}\n")["c"] == {"b": 1, "d": 2}
    assert read_value("a: &x {b: 1}\nc: &y {d: 2}\ne:\n  <<: [*x, *y]\n")["e"] == {"b": 1, "d": 2}
    with pytest.raises(UnreadableError, match="once through <<"):
        read_value("a: &x {b: 1}\nc: {<<: *x, b: 2}\n")


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("a: 1\n", [("a: 1\n", 0)]),
        ("a: 1\n---\nb: 2\n", [("a: 1\n", 0), ("---\nb: 2\n", 1)]),
        ("---\na: 1\n---\nb: 2\n", [("---\na: 1\n", 0), ("---\nb: 2\n", 2)]),
        ("# why\n---\na: 1\n", [("# why\n---\na: 1\n", 0)]),
        ("%YAML 1.1\n---\na: 1\n", [("%YAML 1.1\n---\na: 1\n", 0)]),
        ("a: |\n  ---\n  x\n", [("a: |\n  ---\n  x\n", 0)]),
        ("a: ---\n----\n", [("a: ---\n----\n", 0)]),
        ("a: 1\n--- {b: 2}\n", [("a: 1\n", 0), ("--- {b: 2}\n", 1)]),
        ("a: 1\r\n---\r\nb: 2\r\n", [("a: 1\r\n", 0), ("---\r\nb: 2\r\n", 1)]),
        ("\ufeffa: 1\n---", [("a: 1\n", 0), ("---", 1)]),
    ],
)
def test_splitting(text: str, chunks: list[tuple[str, int]]) -> None:
    assert [(chunk.text, chunk.line) for chunk in split_documents(text)] == chunks
