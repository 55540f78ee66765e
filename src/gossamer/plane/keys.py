"""Keys of token issuers: fetched by the control plane, for all proxies, and kept on disk.

Invariant: what is no key set is not used, and the last good set stays in use while its issuer is down, through restarts
too; how old it is can be seen. Proxies fetch nothing, and nobody's answer leads the control plane where its operator
did not send it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

from gossamer.api.config import Config
from gossamer.core.frozen import FrozenMap
from gossamer.model.tokens import KeySource, key_sources
from gossamer.plane.issuer import FETCH_ERRORS, fetch_keys, is_key_set
from gossamer.sources.state import load_document, private_folder, save_document

_LOG = logging.getLogger(__name__)

REFRESH_S: Final = 20 * 60.0
RETRY_S: Final = 15.0
FIRST_S: Final = 6.0
"""How long a control plane that starts waits for keys that it never had."""
_LONGEST: Final = timedelta(seconds=60)
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A key set and when it was fetched, in seconds since 1970."""

    jwks: str = field(repr=False)
    fetched: float


@dataclass(slots=True, kw_only=True)
class KeyStore:
    """The keys that the configuration asks for. `follow` fetches and refreshes; `keys` is what is there now.

    `private_redirects` lets issuers redirect to private addresses; `trust` verifies their certificates.
    """

    folder: Path
    changed: Callable[[], None]
    private_redirects: bool = False
    trust: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    refresh_s: float = REFRESH_S
    retry_s: float = RETRY_S
    keys: FrozenMap[KeySource, str] = field(default_factory=FrozenMap)
    _wanted: dict[KeySource, timedelta] = field(default_factory=dict)
    _held: dict[KeySource, Held] = field(default_factory=dict)
    _due: dict[KeySource, float] = field(default_factory=dict)
    _failed: dict[KeySource, str] = field(default_factory=dict)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, config: Config) -> bool:
        """Take notice of what a configuration asks for; returns whether there are keys now that were not, from disk."""
        wanted = key_sources(config.request_authentications)
        if wanted == self._wanted:
            return False
        before = self.keys
        for source in wanted.keys() - self._wanted.keys():
            held = self._load(source)
            if held is not None:
                self._held[source] = held
            self._due[source] = 0.0
        for source in self._wanted.keys() - wanted.keys():
            for table in (self._held, self._due, self._failed):
                table.pop(source, None)
        self._wanted = wanted
        self._publish()
        self._asked.set()
        return self.keys != before

    @property
    def missing(self) -> list[KeySource]:
        """What is asked for, and was never had."""
        return sorted(source for source in self._wanted if source not in self._held)

    async def first(self) -> bool:
        """Fetch what was never had, within a bound; returns whether there is something new."""
        before = self.keys
        try:
            async with asyncio.timeout(FIRST_S):
                await self._fetch(self.missing)
        except TimeoutError:
            _LOG.warning("keys-not-fetched-in-time", extra={"seconds": FIRST_S})
        return self.keys != before

    async def follow(self) -> None:
        """Fetch what is asked for, and again when it grows old or failed, until cancelled."""
        while True:
            self._asked.clear()
            now = monotonic()
            before = self.keys
            await self._fetch(sorted(source for source, due in self._due.items() if due <= now))
            if self.keys != before:
                self.changed()
            wait = max(min(self._due.values()) - monotonic(), 0.05) if self._due else None
            try:
                async with asyncio.timeout(wait):
                    await self._asked.wait()
            except TimeoutError:
                continue

    def status(self) -> list[dict[str, Any]]:
        """Each source with the age of its keys in seconds (null: there are none) and why they are not newer."""
        now = time()
        return [
            {
                "url": source.url,
                "discovered": source.discovered,
                "age_s": round(now - self._held[source].fetched, 1) if source in self._held else None,
                "error": self._failed.get(source, ""),
            }
            for source in sorted(self._wanted)
        ]

    async def _fetch(self, sources: Iterable[KeySource]) -> None:
        """Fetch these side by side: one issuer that is down holds up no other."""
        async with asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(self._one(source))
        self._publish()

    async def _one(self, source: KeySource) -> None:
        timeout = min(self._wanted.get(source, _LONGEST), _LONGEST)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                jwks = await fetch_keys(source, self.trust, private_redirects=self.private_redirects)
        except TimeoutError:
            self._failing(source, f"no answer within {timeout.total_seconds():g} s")
            return
        except FETCH_ERRORS as error:
            self._failing(source, str(error) or type(error).__name__)
            return
        if source not in self._wanted:
            return
        self._failed.pop(source, None)
        self._due[source] = monotonic() + self.refresh_s
        held = self._held[source] = Held(jwks=jwks, fetched=time())
        kept = {"jwks": held.jwks, "fetched": held.fetched}
        await asyncio.to_thread(save_document, self._path(source), _SCHEMA, kept)

    def _failing(self, source: KeySource, why: str) -> None:
        if source not in self._wanted:
            return
        if source not in self._failed:
            _LOG.warning("keys-not-fetched", extra={"url": source.url, "reason": why, "kept": source in self._held})
        self._failed[source] = why
        self._due[source] = monotonic() + self.retry_s

    def _publish(self) -> None:
        found = {source: held.jwks for source, held in sorted(self._held.items()) if source in self._wanted}
        if self.keys != found:
            self.keys = FrozenMap(found)

    def _path(self, source: KeySource) -> Path:
        name = hashlib.sha256(f"{source.discovered} {source.url}".encode()).hexdigest()
        return private_folder(self.folder) / f"{name}.json"

    def _load(self, source: KeySource) -> Held | None:
        found = load_document(self._path(source), _SCHEMA)
        content = found[1] if found is not None else None
        if not isinstance(content, dict) or not isinstance(content.get("fetched"), (int, float)):
            return None
        jwks = content.get("jwks")
        return Held(jwks=jwks, fetched=content["fetched"]) if isinstance(jwks, str) and is_key_set(jwks) else None
