"""Whether a text is an expression of CEL, the Common Expression Language.

This follows the grammar of CEL's language definition; it says nothing about types or about which attributes there are.

Invariant: `cel_problem` never raises and takes time linear in the text.
"""

from __future__ import annotations

import re
from typing import Final

_RESERVED: Final = frozenset((
    "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
    "namespace", "return", "var", "void", "while",
))  # fmt: skip
_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s|//[^\n]*)+)
    |(?P<text>[bB]?(?:[rR](?:\"\"\"(?s:.*?)\"\"\"|'''(?s:.*?)'''|"[^"\n]*"|'[^'\n]*')
        |\"\"\"(?s:(?:\\.|[^\\])*?)\"\"\"|'''(?s:(?:\\.|[^\\])*?)'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<number>[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|0[xX][0-9a-fA-F]+[uU]?|[0-9]+[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_BINARY: Final = frozenset(("&&", "||", "<", "<=", ">", ">=", "==", "!=", "in", "+", "-", "*", "/", "%"))
_DEPTH: Final = 60


def cel_problem(expression: str) -> str:
    """What is wrong with `expression` as CEL; the empty string when nothing is."""
    try:
        _Reader(_tokens(expression)).read()
    except _SyntaxProblem as problem:
        return str(problem)
    return ""


class _SyntaxProblem(Exception):  # noqa: N818  (never leaves this module)
    pass


def _tokens(expression: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise _SyntaxProblem(f"{expression[at]!r} means nothing here")
        kind = str(match.lastgroup)
        if kind != "space":
            found.append((kind, match[0]))
        at = match.end()
    return found


class _Reader:
    """Binary operators all join two operands, so that their precedence does not matter to whether a text is valid."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = [*tokens, ("end", "the end")]
        self.at = 0
        self.depth = 0

    def read(self) -> None:
        self._expression()
        if self.tokens[self.at][0] != "end":
            self._unexpected()

    @property
    def _next(self) -> str:
        kind, text = self.tokens[self.at]
        return text if kind in ("sign", "name") else kind

    def _unexpected(self) -> None:
        raise _SyntaxProblem(f"unexpected {self.tokens[self.at][1]}")

    def _take(self, text: str) -> bool:
        taken = self._next == text
        self.at += taken
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise _SyntaxProblem(f"expected {text}, not {self.tokens[self.at][1]}")

    def _expression(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise _SyntaxProblem("it is nested too deeply")
        while True:
            self._operand()
            if self._take("?"):
                self._expression()
                self._expect(":")
                continue
            if self._next not in _BINARY:
                break
            self.at += 1
        self.depth -= 1

    def _operand(self) -> None:
        sign = self._next if self._next in ("!", "-") else ""
        while sign and self._take(sign):
            pass
        self._primary()
        while True:
            if self._take("."):
                self._identifier()
                if self._take("("):
                    self._items(")")
            elif self._take("["):
                self._expression()
                self._expect("]")
            elif self._next == "{" and self.tokens[self.at - 1][0] == "name":
                self.at += 1
                self._entries()
            else:
                return

    def _primary(self) -> None:
        if self.tokens[self.at][0] in ("text", "number"):
            self.at += 1
        elif self._take("("):
            self._expression()
            self._expect(")")
        elif self._take("["):
            self._items("]")
        elif self._take("{"):
            self._entries()
        else:
            self._take(".")
            self._identifier()
            if self._take("("):
                self._items(")")

    def _identifier(self) -> None:
        kind, text = self.tokens[self.at]
        if kind != "name" or text in _RESERVED or text == "in":
            self._unexpected()
        self.at += 1

    def _items(self, end: str) -> None:
        while not self._take(end):
            self._expression()
            if not self._take(","):
                self._expect(end)
                return

    def _entries(self) -> None:
        """Of a map, or the fields of a message."""
        while not self._take("}"):
            self._expression()
            self._expect(":")
            self._expression()
            if not self._take(","):
                self._expect("}")
                return
