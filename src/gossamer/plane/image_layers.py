"""What a manifest of an image says, and the Wasm module in one of its layers.

Both forms of the Wasm image specification: an artifact whose layer is the module, and a plain (compat) image with
`plugin.wasm` at the root of a layer. Invariant: no layer is unpacked beyond the size that it may have, and nothing is
written anywhere.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gossamer.plane.download import DownloadError

MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MODULES: Final = (
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/wasm",
)
_PLATFORMS: Final = (("wasip1", "wasm"), ("wasi", "wasm"), ("linux", "amd64"))
_MOST_LAYERS: Final = 16
_UNPACKED: Final = 4
"""How many times the size of a module a layer may have when it is unpacked."""
_NAMES: Final = ("plugin.wasm", "./plugin.wasm")
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer by its digest; `module`: it is the module itself, and not an archive that may hold one."""

    digest: str
    module: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The layers to look into, the likeliest first; or for an index, the digest of the manifest to read instead."""

    layers: tuple[Layer, ...] = ()
    instead: str = ""


def read_manifest(content: bytes) -> Manifest:
    """What a manifest or an index says. DownloadError if it is neither, or leads to no module."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DownloadError("its manifest is not JSON") from error
    if not isinstance(document, dict):
        raise DownloadError("its manifest is no mapping")
    if isinstance(document.get("manifests"), list):
        return Manifest(instead=_chosen(document["manifests"]))
    layers = tuple(_layers(document.get("layers")))
    if not layers:
        raise DownloadError("its manifest names no layer that could hold a module")
    return Manifest(layers=tuple(sorted(layers, key=lambda layer: not layer.module)))


def _chosen(entries: list[Any]) -> str:
    """Of an index, the manifest for Wasm, or else that of an ordinary image."""
    found: dict[tuple[str, str], str] = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("digest"), str):
            platform = entry.get("platform")
            named = platform if isinstance(platform, dict) else {}
            found.setdefault((str(named.get("os")), str(named.get("architecture"))), entry["digest"])
    for platform in _PLATFORMS:
        if platform in found:
            return found[platform]
    if len(found) != 1:
        raise DownloadError("its index has no manifest for wasm, and none for linux/amd64")
    return next(iter(found.values()))


def _layers(entries: Any) -> Iterator[Layer]:
    """Modules, and archives from the uppermost down."""
    given = entries if isinstance(entries, list) else []
    for entry in reversed(given[-_MOST_LAYERS:]):
        kind, digest = (entry.get("mediaType"), entry.get("digest")) if isinstance(entry, dict) else (None, None)
        if not isinstance(digest, str) or not isinstance(kind, str):
            continue
        if kind in _MODULES:
            yield Layer(digest=digest, module=True)
        elif "tar" in kind and not kind.endswith("zstd"):
            yield Layer(digest=digest, module=False)


def module_in(archive: bytes, largest: int) -> bytes | None:
    """The `plugin.wasm` of a layer, None if it has none. DownloadError if it is too large, or damaged."""
    try:
        stream: io.BufferedIOBase = io.BytesIO(archive)
        if archive.startswith(_GZIP):
            stream = gzip.GzipFile(fileobj=stream)
        with tarfile.open(fileobj=_Bounded(stream, _UNPACKED * largest), mode="r|") as files:
            for member in files:
                if member.name in _NAMES and member.isreg():
                    if member.size > largest:
                        raise DownloadError(f"its plugin.wasm is larger than {largest // 1024 // 1024} MB")
                    held = files.extractfile(member)
                    return held.read() if held is not None else None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DownloadError(f"a layer is damaged: {error}") from error
    return None


class _Bounded(io.RawIOBase):
    """Reads so many bytes and no more."""

    def __init__(self, stream: io.BufferedIOBase, most: int) -> None:
        self._stream = stream
        self._left = most

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise DownloadError("a layer is too large when it is unpacked")
        return content
