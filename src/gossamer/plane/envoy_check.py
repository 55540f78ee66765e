"""What Envoy itself has against a configuration, found out by `envoy --mode validate` before any proxy is told it.

Invariant: a check takes bounded time and opens no port. What Envoy has once judged it is not asked again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gossamer.ca.stub import create_stub
from gossamer.compile.static import Stub, compile_static
from gossamer.core.resources import TYPES, Resources

TIMEOUT_S: Final = 20.0
"""How long Envoy may take; it needs 0.1 s for what is usual and 0.4 s for a thousand clusters."""
_KEPT: Final = 256
_LONGEST: Final = 600
_DEBUG: Final = re.compile(r"goo\.gle/debug\w*")
_SAID: Final = re.compile(r"error initializing config\w*(?: '[^']*')?:? *(?P<text>.*)", re.DOTALL)


Trial = Resources | str
"""What Envoy is shown: resources, or the text of a bootstrap."""


class EnvoyUnavailableError(Exception):
    """Envoy gave no verdict: it did not start, or not end in time."""


@dataclass(slots=True, kw_only=True)
class EnvoyCheck:
    """Asks one Envoy binary. `judge` may be called from several tasks; one Envoy runs at a time."""

    envoy: Path
    timeout_s: float = TIMEOUT_S
    _stub: Stub | None = None
    _verdicts: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def judge(self, trial: Trial) -> str:
        """What Envoy has against a trial; empty if it takes it. EnvoyUnavailableError for no verdict."""
        key = _key(trial)
        async with self._turn:
            if key not in self._verdicts:
                self._verdicts[key] = await self._ask(await self._bootstrap(trial))
            self._verdicts.move_to_end(key)
            while len(self._verdicts) > _KEPT:
                self._verdicts.popitem(last=False)
            return self._verdicts[key]

    async def _bootstrap(self, trial: Trial) -> str:
        if isinstance(trial, str):
            return trial
        stub = self._stub = self._stub or _new_stub()
        return await asyncio.to_thread(compile_static, trial, stub)

    async def _ask(self, text: str) -> str:
        with tempfile.TemporaryDirectory(prefix="gossamer-check-") as folder:
            path = Path(folder) / "bootstrap.json"
            path.touch(0o600)
            path.write_text(text, encoding="utf-8")
            arguments = ("--mode", "validate", "--config-path", str(path), "--log-level", "critical")
            try:
                child = await asyncio.create_subprocess_exec(
                    str(self.envoy),
                    *arguments,
                    "--concurrency",
                    "1",
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )
            except OSError as error:
                raise EnvoyUnavailableError(f"{self.envoy} did not start: {error}") from error
            try:
                async with asyncio.timeout(self.timeout_s):
                    output, _ = await child.communicate()
            except TimeoutError as error:
                raise EnvoyUnavailableError(f"Envoy did not end within {self.timeout_s:g} s") from error
            finally:
                if child.returncode is None:
                    with suppress(ProcessLookupError):
                        child.kill()
                    await child.wait()
        return "" if child.returncode == 0 else in_short(output.decode(errors="replace"), str(path))


def _key(trial: Trial) -> str:
    if isinstance(trial, str):
        content = trial
    else:
        content = repr(sorted((kind, r.name, r.version) for kind in TYPES for r in trial.all_of(kind)))
    return hashlib.sha256(content.encode()).hexdigest()


def in_short(output: str, path: str) -> str:
    """The sentence in which Envoy says what it does not like."""
    text = output.replace(path, "the configuration").strip()
    found = _SAID.search(text)
    said = (found["text"] if found else text.rpartition("] ")[2]).strip()
    said = re.sub(r"\s+", " ", _DEBUG.sub("", said.partition("\n[")[0])).strip()
    return (said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…") or "Envoy refuses it and does not say why"


def _new_stub() -> Stub:
    certificate, key, authority = create_stub(datetime.now(UTC))
    return Stub(certificate=certificate, key=key, authority=authority)
