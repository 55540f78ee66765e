"""Syntax errors say what to do about them."""

from __future__ import annotations

import pytest

from gossamer.api.reader import UnreadableError, read_value


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("a:\n\tb: 1\n", "a tab cannot indent", 2),
        ("a: b: c\n", "quote the value", 1),
        ("a:\n  b: 1\n c: 2\n", "indentation", 3),
        ('a: "x\n', "never closed", 2),
        ("a: [x, y\nb: 1\n", "bracket", 2),
        ("hosts:\n- *.example.com\n", "alias", 2),
        ("a: @x\n", "quote it", 1),
    ],
)
def test_a_syntax_error_is_explained(text: str, words: str, line: int) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_value(text)
    assert words in caught.value.message
    assert caught.value.line == line
