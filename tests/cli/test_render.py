"""Diagnostics and data as they are printed, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json

import pytest
import yaml

from gossamer.cli.render import Output, print_data, print_diagnostics, print_table, summary, wrapped
from gossamer.core.diagnostics import Diagnostic, Position, Severity


def problem(line: int, column: int, severity: Severity = Severity.ERROR, **more: str) -> Diagnostic:
    given = {"code": "bad-thing", "message": "this is wrong", "kind": "Service", "namespace": "a", "name": "b", **more}
    return Diagnostic(severity=severity, position=Position(file="f.yaml", line=line, column=column), **given)


def printed(diagnostic: Diagnostic, text: str) -> list[str]:
    stream = io.StringIO()
    print_diagnostics([diagnostic], {"f.yaml": text}, file=stream)
    return stream.getvalue().splitlines()


def test_a_diagnostic_shows_its_line_and_what_to_do() -> None:
    found = printed(problem(2, 3, path="spec.timout", hint="did you mean timeout?"), "spec:\n  timout: 5s\n")
    assert found == [
        "error[bad-thing]: this is wrong",
        " --> f.yaml:2:3",
        "     in Service a/b spec.timout",
        "  |",
        "2 |   timout: 5s",
        "  |   ^^^^^^",
        "  = help: did you mean timeout?",
        "",
    ]


@pytest.mark.parametrize(
    ("line", "column", "marked"),
    [
        ("  weight: 5", 11, "5"),
        ("  timeout: 2 seconds  # long", 12, "2 seconds"),
        ('  host: "a b"', 9, '"a b"'),
        ("  a: {b: c, d: e f}", 16, "e f"),
        ("  a: {b: c, d: e f}", 13, "d"),
        ("- host: x", 1, "-"),
        ("  url: http://a:80/x", 8, "http://a:80/x"),
        ("  key with words: 1", 3, "key with words"),
        ("  'quo''ted': 1", 3, "'quo''ted'"),
        ("  regex: a{2}", 10, "a"),
        ("  only:", 3, "only"),
        ("  x: a#b", 6, "a#b"),
        ("  [", 3, "["),
    ],
)
def test_the_caret_covers_the_key_or_value(line: str, column: int, marked: str) -> None:
    carets = next(text for text in printed(problem(1, column), line) if "^" in text)
    assert carets == f"  | {' ' * (column - 1)}{'^' * len(marked)}"


def test_places_that_do_not_exist_show_no_line() -> None:
    for line, column in ((0, 0), (9, 1)):
        assert not any("|" in text for text in printed(problem(line, column), "a: 1\n"))
    assert printed(Diagnostic(severity=Severity.ERROR, code="c", message="m"), "") == ["error[c]: m", ""]


def test_the_worst_stands_last() -> None:
    stream = io.StringIO()
    order = [Severity.ERROR, Severity.INFO, Severity.WARNING]
    print_diagnostics([problem(1, 1, severity) for severity in order], {}, file=stream)
    shown = [line.partition("[")[0] for line in stream.getvalue().splitlines() if "[bad-thing]" in line]
    assert shown == ["info", "warning", "error"]


def test_a_long_line_is_cut_and_a_tab_is_one_character() -> None:
    found = printed(problem(1, 2), f"\t{'x' * 500}")
    assert len(max(found, key=len)) < 220
    assert found[4].startswith("1 |  xxx")
    assert found[5].startswith("  |  ^^^")


def test_lines_fit_the_terminal() -> None:
    assert wrapped("one two three", 8, indent="  ") == ["one two", "  three"]
    assert wrapped("outbound|80||some-very-long-name.example", 8, indent="") == [
        "outbound|80||some-very-long-name.example"
    ]
    assert wrapped("one two three", 0, indent="  ") == ["one two three"]


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for no_colour, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_colour)
        stream = Terminal()
        print_diagnostics([problem(1, 1)], {"f.yaml": "a: 1"}, file=stream)
        assert ("\x1b[1;31m" in stream.getvalue()) == coloured


def test_data_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"b": [1, "é"], "a": None}
    print_data(value, Output.JSON)
    assert json.loads(capsys.readouterr().out) == value
    print_data(value, Output.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == value
    print_table(("NAME", "WHAT"), [("a" * 150, "[b]x[/b]"), ("b", "y")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "WHAT"]
    assert lines[1].split() == ["a" * 150, "[b]x[/b]"]
    assert lines[1].index("[b]") == lines[2].index("y")


def test_the_summary_counts() -> None:
    found = [problem(1, 1), problem(1, 1), problem(1, 1, Severity.WARNING)]
    assert summary(found, 1, 2) == "2 errors, 1 warning in 1 file (2 resources)"
    assert summary([], 0, 0) == "no problems in no files (no resources)"
