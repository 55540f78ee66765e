"""Leaves that the kinds share: scalars by protobuf's JSON rules, durations, string matches, selectors.

Invariant: a value of these types is valid by itself; whether it makes sense beside its neighbours is said elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any, Final, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, PlainValidator, Strict
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gossamer.core.frozen import EMPTY, FrozenMap


def json_name(field_name: str) -> str:
    """The JSON name that protobuf derives from a field's: `http2_max_requests` is `http2MaxRequests`."""
    return re.sub(r"_(.)", lambda match: match.group(1).upper(), field_name.rstrip("_"))


STRICT: Final = ConfigDict(extra="forbid", alias_generator=json_name, validate_by_name=True, validate_by_alias=True)
"""For Istio's kinds: unknown fields are mistakes; protobuf's JSON takes camelCase and snake_case names alike."""
LENIENT: Final = ConfigDict(extra="ignore", alias_generator=json_name, validate_by_name=True, validate_by_alias=True)
"""For Kubernetes kinds, which carry much that is not for a mesh."""


class _Frozen:
    """Makes pydantic turn a validated dict into a FrozenMap."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        key, value = get_args(source)
        return core_schema.no_info_after_validator_function(FrozenMap, handler.generate_schema(dict[key, value]))  # type: ignore[valid-type]


FROZEN: Final = _Frozen()
StrMap = Annotated[FrozenMap[str, str], FROZEN]


def _freeze(value: object) -> object:
    if isinstance(value, dict):
        return FrozenMap({key: _freeze(item) for key, item in value.items()})
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value


JsonMap = Annotated[FrozenMap[str, Any], FROZEN, AfterValidator(_freeze)]
"""A JSON object of any shape."""


def _json_text(value: object) -> str:
    if not isinstance(value, dict):
        raise PydanticCustomError("invalid-type", "expected a mapping")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


JsonText = Annotated[str, PlainValidator(_json_text)]
"""A JSON object of any shape, as canonical JSON: unlike a map, it tells 1 from true."""

Boolean = Annotated[bool, Strict()]
Double = Annotated[float, Strict()]


def _integral(value: object) -> object:
    """JSON knows no difference between 1.0 and 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Int32 = Annotated[int, Strict(), Field(ge=-(2**31), lt=2**31), BeforeValidator(_integral)]
Int64 = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63), BeforeValidator(_integral)]
UInt32 = Annotated[int, Strict(), Field(ge=0, lt=2**32), BeforeValidator(_integral)]
UInt64 = Annotated[int, Strict(), Field(ge=0, lt=2**64), BeforeValidator(_integral)]


def _number_key(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11 else value


UInt32Key = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_number_key), Strict()]
"""A map's key: JSON writes it as a string."""

_DURATION: Final = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_DURATION_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_MAX_NANOSECONDS: Final = 2**63 - 1


def parse_nanoseconds(text: str) -> int | None:
    """A Go duration (`1h30m`, `0.5s`, `-5ms`, `0`) in nanoseconds; None when it is not one or longer than 292 years."""
    if len(text) > 64 or not _DURATION.fullmatch(text):
        return None
    parts = _DURATION_PART.findall(text)
    total = int(sum(Fraction(f"0{number}") * _UNIT_NANOSECONDS[unit] for number, unit in parts))
    if total > _MAX_NANOSECONDS:
        return None
    return -total if text.startswith("-") else total


def _duration(value: object) -> timedelta:
    found = parse_nanoseconds(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError(
            "invalid-duration",
            "Invalid value: {value} is not a duration; it must be a valid duration greater than 1ms, as in 1h30m",
            {"value": repr(value)},
        )
    if found % 1_000_000:
        raise PydanticCustomError("invalid-duration", "durations are told to the millisecond, not finer")
    return timedelta(milliseconds=found // 1_000_000)


Duration = Annotated[timedelta, PlainValidator(_duration, json_schema_input_type=str)]


def parse_base64(value: object) -> bytes:
    """Decoded; for use inside a validator, since it raises pydantic's error."""
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError("invalid-base64", "this is not base64") from None


Base64 = Annotated[bytes, PlainValidator(parse_base64, json_schema_input_type=str)]


@dataclass(frozen=True, slots=True)
class Exact:
    """Equal to the whole string."""

    value: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """What the string starts with."""

    value: str


@dataclass(frozen=True, slots=True)
class Regex:
    """RE2; it has to match the whole string."""

    value: str


@dataclass(frozen=True, slots=True)
class Present:
    """Written `{}`: any value, as long as there is one."""


def _string_match(value: object) -> Exact | Prefix | Regex | Present:
    if not isinstance(value, dict):
        raise PydanticCustomError("invalid-type", "expected one of exact, prefix or regex with a string")
    given = {key: text for key, text in value.items() if text is not None}
    unknown = [key for key in given if key not in ("exact", "prefix", "regex")]
    if unknown:
        message = "unknown field {name}; expected exact, prefix or regex"
        raise PydanticCustomError("unknown-field", message, {"name": unknown[0]})
    if len(given) > 1:
        raise PydanticCustomError("exclusive-fields", "only one of {names} can be set", {"names": ", ".join(given)})
    for key, text in given.items():
        if not isinstance(text, str):
            message = "{key} must be a string; quote it if it looks like a number"
            raise PydanticCustomError("invalid-type", message, {"key": key})
        return Exact(text) if key == "exact" else Prefix(text) if key == "prefix" else Regex(text)
    return Present()


StringMatch = Annotated[Exact | Prefix | Regex | Present, PlainValidator(_string_match)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSelector:
    """A port of a service, by number."""

    number: UInt32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Percent:
    """0.0 to 100.0."""

    value: Double = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSelector:
    """Workloads that carry all of these labels (`istio.type.v1beta1`); none of them: the whole namespace."""

    __pydantic_config__ = STRICT
    match_labels: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTargetReference:
    """The object that a policy is attached to."""

    kind: str
    name: str
    group: str = ""
    namespace: str = ""
