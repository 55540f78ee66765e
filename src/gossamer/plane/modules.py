"""Wasm modules from where plugins say that they are: fetched by the control plane, checked, and kept on disk.

Invariant: a module that is larger, slower or other than it may be is not used. What was fetched once outlives a restart
and its server.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpcore

from gossamer.api.config import Config
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Severity
from gossamer.core.frozen import FrozenMap
from gossamer.model.extensions import module_key, wasm_of
from gossamer.model.modules import FETCHED, Module, ModuleKey, Modules, module_of, scheme_of
from gossamer.plane.download import HTTP_ERRORS, DownloadError, content_of, redirect_of
from gossamer.sources.state import private_folder, write_private

_LOG = logging.getLogger(__name__)

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a module at most: every proxy that runs it receives it over xDS."""
TIMEOUT_S: Final = 30.0
RETRY_S: Final = 15.0
_REDIRECTS: Final = 5
_MAGIC: Final = b"\0asm"


class ModuleError(Exception):
    """Why a module is not to be had."""


@dataclass(slots=True, kw_only=True)
class ModuleStore:
    """The modules that the configuration asks for. `follow` fetches; `modules` is what is there now."""

    folder: Path
    changed: Callable[[], None]
    retry_s: float = RETRY_S
    modules: Modules = field(default_factory=Modules)
    _wanted: frozenset[ModuleKey] = frozenset()
    _failed: dict[ModuleKey, tuple[str, float]] = field(default_factory=dict)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, config: Config) -> None:
        """Take notice of what a configuration asks for."""
        wanted = frozenset(_keys(config))
        if wanted != self._wanted:
            self._wanted = wanted
            self._failed = {key: why for key, why in self._failed.items() if key in wanted}
            held = {key: one for key, one in self.modules.fetched.items() if key in wanted}
            self.modules = Modules(fetched=FrozenMap(held))
            self._asked.set()

    @property
    def missing(self) -> list[ModuleKey]:
        """What is asked for and is not there."""
        return sorted(key for key in self._wanted if key not in self.modules.fetched)

    async def follow(self) -> None:
        """Fetch what is asked for, again and again where that fails, until cancelled."""
        while True:
            self._asked.clear()
            now = time.monotonic()
            due = [key for key in self.missing if key not in self._failed or self._failed[key][1] <= now]
            await self.fetch(due)
            waits = [until for key, (_, until) in self._failed.items() if key in self._wanted]
            try:
                async with asyncio.timeout(max(min(waits) - time.monotonic(), 0.05) if waits else None):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def fetch(self, keys: Iterable[ModuleKey]) -> None:
        """Fetch these, one after the other."""
        for key in keys:
            try:
                module = await self._one(key)
            except ModuleError as error:
                if key not in self._failed:
                    _LOG.warning("module-not-fetched", extra={"url": key.url, "reason": str(error)})
                self._failed[key] = (str(error), time.monotonic() + self.retry_s)
            else:
                self._failed.pop(key, None)
                self.modules = Modules(fetched=FrozenMap({**self.modules.fetched, key: module}))
            self.changed()

    def diagnostics(self, config: Config) -> Diagnostics:
        """Why modules are not there; without positions."""
        found = []
        for resource in (*config.wasm_plugins, *config.traffic_extensions):
            wasm = wasm_of(resource)
            for key, (why, _) in self._failed.items() if wasm is not None else ():
                if wasm is not None and (key.url, key.sha256) == (wasm.url, wasm.sha256):
                    found.append(
                        Diagnostic(
                            severity=Severity.ERROR,
                            code="module-not-fetched",
                            message=f"the module could not be fetched: {why}",
                            kind=resource.id.kind,
                            namespace=resource.namespace,
                            name=resource.name,
                            path="spec.url" if resource.id.kind == "WasmPlugin" else "spec.wasm.url",
                        )
                    )
        return tuple(dict.fromkeys(found))

    async def _one(self, key: ModuleKey) -> Module:
        path = private_folder(self.folder) / f"{hashlib.sha256(f'{key.url} {key.sha256}'.encode()).hexdigest()}.wasm"
        if not key.always and path.exists():
            content = await asyncio.to_thread(path.read_bytes)
            if _fits(content, key) is None:
                return module_of(content)
        content = await fetch_module(key)
        await asyncio.to_thread(write_private, path, content)
        return module_of(content)


def _keys(config: Config) -> Iterable[ModuleKey]:
    for resource in (*config.wasm_plugins, *config.traffic_extensions):
        wasm = wasm_of(resource)
        if wasm is not None and scheme_of(wasm.url) in FETCHED:
            yield module_key(wasm)


async def fetch_module(key: ModuleKey) -> bytes:
    """The bytes of a module. ModuleError if they are not to be had, or are not what they must be."""
    try:
        async with asyncio.timeout(TIMEOUT_S), httpcore.AsyncConnectionPool() as pool:
            content = await _get(pool, key.url, _REDIRECTS)
    except TimeoutError as error:
        raise ModuleError(f"{key.url} did not answer within {TIMEOUT_S:g} s") from error
    except DownloadError as error:
        raise ModuleError(str(error)) from error
    except (*HTTP_ERRORS, OSError) as error:
        raise ModuleError(f"{key.url}: {error}") from error
    why = _fits(content, key)
    if why is not None:
        raise ModuleError(f"{key.url}: {why}")
    return content


async def _get(pool: httpcore.AsyncConnectionPool, url: str, redirects: int) -> bytes:
    if urlsplit(url).scheme not in FETCHED:
        raise DownloadError(f"{url} is neither http:// nor https://")
    async with pool.stream("GET", url, headers={"accept": "application/wasm, */*"}) as response:
        target = redirect_of(response)
        if target is None:
            return await content_of(response, url, LARGEST)
    if not target or not redirects:
        raise DownloadError(f"{url} redirects, and not to a module")
    return await _get(pool, urljoin(url, target), redirects - 1)


def _fits(content: bytes, key: ModuleKey) -> str | None:
    """What is wrong with a module's bytes."""
    found = hashlib.sha256(content).hexdigest()
    if key.sha256 and found != key.sha256.lower():
        return f"its SHA-256 is {found}, not {key.sha256}"
    return None if content.startswith(_MAGIC) else "this is no Wasm module"
