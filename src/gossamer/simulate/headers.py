"""The headers of a request on its way through filters, as Envoy keeps them: lower-case names, several values a name.

Invariant: `:authority`, `:path`, `:method` and `:scheme` are headers like any other; `host` is another name for
`:authority`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from gossamer.simulate.request import HttpRequest

_ABSOLUTE: Final = re.compile(r"https?://(?P<authority>[^/?#]+)(?P<path>.*)")


class Headers:
    """A mutable multimap. Names are given in any case."""

    __slots__ = ("_values",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in items:
            self.add(name, value)

    @classmethod
    def of(cls, request: HttpRequest, scheme: str) -> Headers:
        """The headers that the connection manager sees first. Cookies are joined as HTTP has it, and the host of an
        absolute URL as path goes before that of the Host header."""
        absolute = _ABSOLUTE.fullmatch(request.path)
        path = absolute["path"] or "/" if absolute else request.path or "/"
        headers = cls(((":method", request.method), (":path", path), (":scheme", scheme)))
        authority = absolute["authority"] if absolute else request.authority
        if authority:
            headers.set(":authority", authority)
        for name, value in request.headers:
            if name != "host":
                headers.add(name, value.strip())
        cookies = headers.all("cookie")
        if len(cookies) > 1:
            headers.set("cookie", "; ".join(cookies))
        return headers

    def all(self, name: str) -> list[str]:
        return self._values.get(_known(name), [])

    def get(self, name: str, default: str = "") -> str:
        """The first value."""
        values = self.all(name)
        return values[0] if values else default

    def __contains__(self, name: str) -> bool:
        return _known(name) in self._values

    def set(self, name: str, value: str) -> None:
        self._values[_known(name)] = [value]

    def add(self, name: str, value: str) -> None:
        self._values.setdefault(_known(name), []).append(value)

    def remove(self, name: str) -> None:
        self._values.pop(_known(name), None)

    def items(self) -> Iterator[tuple[str, str]]:
        for name, values in self._values.items():
            for value in values:
                yield name, value

    def to_request(self, *, http2: bool) -> HttpRequest:
        """The request that these headers make."""
        return HttpRequest(
            authority=self.get(":authority"),
            path=self.get(":path", "/"),
            method=self.get(":method", "GET"),
            headers=tuple((name, value) for name, value in self.items() if not name.startswith(":")),
            http2=http2,
        )


def _known(name: str) -> str:
    lower = name.lower()
    return ":authority" if lower == "host" else lower
