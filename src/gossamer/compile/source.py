"""Who calls, as routes can ask it: by a header that the proxy itself writes from the caller's certificate.

Invariant: before any route is looked at, whatever a client sent under this name is gone, and only a connection of the
mesh's own mutual TLS has it written anew, with the SPIFFE name that was verified; it is not passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation as Mutation
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import HeaderMutation
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from gossamer.api.common import Exact, Prefix, Regex
from gossamer.api.decide_at import PRINCIPAL, is_source
from gossamer.api.virtual_service import HTTPMatchRequest
from gossamer.compile.draft import pack
from gossamer.compile.strings import StringMatch

SOURCE_HEADER: Final = "x-gossamer-source"
_ORIGINAL_PATH: Final = "x-envoy-original-path"
_SCHEME: Final = "spiffe://"
_NAME: Final = "[^/]+"


@cache
def early_source(*, verified: bool) -> TypedExtensionConfig:
    """What is done to requests before they are routed, on connections whose client has been verified or not. The path
    that a request had before a rewrite is this proxy's to say: who looks at it wants the one that policies saw."""
    mutations = [Mutation(remove=SOURCE_HEADER), Mutation(remove=_ORIGINAL_PATH)]
    if verified:
        value = HeaderValue(key=SOURCE_HEADER, value="%DOWNSTREAM_PEER_URI_SAN%")
        written = HeaderValueOption(header=value, append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
        mutations.append(Mutation(append=written))
    return TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=pack(HeaderMutation(mutations=mutations)),
    )


def source_matchers(match: HTTPMatchRequest) -> Iterator[HeaderMatcher]:
    """What a match asks of its caller."""
    if match.source_namespace:
        yield _matcher(_in_namespace(re.escape(match.source_namespace)))
    for headers, without in ((match.headers, False), (match.without_headers, True)):
        for name, wanted in sorted(headers.items()):
            if is_source(name):
                yield _matcher(_principal(wanted) if name == PRINCIPAL else _namespace(wanted), invert=without)


def _matcher(string: StringMatcher, *, invert: bool = False) -> HeaderMatcher:
    return HeaderMatcher(
        name=SOURCE_HEADER, string_match=string, invert_match=invert, treat_missing_header_as_empty=invert
    )


def _principal(match: StringMatch) -> StringMatcher:
    """`TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, as AuthorizationPolicy writes it."""
    if isinstance(match, Exact):
        return StringMatcher(exact=_SCHEME + match.value)
    if isinstance(match, Regex):
        return StringMatcher(safe_regex=RegexMatcher(regex=f"{_SCHEME}(?:{match.value})"))
    return StringMatcher(prefix=_SCHEME + (match.value if isinstance(match, Prefix) else ""))


def _namespace(match: StringMatch) -> StringMatcher:
    if isinstance(match, Exact):
        return _in_namespace(re.escape(match.value))
    if isinstance(match, Regex):
        return _in_namespace(f"(?:{match.value})")
    return _in_namespace((re.escape(match.value) + "[^/]*") if isinstance(match, Prefix) else _NAME)


def _in_namespace(pattern: str) -> StringMatcher:
    return StringMatcher(safe_regex=RegexMatcher(regex=f"{_SCHEME}{_NAME}/ns/{pattern}/sa/{_NAME}"))
