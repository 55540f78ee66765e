"""RE2's regular expressions, which Envoy matches with, on Python's `re`.

Both agree on what the common syntax means once it is spelt alike, which `translate` does: classes are ASCII only, `$`
is the end of the text, not before a last newline; `\\z`, `\\Q..\\E`, `\\x{..}` and POSIX classes get Python's form.
Envoy always matches the whole string, where leftmost-first and leftmost-longest cannot differ. What remains different:
RE2 takes linear time and `re` may not; RE2 sees bytes where `re` sees characters beyond ASCII (they agree on valid
UTF-8); Unicode classes (`\\pL`), `\\C` and the flag `U` are not known here.

Invariant: a pattern that is not translated faithfully raises NotSimulatedError; it never matches by accident.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from gossamer.api.regex import regex_problem
from gossamer.simulate.notes import NotSimulatedError

_POSIX: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_NOT_SPACE: Final = r"[^\t\n\f\r ]"
_TOKEN: Final = re.compile(
    r"""\\Q(?P<quoted>.*?)(?:\\E|\Z)
    | \\x\{(?P<hex>[0-9A-Fa-f]+)\}
    | \\(?P<octal>[0-7]{1,3})
    | \\(?P<escape>.)
    | \(\?P?<(?P<name>\w+)>
    | \(\?(?P<flags>[a-zA-Z-]*)(?P<end>[:)])
    | (?P<open>\[\^?\]?)
    | (?P<brace>\{(?!\d+(?:,\d*)?\}))
    | (?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)
_IN_CLASS: Final = re.compile(
    r"\[:(?P<inverse>\^?)(?P<posix>[a-z]+):\]|\\x\{(?P<hex>[0-9A-Fa-f]+)\}|\\(?P<octal>[0-7]{1,3})|\\(?P<escape>.)"
    r"|(?P<end>\])|(?P<plain>.)",
    re.DOTALL,
)
_CLASS_ESCAPES: Final = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r ", "D": r"\D", "W": r"\W"}
_SPECIAL_IN_CLASS: Final = "[&~|"


@lru_cache(maxsize=4096)
def compile_regex(pattern: str) -> re.Pattern[str]:
    """A pattern whose `fullmatch` answers what Envoy would. NotSimulatedError where that cannot be promised."""
    problem = regex_problem(pattern)
    if problem:
        raise NotSimulatedError(f"the regular expression {pattern!r}, which is none to RE2: {problem}")
    try:
        return re.compile(translate(pattern), re.ASCII)
    except (re.error, OverflowError) as error:
        raise NotSimulatedError(f"the regular expression {pattern!r}, which has no equal in Python: {error}") from error


def matches_whole(pattern: str, text: str) -> bool:
    """Whether RE2's `FullMatch` would succeed."""
    return compile_regex(pattern).fullmatch(text) is not None


def substitute(pattern: str, replacement: str, text: str) -> str:
    """RE2's `GlobalReplace`: every match, `\\1` to `\\9` its groups and `\\0` all of it."""

    def replaced(match: re.Match[str]) -> str:
        return re.sub(r"\\(\d|\\)", lambda part: "\\" if part[1] == "\\" else match[int(part[1])] or "", replacement)

    return compile_regex(pattern).sub(replaced, text)


def translate(pattern: str) -> str:
    """The pattern as Python spells it."""
    parts: list[str] = []
    flags = ""
    at = 0
    multiline = False
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        assert token is not None
        at = token.end()
        if token["quoted"] is not None:
            parts.append(re.escape(token["quoted"]))
        elif token["open"] is not None:
            text, at = _class(pattern, at, token["open"])
            parts.append(text)
        elif token["name"]:
            parts.append(f"(?P<{token['name']}>")
        elif token["flags"] is not None:
            multiline = multiline or "m" in token["flags"].partition("-")[0]
            text, flags = _flags(token["flags"], token["end"], flags, first=not parts)
            parts.append(text)
        elif token["brace"]:
            parts.append(r"\{")
        elif token["plain"] == "$":
            parts.append("$" if multiline else r"\Z")
        else:
            parts.append(_single(token))
    return f"(?{flags}:{''.join(parts)})" if flags else "".join(parts)


def _flags(flags: str, end: str, already: str, *, first: bool) -> tuple[str, str]:
    """A group's opening; flags that stand alone hold for what follows, which Python only has for the whole pattern."""
    on, _, off = flags.partition("-")
    if "U" in on or "U" in off:
        raise NotSimulatedError("regular expressions with the flag U (ungreedy)")
    if end == ":":
        return f"(?{flags}:", already
    if not first or off:
        raise NotSimulatedError(f"a regular expression that sets flags in its middle, (?{flags})")
    return "", already + on


def _single(token: re.Match[str]) -> str:
    if token["hex"]:
        return re.escape(_character(int(token["hex"], 16)))
    if token["octal"]:
        return re.escape(chr(int(token["octal"], 8)))
    escape = token["escape"]
    if escape is None:
        return token[0]
    if escape == "z":
        return r"\Z"
    if escape == "s":
        return r"[\t\n\f\r ]"
    if escape == "S":
        return _NOT_SPACE
    if escape in "pPC":
        raise NotSimulatedError(f"regular expressions with \\{escape}")
    return token[0] if escape.isalnum() else re.escape(escape)


def _class(pattern: str, at: int, opening: str) -> tuple[str, int]:
    """A bracket expression after its opening; returns it with the place after it."""
    parts = [opening.replace("]", r"\]")]
    while True:
        token = _IN_CLASS.match(pattern, at)
        if token is None:
            raise NotSimulatedError(f"the regular expression {pattern!r} with an open bracket")
        at = token.end()
        if token["end"]:
            return "".join(parts) + "]", at
        parts.append(_in_class(token))


def _in_class(token: re.Match[str]) -> str:
    if token["posix"]:
        if token["inverse"]:
            raise NotSimulatedError(f"the character class {token[0]}")
        return _POSIX[token["posix"]]
    if token["hex"]:
        return re.escape(_character(int(token["hex"], 16)))
    if token["octal"]:
        return re.escape(chr(int(token["octal"], 8)))
    escape = token["escape"]
    if escape is None:
        return "\\" + token["plain"] if token["plain"] in _SPECIAL_IN_CLASS else str(token["plain"])
    if escape in "pPS":
        raise NotSimulatedError(f"a character class with \\{escape}")
    return _CLASS_ESCAPES.get(escape) or (token[0] if escape.isalnum() else re.escape(escape))


def _character(code: int) -> str:
    if code > 0x10FFFF:
        raise NotSimulatedError(f"\\x{{{code:x}}}, which is no character")
    return chr(code)
