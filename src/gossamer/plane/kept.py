"""What a control plane keeps on disk for the next one: what was last valid, and who is registered.

It is written behind the pushes and not before them, and once more at the end: a crash loses what came in the last half
second, which files and agents say again. A disk that takes nothing is reported and stops nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from gossamer.api.last_good import LastGood
from gossamer.core.errors import StateError
from gossamer.core.ids import ResourceId
from gossamer.plane.seen import SeenStore
from gossamer.sources.registry import Registry
from gossamer.sources.state import load_document, save_document, write_private

_LOG = logging.getLogger(__name__)

REGISTRY_FILE = "registrations.json"
LAST_GOOD_FILE = "last-good.json"
"""Documents as they were last valid: what `api.last_good` writes, under a version of its own."""
ADMITTED_FILE = "admitted.json"
"""The documents of EnvoyFilters and extensions as Envoy last took them."""
SEEN_FILE = "seen.json"
"""What sidecars have seen."""
KEEP_S = 0.5
SEEN_S = 5.0
FORGET_S = 3600.0
RETRY_S = 10.0


def load_last_good(state: Path) -> LastGood | None:
    """What was last valid; None if nothing is kept. StateError if it is damaged or from a newer version."""
    path = state / LAST_GOOD_FILE
    return LastGood.from_bytes(path.read_bytes()) if path.exists() else None


def load_registry(state: Path, trust_domain: str, now: float) -> Registry:
    """The registry as it was kept, every lease fresh from `now`. StateError as above."""
    registry = Registry(trust_domain)
    if saved := load_document(state / REGISTRY_FILE, 1):
        registry.restore(saved[1], now)
    return registry


def load_admitted(state: Path) -> dict[ResourceId, str]:
    """The documents of what Envoy had taken. StateError as above."""
    saved = load_document(state / ADMITTED_FILE, 1)
    return {
        ResourceId(kind=kind, namespace=namespace, name=name): text
        for kind, namespace, name, text in (saved[1] if saved else ())
    }


def load_seen(state: Path) -> SeenStore:
    """What sidecars had seen. What cannot be read is set aside: nobody is kept waiting for it."""
    path = state / SEEN_FILE
    try:
        saved = load_document(path, 1)
        return SeenStore.restore(saved[1]) if saved else SeenStore()
    except (StateError, LookupError, TypeError, ValueError) as error:
        _LOG.error("seen-set-aside", extra={"reason": str(error), "file": f"{path}.damaged"})
        with suppress(OSError):
            path.replace(f"{path}.damaged")
        return SeenStore()


async def keep_seen(state: Path, store: SeenStore, stop: asyncio.Event) -> None:
    """Keep it up to date on disk until `stop` is set, and once more then. The more there is, the less often."""
    pause, forgotten = SEEN_S, time.time()
    while not stop.is_set():
        await _wait(stop, pause)
        if time.time() > forgotten + FORGET_S:
            forgotten = time.time()
            store.forget(forgotten)
        if not store.changed:
            continue
        began = time.monotonic()
        try:
            store.changed = False
            await asyncio.to_thread(save_document, state / SEEN_FILE, 1, store.save())
        except OSError as error:
            store.changed = True
            _LOG.error("state-not-kept", extra={"reason": str(error)})
        pause = max(SEEN_S, 100 * (time.monotonic() - began))


async def keep_admitted(state: Path, texts: Callable[[], Mapping[ResourceId, str]], stop: asyncio.Event) -> None:
    """Keep the documents of what is in force up to date on disk until `stop` is set."""
    kept: Mapping[ResourceId, str] | None = None
    while not stop.is_set():
        await _wait(stop, KEEP_S)
        newest = texts()
        if newest == (kept or {}) and (kept is not None or not newest):
            continue
        listed = [[id_.kind, id_.namespace, id_.name, text] for id_, text in sorted(newest.items())]
        try:
            await asyncio.to_thread(save_document, state / ADMITTED_FILE, 1, listed)
            kept = newest
        except OSError as error:
            _LOG.error("state-not-kept", extra={"reason": str(error)})
            await _wait(stop, RETRY_S)


async def keep(state: Path, registry: Registry, last_good: Callable[[], LastGood], stop: asyncio.Event) -> None:
    """Keep both up to date on disk until `stop` is set."""
    kept: LastGood | None = None
    snapshot: object = None
    while not stop.is_set():
        await _wait(stop, KEEP_S)
        try:
            if registry.snapshot is not snapshot:
                newest, text = registry.snapshot, registry.save(time.monotonic())
                await asyncio.to_thread(save_document, state / REGISTRY_FILE, 1, text)
                snapshot = newest
            if (valid := last_good()) is not kept:
                await asyncio.to_thread(_save, valid, state / LAST_GOOD_FILE)
                kept = valid
        except OSError as error:
            _LOG.error("state-not-kept", extra={"reason": str(error)})
            await _wait(stop, RETRY_S)


def _save(last_good: LastGood, path: Path) -> None:
    write_private(path, last_good.to_bytes())


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
