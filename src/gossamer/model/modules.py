"""The Wasm modules that extensions name, as far as they were fetched.

Invariant: what is fetched is an input like a file; who wants it asks by where it is and what it must be.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from gossamer.core.frozen import FrozenMap, Value
from gossamer.core.ids import ResourceId

FILE: Final = "file"
OCI: Final = "oci"
FETCHED: Final = ("http", "https", OCI)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ModuleKey:
    """Which module: where it is, its SHA-256 (of an image: the image's) if it must have one, whether it is to be
    fetched anew at each change, and with whose credentials (`namespace/name` of a pull secret): what one namespace may
    have is not for another."""

    url: str
    sha256: str = ""
    always: bool = False
    secret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module(Value):
    """A module: a path on the proxy's host, or its bytes, known by their SHA-256."""

    path: str = ""
    sha256: str = ""
    content: bytes = field(default=b"", repr=False)

    def _fields(self) -> tuple[object, ...]:
        return (self.path, self.sha256)  # the bytes are what their hash says


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Modules(Value):
    """What is there. `assumed` (offline): a module that nobody fetched is taken to be there, at its URL. `local`: files
    on the proxies' hosts are used. `broken` are the extensions whose code is not to be used, though it is there."""

    fetched: FrozenMap[ModuleKey, Module] = field(default_factory=FrozenMap)
    assumed: bool = False
    local: bool = True
    broken: frozenset[ResourceId] = frozenset()

    def get(self, key: ModuleKey) -> Module | None:
        """The module of this key; None while it is not to be had."""
        scheme, path = scheme_of(key.url), urlsplit(key.url).path
        if scheme == FILE:
            return Module(path=unquote(path)) if self.local else None
        found = self.fetched.get(key)
        return Module(path=key.url) if found is None and self.assumed else found


def module_of(content: bytes) -> Module:
    """A module that was fetched."""
    return Module(sha256=hashlib.sha256(content).hexdigest(), content=content)


def scheme_of(url: str) -> str:
    """The scheme of a module's URL; one without any is an OCI image's, as Istio has it."""
    return urlsplit(url).scheme.lower() if "://" in url else OCI


NO_MODULES: Final = Modules()
