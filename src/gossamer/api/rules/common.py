"""Rules that several kinds share.

Invariant: each says at most what is wrong at the place it is given, with a code that never changes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from gossamer.api import names
from gossamer.api.common import Exact, Percent, PortSelector, Prefix, Present, Regex, json_name
from gossamer.api.findings import At
from gossamer.api.positions import path_text
from gossamer.api.regex import regex_problem
from gossamer.api.structure import closest

PROTOCOLS: Final = (
    "HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "REDIS", "MYSQL", "UDP", "HBONE",
)  # fmt: skip

BOOLEAN_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
"""Annotations are strings; these mean true."""


def is_written(raw: Any, name: str) -> bool:
    """Whether the mapping `raw` has the field of this JSON name, in camelCase or snake_case, even if empty."""
    if not isinstance(raw, dict):
        return False
    if raw.get(name) is not None:
        return True
    return any("_" in key and json_name(key) == name and value is not None for key, value in raw.items())


def written(raw: Any, name: str) -> Any:
    """The value of the field of this JSON name as it was written, None when it was not."""
    if not isinstance(raw, dict):
        return None
    if name in raw:
        return raw[name]
    return next((value for key, value in raw.items() if "_" in key and json_name(key) == name), None)


def check(problem: str, at: At, code: str = "invalid-value") -> bool:
    """Say a problem, if there is one; returns whether all is well."""
    if problem:
        at.error(code, problem)
    return not problem


def check_port(number: int, at: At) -> None:
    if not 0 < number <= 65535:
        at.error("invalid-port", f"port must be between 1-65535, not {number}")


def check_port_selector(port: PortSelector | None, at: At) -> None:
    if port is not None:
        check_port(port.number, at["number"])


def check_protocol(protocol: str, at: At) -> None:
    if protocol.upper() not in PROTOCOLS:
        hint = closest(protocol.upper(), PROTOCOLS) or f"expected one of {', '.join(PROTOCOLS)}"
        at.error("invalid-protocol", f'unsupported protocol "{protocol}"', hint)


def check_percent(percent: Percent | None, at: At) -> None:
    if percent is not None:
        check_range(percent.value, 0, 100, at["value"])


def check_range(value: float, low: float, high: float, at: At) -> None:
    if not low <= value <= high:
        at.error("out-of-range", f"Invalid value: {value:g} must be between {low:g} and {high:g}")


def check_not_negative(value: int, at: At) -> None:
    if value < 0:
        at.error("out-of-range", f"Invalid value: {value} must not be negative")


def check_duration(value: timedelta | None, at: At) -> None:
    """At least a millisecond, where there is one."""
    if value is not None and value < timedelta(milliseconds=1):
        at.error("invalid-duration", "must be a valid duration greater than 1ms")


def check_labels(labels: Mapping[str, str], at: At) -> None:
    for key, value in labels.items():
        problem = names.label_problem(key, value)
        if problem:
            at[key].error("invalid-label", problem)


def check_selector(labels: Mapping[str, str], at: At, *, wildcard_message: str = "") -> None:
    """Labels that select: no wildcards, no empty key."""
    for key, value in labels.items():
        here = at[key]
        if not key:
            here.error("invalid-selector", "key must not be empty")
        elif "*" in key:
            here.error("invalid-selector", "wildcard not allowed in label key match")
        elif "*" in value:
            here.error("invalid-selector", wildcard_message or "wildcard not allowed in label value match")
        else:
            check(names.label_problem(key, value), here, "invalid-selector")


def check_unique(items: Iterable[tuple[Hashable, At]], what: str) -> None:
    """Say of each value that was there before that it is a duplicate."""
    seen = set()
    for value, at in items:
        if value in seen:
            at.error("duplicate-value", f'Duplicate value: {what} "{value}" is here twice')
        seen.add(value)


def check_export_to(export_to: Collection[str], at: At) -> None:
    for index, entry in enumerate(export_to):
        if entry not in (".", "*", "~"):
            check(names.namespace_problem(entry), at[index])
    check_unique(((entry, at[index]) for index, entry in enumerate(export_to)), "namespace")
    for alone, meaning in (("*", "everybody"), ("~", "nobody")):
        if alone in export_to and len(export_to) > 1:
            at.error("exclusive-values", f'"{alone}" exports to {meaning} and cannot stand beside other namespaces')


def check_string_match(match: Exact | Prefix | Regex | Present | None, at: At) -> None:
    """A prefix or a regex must say something, and the regex must be one to RE2."""
    if isinstance(match, Prefix) and not match.value:
        at["prefix"].error("empty-match", "prefix match must not be empty")
    elif isinstance(match, Regex):
        check_regex(match.value, at["regex"])


def check_regex(pattern: str, at: At) -> None:
    if not pattern:
        at.error("empty-match", "regex must not be empty")
    elif problem := regex_problem(pattern):
        at.error("invalid-regex", f"not a regular expression of RE2: {problem}")


def check_one_of(at: At, given: Mapping[str, bool]) -> bool:
    """Of the fields that exclude one another at most one may be written; returns whether that holds."""
    names_given = [name for name, present in given.items() if present]
    if len(names_given) > 1:
        at[names_given[1]].error("exclusive-fields", f"only one of {' or '.join(names_given)} can be set", on_key=True)
    return len(names_given) <= 1


def require(condition: object, at: At, message: str) -> bool:
    """Say `message` unless the condition holds; returns whether it does."""
    if not condition:
        at.error("required", message)
    return bool(condition)


def check_length(text: str, low: int, high: int, at: At) -> bool:
    """That a text is neither too short nor too long, in the words of Kubernetes' API server."""
    if len(text) < low:
        at.error("invalid-length", f"{path_text(at.path)} in body should be at least {low} chars long")
    elif len(text) > high:
        at.error("invalid-length", f"{path_text(at.path)} in body should be at most {high} chars long")
    return low <= len(text) <= high


def check_filled(texts: Iterable[str], at: At) -> None:
    """That no item of a list is empty."""
    for index, text in enumerate(texts):
        check_length(text, 1, len(text), at[index])


def check_count(items: Collection[Any], most: int, at: At) -> None:
    """That there are not too many items."""
    if len(items) > most:
        at.error("out-of-range", f"{path_text(at.path)} must have at most {most} items, not {len(items)}")


def check_pattern(text: str, pattern: str, at: At, hint: str = "") -> bool:
    """That all of a text is of a pattern, in the words of Kubernetes' API server."""
    if re.fullmatch(pattern, text):
        return True
    at.error("invalid-value", f'{path_text(at.path)} in body should match "{pattern}", not "{text}"', hint)
    return False
