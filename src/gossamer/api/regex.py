"""Whether a regular expression is one to RE2, which Envoy matches with.

RE2 has no look-around and no back-references, repeats at most 1,000 times and knows escapes that Python does not, so
Python's own compiler cannot tell. This follows RE2's published syntax.

Invariant: `regex_problem` never raises and takes time linear in the pattern.
"""

from __future__ import annotations

import re
from typing import Final

_GROUP: Final = re.compile(r"\(\?(?:P?<(?P<name>[A-Za-z0-9_]+)>|(?P<flags>[imsU]*(?:-[imsU]+)?)(?P<end>[:)]))")
_REPEAT: Final = re.compile(r"\{(\d+)(,(\d*))?\}")
_ESCAPE: Final = re.compile(
    r"\\(?:[0-7]{2,3}|0|x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]{1,8}\}|[pP](?:[A-Z]|\{\^?[A-Za-z_]+\})"
    r"|[aftnrvdDsSwW]|[^A-Za-z0-9\s\x80-\U0010ffff]|\s)"
)
_ASSERTION: Final = re.compile(r"\\[bBAzC]")
_POSIX: Final = re.compile(r"\[:\^?([a-z]+):\]")
_POSIX_NAMES: Final = (
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
)  # fmt: skip


def regex_problem(pattern: str) -> str:
    """What is wrong with `pattern` as RE2 reads it; the empty string when nothing is."""
    try:
        _Reader(pattern).read()
    except _SyntaxProblem as problem:
        return str(problem)
    return ""


class _SyntaxProblem(Exception):  # noqa: N818  (never leaves this module)
    pass


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0
        self.names: set[str] = set()
        self.repeatable = False
        """Whether what was just read can be followed by a repetition."""
        self.repeated = False

    def read(self) -> None:
        while self.at < len(self.pattern):
            self._token(self.pattern[self.at])
        if self.depth:
            raise _SyntaxProblem("missing closing )")

    def _token(self, char: str) -> None:
        if char == "\\":
            self._escape()
        elif char == "[":
            self._class()
        elif char == "(":
            self._group()
        elif char == ")":
            if not self.depth:
                raise _SyntaxProblem("unexpected )")
            self.depth -= 1
            self._atom(1)
        elif char == "|":
            self.at += 1
            self.repeatable = self.repeated = False
        elif char in "*+?":
            self._repetition(1)
        elif char == "{" and (found := _REPEAT.match(self.pattern, self.at)):
            low = int(found[1][:9])
            high = int(found[3][:9]) if found[3] else low
            if low > 1000 or high > 1000 or low > high:
                raise _SyntaxProblem(f"invalid repeat count {found[0]}")
            self._repetition(len(found[0]))
        else:
            self._atom(1)

    def _atom(self, length: int) -> None:
        self.at += length
        self.repeatable, self.repeated = True, False

    def _repetition(self, length: int) -> None:
        operator = self.pattern[self.at : self.at + length]
        if self.repeated:
            raise _SyntaxProblem(f"invalid nested repetition operator {operator}")
        if not self.repeatable:
            raise _SyntaxProblem(f"missing argument to repetition operator {operator}")
        self.at += length
        if self.pattern[self.at : self.at + 1] == "?":
            self.at += 1
        self.repeated = True

    def _group(self) -> None:
        self.repeatable = self.repeated = False
        if not self.pattern.startswith("(?", self.at):
            self.at += 1
            self.depth += 1
            return
        found = _GROUP.match(self.pattern, self.at)
        if not found:
            raise _SyntaxProblem(f"invalid group {self.pattern[self.at : self.at + 4]}; RE2 has no look-around")
        if found["name"]:
            if found["name"] in self.names:
                raise _SyntaxProblem(f"duplicate group name {found['name']}")
            self.names.add(found["name"])
        self.at = found.end()
        if found["end"] != ")":
            self.depth += 1
        elif not found["flags"]:
            raise _SyntaxProblem("missing argument to (?)")

    def _escape(self) -> None:
        if self.pattern.startswith("\\Q", self.at):
            end = self.pattern.find("\\E", self.at)
            self._atom((end + 2 if end >= 0 else len(self.pattern)) - self.at)
            return
        found = _ESCAPE.match(self.pattern, self.at) or _ASSERTION.match(self.pattern, self.at)
        if not found:
            raise _SyntaxProblem(f"invalid escape sequence {self.pattern[self.at : self.at + 2]}")
        self._atom(len(found[0]))

    def _class(self) -> None:
        start = self.at
        self.at += 1
        if self.pattern[self.at : self.at + 1] == "^":
            self.at += 1
        first = True
        while first or self.pattern[self.at : self.at + 1] != "]":
            if self.at >= len(self.pattern):
                raise _SyntaxProblem("missing closing ]")
            first = False
            posix = _POSIX.match(self.pattern, self.at)
            if posix:
                if posix[1] not in _POSIX_NAMES:
                    raise _SyntaxProblem(f"invalid character class {posix[0]}")
                self.at = posix.end()
                continue
            low = self._class_member()
            after = self.pattern[self.at + 1 : self.at + 2]
            if self.pattern[self.at : self.at + 1] == "-" and after not in ("]", ""):
                self.at += 1
                high = self._class_member()
                if low and high and low > high:
                    raise _SyntaxProblem(f"invalid range {low}-{high} in {self.pattern[start : self.at]}]")
        self._atom(1)

    def _class_member(self) -> str:
        """Reads one member; returns it when it is a plain character."""
        char = self.pattern[self.at]
        if char != "\\":
            self.at += 1
            return char
        found = _ESCAPE.match(self.pattern, self.at)
        if not found:
            raise _SyntaxProblem(f"invalid escape sequence {self.pattern[self.at : self.at + 2]}")
        self.at = found.end()
        return ""
