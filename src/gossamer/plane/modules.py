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

from gossamer.api.config import Config
from gossamer.core.diagnostics import Diagnostics, Severity, diagnostic_about
from gossamer.core.frozen import FrozenMap
from gossamer.model.extensions import module_key
from gossamer.model.images import image_of
from gossamer.model.modules import FETCHED, OCI, Module, ModuleKey, Modules, module_of, scheme_of
from gossamer.plane import pull_secrets
from gossamer.plane.download import HTTP_ERRORS, Access, DownloadError, Downloads
from gossamer.plane.image_pull import pull_module
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
    access: Access = field(default_factory=Access)
    retry_s: float = RETRY_S
    modules: Modules = field(default_factory=Modules)
    _wanted: frozenset[ModuleKey] = frozenset()
    _secrets: dict[str, bytes | None] = field(default_factory=dict, repr=False)
    _failed: dict[ModuleKey, tuple[str, float]] = field(default_factory=dict)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, config: Config) -> None:
        """Take notice of what a configuration asks for."""
        wanted = frozenset(_keys(config))
        secrets = _pull_secrets(config, wanted)
        if (wanted, secrets) != (self._wanted, self._secrets):
            anew = {name for name, content in secrets.items() if self._secrets.get(name) != content}
            self._wanted, self._secrets = wanted, secrets
            kept = {key: why for key, why in self._failed.items() if key in wanted and key.secret not in anew}
            self._failed = kept
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
            key = module_key(resource)
            if key is not None and key in self._failed:
                path = "spec.url" if resource.id.kind == "WasmPlugin" else "spec.wasm.url"
                message = f"the module could not be fetched: {self._failed[key][0]}"
                found.append(
                    diagnostic_about(resource.id, "module-not-fetched", path, message, severity=Severity.ERROR)
                )
        return tuple(found)

    async def _one(self, key: ModuleKey) -> Module:
        named = " ".join(part for part in (f"{key.url} {key.sha256}", key.secret) if part)
        path = private_folder(self.folder) / f"{hashlib.sha256(named.encode()).hexdigest()}.wasm"
        if not key.always and path.exists():
            content = await asyncio.to_thread(path.read_bytes)
            if _fits(content, key) is None:
                return module_of(content)
        content = await fetch_module(key, self.access, self._secrets.get(key.secret))
        await asyncio.to_thread(write_private, path, content)
        return module_of(content)


def _keys(config: Config) -> Iterable[ModuleKey]:
    for resource in (*config.wasm_plugins, *config.traffic_extensions):
        key = module_key(resource)
        if key is not None and scheme_of(key.url) in FETCHED:
            yield key


def _pull_secrets(config: Config, keys: Iterable[ModuleKey]) -> dict[str, bytes | None]:
    """What the pull secrets hold that these keys name; None for one that is not there."""
    names = {key.secret for key in keys if key.secret}
    held = {f"{one.namespace}/{one.name}": one.spec.value(pull_secrets.KEY) for one in config.secrets} if names else {}
    return {name: held.get(name) for name in names}


async def fetch_module(key: ModuleKey, access: Access | None = None, secret: bytes | None = None) -> bytes:
    """The bytes of a module; `secret` is what its pull secret holds. ModuleError if they are not to be had, or are not
    what they must be."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            content = await _fetched(key, access or Access(), secret)
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


async def _fetched(key: ModuleKey, access: Access, secret: bytes | None) -> bytes:
    if scheme_of(key.url) != OCI:
        async with Downloads(key.url, access, _REDIRECTS) as downloads:
            return (await downloads.get(key.url, LARGEST, {"accept": "application/wasm, */*"})).expected()
    image = image_of(key.url)
    if image is None:
        raise DownloadError(f"{key.url} names no image")
    if key.secret and secret is None:
        raise DownloadError(f"there is no Secret {key.secret} with {pull_secrets.KEY}")
    login = pull_secrets.login_for(secret, image, key.secret) if secret is not None else None
    return await pull_module(image, key.sha256.lower(), login, access, LARGEST)


def _fits(content: bytes, key: ModuleKey) -> str | None:
    """What is wrong with a module's bytes. The SHA-256 of an image is the image's, and was looked at there."""
    found = hashlib.sha256(content).hexdigest()
    if key.sha256 and scheme_of(key.url) != OCI and found != key.sha256.lower():
        return f"its SHA-256 is {found}, not {key.sha256}"
    return None if content.startswith(_MAGIC) else "this is no Wasm module"
