"""Bundles of foreign trust domains: fetched where MeshConfig says, and kept on disk.

SPIFFE's `https_web` profile: the endpoint is verified by the system's roots and leads nowhere else. Invariant: what is
no bundle is not used, and the last good one stays in use while its endpoint is down, through restarts too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final

from gossamer.ca.spiffe_bundle import load_bundle
from gossamer.core.errors import IdentityError
from gossamer.core.frozen import FrozenMap
from gossamer.plane.download import HTTP_ERRORS, Access, DownloadError, Downloads
from gossamer.sources.state import load_document, private_folder, save_document

_LOG = logging.getLogger(__name__)
LARGEST: Final = 1024 * 1024
REFRESH_S: Final = 300.0
"""How often a bundle is fetched that does not say; never more often than a few seconds, nor more seldom than a day."""
RETRY_S: Final = 15.0
_SHORTEST_S, _LONGEST_S = 5.0, 24 * 3600.0
_ANSWER_S: Final = 10.0
_SCHEMA: Final = 1


@dataclass(slots=True, kw_only=True)
class BundleStore:
    """The bundles that the configuration asks for, as PEM by URL; `changed` is called when one is another."""

    folder: Path
    changed: Callable[[], None]
    retry_s: float = RETRY_S
    bundles: FrozenMap[str, str] = field(default_factory=FrozenMap)
    _held: dict[str, str] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)
    _failed: dict[str, str] = field(default_factory=dict)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, urls: Iterable[str]) -> bool:
        """Take notice of what is asked for; returns whether there are bundles now that were not, from disk."""
        wanted = set(urls)
        if wanted == self._due.keys():
            return False
        for url in wanted - self._due.keys():
            if (held := self._load(url)) is not None:
                self._held[url] = held
            self._due[url] = 0.0
        for url in self._due.keys() - wanted:
            for table in (self._held, self._due, self._failed):
                table.pop(url, None)
        self._asked.set()
        return self._publish()

    async def follow(self) -> None:
        """Fetch what is asked for, and again when it is due, until cancelled."""
        while True:
            self._asked.clear()
            now = monotonic()
            async with asyncio.TaskGroup() as group:
                for url in [url for url, due in self._due.items() if due <= now]:
                    group.create_task(self._fetch(url))
            if self._publish():
                self.changed()
            wait = max(min(self._due.values()) - monotonic(), 0.05) if self._due else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._asked.wait()

    def refresh(self) -> None:
        """Fetch all of them now."""
        self._due = dict.fromkeys(self._due, 0.0)
        self._asked.set()

    def problem(self, url: str) -> str:
        """Why a bundle is not newer; empty if nothing is wrong."""
        return self._failed.get(url, "" if url in self._held else "not fetched yet")

    def held(self, url: str) -> str:
        """The roots of a bundle, empty as long as there are none."""
        return self._held.get(url, "")

    async def _fetch(self, url: str) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                bundle = await asyncio.to_thread(load_bundle, await _get(url))
        except (*HTTP_ERRORS, DownloadError, IdentityError, OSError, ValueError) as error:
            why = f"no answer within {_ANSWER_S:g} s" if isinstance(error, TimeoutError) else str(error)
            if url not in self._failed:
                _LOG.warning("bundle-not-fetched", extra={"url": url, "reason": why, "kept": url in self._held})
            if url in self._due:
                self._failed[url] = why or type(error).__name__
                self._due[url] = monotonic() + self.retry_s
            return
        if url not in self._due:
            return
        self._failed.pop(url, None)
        hint = bundle.refresh.total_seconds() if bundle.refresh is not None else REFRESH_S
        self._due[url] = monotonic() + min(max(hint, _SHORTEST_S), _LONGEST_S)
        if self._held.get(url) != bundle.pem:
            self._held[url] = bundle.pem
            await asyncio.to_thread(save_document, self._path(url), _SCHEMA, {"url": url, "roots": bundle.pem})
            _LOG.info("bundle-fetched", extra={"url": url, "roots": len(bundle.roots)})

    def _publish(self) -> bool:
        if self.bundles == self._held:
            return False
        self.bundles = FrozenMap(sorted(self._held.items()))
        return True

    def _path(self, url: str) -> Path:
        return private_folder(self.folder) / f"{hashlib.sha256(url.encode()).hexdigest()}.json"

    def _load(self, url: str) -> str | None:
        found = load_document(self._path(url), _SCHEMA)
        content: Any = found[1] if found is not None else None
        return content["roots"] if isinstance(content, dict) and isinstance(content.get("roots"), str) else None


async def _get(url: str) -> bytes:
    """The document at a URL; redirects are not followed."""
    if not url.startswith("https://"):
        raise DownloadError("a bundle is fetched over https alone")
    async with Downloads(url, Access(), redirects=0) as downloads:
        return (await downloads.get(url, LARGEST, {"accept": "application/json"})).expected()
