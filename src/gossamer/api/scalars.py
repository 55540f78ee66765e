"""What a plain YAML scalar means to Kubernetes, which reads YAML 1.1 by rules of its own and makes JSON of it.

`yes`, `on` and `y` are booleans, `0777` is octal, `1_000` is a number, `1:30` and dates stay strings, and a number
that JSON cannot write (`.nan`, `.inf`) is refused.

Invariant: `resolve_plain` returns None, a bool, an int that fits 64 bits, a finite float, or the text as it stands.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Final

Scalar = None | bool | int | float | str

_TRUE: Final = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE: Final = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_NULL: Final = ("", "~", "null", "Null", "NULL")
_WORDS: Final[dict[str, Scalar]] = (
    dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False) | dict.fromkeys(_NULL, None)
)
_NOT_FINITE: Final = frozenset(
    (*(".nan", ".NaN", ".NAN"), *(sign + word for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")))
)
_INTEGER: Final = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<binary>[01]+)|0[oO]?(?P<octal>[0-7]+)|(?P<decimal>0|[1-9][0-9]*))"
)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES: Final = (("hex", 16), ("binary", 2), ("octal", 8), ("decimal", 10))
_NUMBER_STARTS: Final = frozenset("0123456789+-.")


class ScalarError(ValueError):
    """The scalar is not what its tag promises, or JSON has no way to write it."""


def _number(text: str) -> Scalar:
    plain = text.replace("_", "")
    whole = _INTEGER.fullmatch(plain)
    if whole:
        base, digits = next((base, whole[name]) for name, base in _BASES if whole[name])
        value = int(whole["sign"] + digits, base) if len(digits) < 70 else 2**65
        if -(2**63) <= value < (2**63 if whole["sign"] else 2**64):
            return value
    if _FLOAT.fullmatch(text if text.startswith(".") else plain):
        number = float(plain)
        return number if math.isfinite(number) else text
    return text


def resolve_plain(text: str) -> Scalar:
    """The value of an unquoted scalar without a tag. Raises ScalarError for `.nan` and `.inf`."""
    if text[:1] not in _NUMBER_STARTS:
        return _WORDS.get(text, text)
    if text in _NOT_FINITE:
        raise ScalarError(f"{text} has no meaning in JSON; quote it if it is meant as text")
    return _number(text)


_TAG: Final = "tag:yaml.org,2002:"
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}


def resolve_tagged(tag: str, text: str) -> Scalar:
    """The value of a scalar that carries a tag. Raises ScalarError when the two do not fit."""
    name = tag.removeprefix(_TAG) if tag.startswith(_TAG) else ""
    if name == "binary":
        try:
            return base64.b64decode("".join(text.split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ScalarError("!!binary is not base64 of UTF-8 text") from None
    if name not in _TYPES:
        return text
    value = resolve_plain(text)
    if type(value) not in _TYPES[name]:
        raise ScalarError(f"{text!r} is not of the type !!{name}")
    return value
