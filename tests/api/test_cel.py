"""Which texts are expressions of CEL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.api.cel import cel_problem


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        "response.code >= 400 && !has(request.auth)",
        "a ? b : c ? d : e",
        "request.headers['x-a'].startsWith(r\"b\\d\")",
        "{'a': 1, 'b': [2u, 0x1F, 3.5e-2,],}[key].size() == -1",
        "Account{id: 'x', nested.field: 1}.id in ['x', '''y\n''']",
        ".google.protobuf.Duration{seconds: 1} != null",
        "size(xs.filter(x, x % 2 == 0 || x > 3)) // a comment",
        "xds.node['id']",
        '"\\"quoted\\""',
    ],
)
def test_expressions(expression: str) -> None:
    assert cel_problem(expression) == ""


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "unexpected the end"),
        (")++++", "unexpected )"),
        ("a ==", "unexpected the end"),
        ("a b", "unexpected b"),
        ("a = b", "'=' means nothing here"),
        ("f(a", "expected ), not the end"),
        ("a ? b", "expected :, not the end"),
        ("'open", "means nothing here"),
        ("while", "unexpected while"),
        ("a.if", "unexpected if"),
        ("a..b", "unexpected ."),
        ("[1,,2]", "unexpected ,"),
        ("{1}", "expected :, not }"),
        ("%REQ(x)%", "unexpected %"),
        ("(" * 100 + ")" * 100, "nested too deeply"),
    ],
)
def test_what_is_none(expression: str, problem: str) -> None:
    assert problem in cel_problem(expression)


@given(st.text(alphabet="ab.()[]{}?:,'\"\\ +-!&|<>=%1x\n", max_size=80))
def test_it_never_raises(expression: str) -> None:
    assert isinstance(cel_problem(expression), str)
