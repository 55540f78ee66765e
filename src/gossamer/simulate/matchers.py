"""Envoy's common matchers: strings, headers, query parameters, addresses, values, fractions.

Invariant: pure functions of a message and what it looks at. Where Envoy's documents leave doubt they follow Envoy 1.40
as it was observed to behave (`tests/simulate/test_against_envoy.py`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.matcher.v3.value_pb2 import ValueMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent

from gossamer.simulate.headers import Headers
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.regex import matches_whole

_DENOMINATORS: Final = {
    FractionalPercent.HUNDRED: 100,
    FractionalPercent.TEN_THOUSAND: 10_000,
    FractionalPercent.MILLION: 1_000_000,
}


def matches_string(matcher: StringMatcher, text: str) -> bool:
    """`ignore_case` does not reach regular expressions."""
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return matches_whole(matcher.safe_regex.regex, text)
    if kind is None or kind == "custom":
        raise NotSimulatedError("string matchers by extension")
    wanted: str = getattr(matcher, kind)
    if matcher.ignore_case:
        wanted, text = wanted.lower(), text.lower()
    if kind == "exact":
        return text == wanted
    if kind == "prefix":
        return text.startswith(wanted)
    if kind == "suffix":
        return text.endswith(wanted)
    return wanted in text


def matches_header(matcher: HeaderMatcher, headers: Headers) -> bool:
    """Each value of a repeated header is looked at by itself and one that matches is enough; a missing header matches
    neither way unless it counts as empty, or unless presence itself is what is asked."""
    values = headers.all(matcher.name)
    kind = matcher.WhichOneof("header_match_specifier")
    if kind is None or kind == "present_match":
        wanted = matcher.present_match if kind else True
        missing = not values and not matcher.treat_missing_header_as_empty
        return (missing != wanted) != matcher.invert_match
    if not values:
        if not matcher.treat_missing_header_as_empty:
            return False
        values = [""]
    return any(_matches_header_value(matcher, kind, value) for value in values) != matcher.invert_match


def _matches_header_value(matcher: HeaderMatcher, kind: str, value: str) -> bool:
    if kind == "string_match":
        return matches_string(matcher.string_match, value)
    if kind == "range_match":
        try:
            return matcher.range_match.start <= int(value) < matcher.range_match.end
        except ValueError:
            return False
    if kind == "safe_regex_match":
        return matches_whole(matcher.safe_regex_match.regex, value)
    wanted: str = getattr(matcher, kind)
    if kind == "exact_match":
        return value == wanted
    if kind == "prefix_match":
        return value.startswith(wanted)
    if kind == "suffix_match":
        return value.endswith(wanted)
    return wanted in value


def matches_headers(matchers: Iterable[HeaderMatcher], headers: Headers) -> bool:
    """Whether all of them match."""
    return all(matches_header(matcher, headers) for matcher in matchers)


def without_query(path: str) -> str:
    """The path up to its query or fragment."""
    return path.partition("?")[0].partition("#")[0]


def query_values(path: str) -> dict[str, str]:
    """The first value of each query parameter, as it is written (nothing is decoded)."""
    found: dict[str, str] = {}
    for part in path.partition("#")[0].partition("?")[2].split("&"):
        name, _, value = part.partition("=")
        if part:
            found.setdefault(name, value)
    return found


def matches_query(matcher: QueryParameterMatcher, values: Mapping[str, str]) -> bool:
    """Whether the parameter is there (or, if so asked, is not) and its first value is right."""
    value = values.get(matcher.name)
    kind = matcher.WhichOneof("query_parameter_match_specifier")
    if kind == "string_match":
        return value is not None and matches_string(matcher.string_match, value)
    return (value is not None) == (matcher.present_match if kind else True)


@lru_cache(maxsize=65536)
def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address; None for what is none (a path, a name). A mapped IPv4 address is the IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=65536)
def _network(prefix: str, length: int) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(f"{prefix}/{length}", strict=False)
    except ValueError:
        return None


def prefix_length(block: CidrRange, ip: str) -> int | None:
    """How many bits of the address the block fixes; None when the address is not in it."""
    address = parse_ip(ip)
    network = _network(block.address_prefix, block.prefix_len.value)
    if address is None or network is None or address.version != network.version or address not in network:
        return None
    return network.prefixlen


def in_block(block: CidrRange, ip: str) -> bool:
    return prefix_length(block, ip) is not None


def happens(fraction: FractionalPercent, chance: float) -> bool:
    """Whether something that happens to this fraction of requests happens to the one with this random number."""
    denominator = _DENOMINATORS[fraction.denominator]
    return int(chance * denominator) < fraction.numerator


def as_float(fraction: FractionalPercent) -> float:
    """The fraction from 0 to 1."""
    return min(1.0, fraction.numerator / _DENOMINATORS[fraction.denominator])


_MISSING: Final = object()


def value_at(metadata: Mapping[str, Any], space: str, path: Sequence[str]) -> Any:
    """The value in one filter's metadata; a private marker when there is none."""
    value: Any = metadata.get(space, _MISSING)
    for key in path:
        value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
    return value


def matches_value(matcher: ValueMatcher, value: Any) -> bool:
    """Whether a value of metadata, as `value_at` gives it, matches."""
    kind = matcher.WhichOneof("match_pattern")
    if kind == "present_match":
        return (value is not _MISSING) and matcher.present_match
    if kind == "null_match":
        return value is None
    if kind == "bool_match":
        return isinstance(value, bool) and value == matcher.bool_match
    if kind == "string_match":
        return isinstance(value, str) and matches_string(matcher.string_match, value)
    if kind == "double_match":
        return _matches_double(matcher, value)
    if kind == "list_match":
        return isinstance(value, (list, tuple)) and any(matches_value(matcher.list_match.one_of, v) for v in value)
    if kind == "or_match":
        return any(matches_value(one, value) for one in matcher.or_match.value_matchers)
    raise NotSimulatedError("a value matcher of an unknown kind")


def _matches_double(matcher: ValueMatcher, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    double = matcher.double_match
    if double.WhichOneof("match_pattern") == "exact":
        return value == double.exact
    return double.range.start <= value < double.range.end
