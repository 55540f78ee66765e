"""Whether a route takes a request, and that condition in words.

Invariant: all conditions of a route must hold; the first route whose conditions do is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.route.v3.route_components_pb2 import (
    HeaderMatcher,
    QueryParameterMatcher,
    Route,
    RouteMatch,
    VirtualHost,
)
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig

from gossamer.simulate.connection import Connection
from gossamer.simulate.headers import Headers
from gossamer.simulate.matchers import (
    happens,
    matches_headers,
    matches_query,
    matches_value,
    query_values,
    value_at,
    without_query,
)
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.path_template import matches_template
from gossamer.simulate.regex import matches_whole
from gossamer.simulate.transport import describe_string


def find_route(virtual_host: VirtualHost, headers: Headers, connection: Connection) -> Route | None:
    """The first route that takes the request."""
    return next((route for route in virtual_host.routes if takes(route.match, headers, connection)), None)


def takes(match: RouteMatch, headers: Headers, connection: Connection) -> bool:
    """Whether the request fulfils every condition."""
    return (
        _path_fits(match, headers)
        and matches_headers(match.headers, headers)
        and _query_fits(match, headers)
        and _extras_fit(match, headers, connection)
    )


def _path_fits(match: RouteMatch, headers: Headers) -> bool:
    path = without_query(headers.get(":path"))
    kind = match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        return matches_whole(match.safe_regex.regex, path)
    if kind == "connect_matcher":
        return headers.get(":method") == "CONNECT"
    if kind == "path_match_policy":
        return matches_template(template_of(match), path)
    if kind is None:
        raise NotSimulatedError("a route without a path condition")
    wanted: str = getattr(match, kind)
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        wanted, path = wanted.lower(), path.lower()
    if kind == "path":
        return path == wanted
    if kind == "prefix":
        return path.startswith(wanted)
    return path == wanted or path.startswith(f"{wanted}/")


def template_of(match: RouteMatch) -> str:
    """The URI template of a route that has one."""
    config = UriTemplateMatchConfig()
    if not match.path_match_policy.typed_config.Unpack(config):
        raise NotSimulatedError(f"the path matcher {match.path_match_policy.name}")
    return config.path_template


def _query_fits(match: RouteMatch, headers: Headers) -> bool:
    if not match.query_parameters:
        return True
    values = query_values(headers.get(":path"))
    return all(matches_query(wanted, values) for wanted in match.query_parameters)


def _extras_fit(match: RouteMatch, headers: Headers, connection: Connection) -> bool:
    if match.filter_state:
        raise NotSimulatedError("routes by filter state")
    if match.HasField("grpc") and not _is_grpc(headers):
        return False
    fraction = match.runtime_fraction.default_value
    if match.HasField("runtime_fraction") and not happens(fraction, connection.request.chance):
        return False
    if match.HasField("tls_context") and not _tls_fits(match, connection):
        return False
    metadata = connection.request.metadata
    return all(
        matches_value(wanted.value, value_at(metadata, wanted.filter, [part.key for part in wanted.path]))
        != wanted.invert
        for wanted in match.dynamic_metadata
    )


def _is_grpc(headers: Headers) -> bool:
    kind = headers.get("content-type")
    return kind == "application/grpc" or kind.startswith("application/grpc+")


def _tls_fits(match: RouteMatch, connection: Connection) -> bool:
    wanted, shown = match.tls_context, connection.peer is not None
    if not connection.terminated:
        return True
    return (not wanted.HasField("presented") or wanted.presented.value == shown) and (
        not wanted.HasField("validated") or wanted.validated.value == shown
    )


def describe_match(match: RouteMatch) -> str:
    """The condition in words: `prefix /api, header end-user = jason`."""
    return ", ".join(_conditions(match))


def _conditions(match: RouteMatch) -> Iterator[str]:
    match match.WhichOneof("path_specifier"):
        case "safe_regex":
            yield f"path ~ {match.safe_regex.regex}"
        case "connect_matcher":
            yield "CONNECT"
        case "path_match_policy":
            yield f"path like {template_of(match)}"
        case "path_separated_prefix":
            yield f"path {match.path_separated_prefix} and below"
        case "prefix":
            yield f"prefix {match.prefix}"
        case "path":
            yield f"path {match.path}"
    for header in match.headers:
        yield _describe_header(header)
    for parameter in match.query_parameters:
        yield _describe_parameter(parameter)
    if match.HasField("runtime_fraction"):
        yield f"{match.runtime_fraction.default_value.numerator} parts of all requests"


def _describe_header(header: HeaderMatcher) -> str:
    name = {":authority": "host", ":method": "method", ":scheme": "scheme"}.get(header.name, f"header {header.name}")
    equals = "≠" if header.invert_match else "="
    match header.WhichOneof("header_match_specifier"):
        case "string_match":
            return f"{name} {equals} {describe_string(header.string_match)}"
        case "range_match":
            return f"{name} {equals} {header.range_match.start} to {header.range_match.end - 1}"
        case "present_match" if not header.present_match:
            return f"{name} {'present' if header.invert_match else 'absent'}"
        case "present_match" | None:
            return f"{name} {'absent' if header.invert_match else 'present'}"
        case "safe_regex_match":
            return f"{name} {equals} ~{header.safe_regex_match.regex}"
        case kind:
            return f"{name} {equals} {getattr(header, str(kind))}"


def _describe_parameter(parameter: QueryParameterMatcher) -> str:
    if parameter.WhichOneof("query_parameter_match_specifier") == "string_match":
        return f"query {parameter.name} = {describe_string(parameter.string_match)}"
    return f"query {parameter.name} present"
