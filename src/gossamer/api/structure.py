"""JSON-shaped values to the typed kinds, with every mistake told at once and in its author's terms.

Invariant: a value comes back only when nothing was said against it.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from gossamer.api.common import json_name
from gossamer.api.findings import At
from gossamer.api.positions import Path, path_text
from gossamer.core.frozen import FrozenMap

T = TypeVar("T")


@cache
def adapter_of(spec: Any) -> TypeAdapter[Any]:
    """pydantic's validator of a dataclass, built once (it takes milliseconds)."""
    return TypeAdapter(spec)


def build_typed(spec: type[T], value: object, at: At) -> T | None:
    """`value` as a `spec`, or None with errors said at `at`. A null field counts as not written, as in protobuf's
    JSON."""
    if not isinstance(value, dict):
        at.error("invalid-type", f"expected a mapping, not {describe(value)}")
        return None
    try:
        typed: T = adapter_of(spec).validate_python(value)  # type: ignore[arg-type]
        return typed
    except ValidationError as error:
        problems = error.errors(include_url=False)
    if any(problem["input"] is None for problem in problems):
        pruned = without_nulls(value)
        if pruned != value:
            return build_typed(spec, pruned, at)
    for problem in problems:
        _say(spec, problem, at)
    return None


def to_json(spec: type[T], value: T) -> str:
    """A typed value as JSON, what is at its default left out; `build_typed` reads it again."""
    adapter = adapter_of(spec)  # type: ignore[arg-type]
    dumped = adapter.dump_json(value, by_alias=True, exclude_defaults=True, fallback=_plain, warnings=False)
    return dumped.decode()


def _plain(value: object) -> object:
    if isinstance(value, FrozenMap):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not written as JSON")


def without_nulls(value: Any) -> Any:
    """The value without mapping entries that are null; null items of a list stay, for they are mistakes."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def describe(value: object) -> str:
    """A value as an error names it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + '..."'


def closest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to `name`, or the empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {matches[0]}?" if matches else ""


_EXPECTED: Final = {
    "string_type": "a string (quote it if it looks like something else)",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "dataclass_exact_type": "a mapping",
}


def _say(spec: type, problem: Any, at: At) -> None:
    """One of pydantic's errors in our words."""
    kind, location, given = problem["type"], problem["loc"], problem["input"]
    path = tuple(step for step in location if step != "[key]")
    here = at[path]
    if kind == "unexpected_keyword_argument":
        known = _names_at(spec, path[:-1])
        hint = closest(str(path[-1]), known) or (f"expected one of {', '.join(known)}" if len(known) <= 12 else "")
        here.error("unknown-field", f'unknown field "{path[-1]}"', hint, on_key=True)
    elif kind in ("missing", "missing_keyword_only_argument"):
        here.error("required", f"{path_text(here.path)}: Required value")
    elif kind == "enum":
        allowed = str(problem["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        hint = closest(str(given), allowed) or closest(str(given).upper(), allowed)
        here.error("invalid-value", f"Unsupported value: {describe(given)}; expected one of {', '.join(allowed)}", hint)
    elif kind in _EXPECTED:
        here.error("invalid-type", f"expected {_EXPECTED[kind]}, not {describe(given)}", _remedy(kind, given))
    elif kind in ("greater_than_equal", "less_than", "less_than_equal"):
        message = str(problem["msg"]).replace("Input should be", "must be")
        here.error("out-of-range", f"Invalid value: {describe(given)} {message}")
    else:
        code = kind if "-" in kind else "invalid-value"
        here.error(code, str(problem["msg"]), _remedy(kind, given))


def _remedy(kind: str, given: object) -> str:
    """How the same would be written, where that is plain."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    text = given if isinstance(given, str) else ""
    if text.isdecimal() and kind in ("int_type", "float_type"):
        return f"write {text} without quotes"
    if kind == "bool_type" and text.lower() in ("true", "false"):
        return f"write {text.lower()} without quotes"
    if kind == "string_type" and (number or isinstance(given, bool)):
        return f'write "{describe(given)}"'
    if kind == "tuple_type" and (text or number):
        return f"write [{given}]"
    if kind == "invalid-duration" and (number or text.isdecimal()):
        return f"write {given}s for seconds"
    if kind == "invalid-type" and text.startswith("/"):
        return f"write {{exact: {text}}} or {{prefix: {text}}}"
    return ""


def _names_at(spec: Any, path: Path) -> list[str]:
    """The JSON names of the fields of the message at `path` in a `spec`."""
    for step in path:
        spec = _step_into(message_in(spec), step)
    spec = message_in(spec)
    return [name_of(field.name, hints_of(spec)[field.name]) for field in fields(spec)] if is_dataclass(spec) else []


def hints_of(spec: Any) -> dict[str, Any]:
    """The type hints of a spec's fields, with what annotates them."""
    return _hints_of(spec)


@cache
def _hints_of(spec: Any) -> dict[str, Any]:
    return get_type_hints(spec, include_extras=True)


def name_of(field_name: str, hint: Any) -> str:
    """The JSON name of a field."""
    extras = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, FieldInfo) and extra.alias]
    return str(extras[0].alias) if extras else json_name(field_name)


def _step_into(spec: Any, step: str | int) -> Any:
    if is_dataclass(spec) and isinstance(spec, type):
        hints = hints_of(spec)
        return next((hint for name, hint in hints.items() if step in (name, name_of(name, hint))), None)
    arguments = get_args(spec)
    return arguments[0 if isinstance(step, int) else -1] if arguments else None


def message_in(hint: Any) -> Any:
    """What a type hint holds: Annotated and `| None` taken off."""
    origin = get_origin(hint)
    if origin is Annotated:
        return message_in(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return next((message_in(part) for part in get_args(hint) if part is not type(None)), None)
    return hint
