"""The attestors of a control plane: their file, and the keys of their issuers.

Invariant: what is in the file now decides. A file that has become wrong vouches for nobody until it is mended, and so
does an issuer whose keys are not to be had: nobody is let in by keys older than `OLDEST_S`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

from gossamer.api.attestors import Attestor, IssuerKeys, load_attestors
from gossamer.ca.attestation import Attest
from gossamer.ca.issued_tokens import TokenAttestors
from gossamer.ca.jws import knows
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.model.tokens import KeySource
from gossamer.plane.issuer import FETCH_ERRORS, LARGEST, fetch_keys

_LOG = logging.getLogger(__name__)
FETCH_S: Final = 5.0
REFRESH_S: Final = 20 * 60.0
AGAIN_S: Final = 10.0
"""How long an issuer is left alone after it was asked: a stranger's token with a key of its own makes nobody ask."""
OLDEST_S: Final = 24 * 3600.0


@dataclass(slots=True, kw_only=True)
class AttestorFile:
    """Reads the file anew when it has changed. `attestors` is what it holds now."""

    path: Path
    _text: str | None = None
    _found: tuple[Attestor, ...] = ()

    def load(self) -> Diagnostics:
        """Read the file; returns what is wrong with it: then there are no attestors."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            text = ""
            _LOG.error("attestors-not-read", extra={"file": str(self.path), "reason": str(error)})
        if text == self._text:
            return ()
        self._text = text
        found, diagnostics = load_attestors(text, str(self.path))
        self._found = found or ()
        return diagnostics

    def attestors(self) -> tuple[Attestor, ...]:
        """Those of the file as it is now."""
        for diagnostic in self.load():
            _LOG.error("attestors-refused", extra={"diagnostic": diagnostic.to_json()})
        return self._found


def open_attestors(file: Path) -> Attest:
    """Who vouches for hosts, by a file that is looked at each time."""
    return TokenAttestors(
        attestors=AttestorFile(path=file).attestors, keys=IssuerKeyReader(folder=file.absolute().parent)
    )


@dataclass(slots=True)
class _Held:
    """Keys of an issuer; times by the monotonic clock."""

    keys: str = field(default="", repr=False)
    fetched: float = float("-inf")
    asked: float = float("-inf")
    problem: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, kw_only=True)
class IssuerKeyReader:
    """A `KeyReader`: keys from the attestors' file, from another, or fetched when they are asked for. `folder` is what
    relative paths begin at."""

    folder: Path
    again_s: float = AGAIN_S
    _held: dict[tuple[str, IssuerKeys], _Held] = field(default_factory=dict)

    async def keys_of(self, attestor: Attestor, kid: str) -> str:
        """As `KeyReader` has it."""
        keys = attestor.keys
        if keys.inline:
            return keys.inline
        if keys.file:
            return await asyncio.to_thread(self._read, keys.file)
        held = self._held.setdefault((attestor.issuer, keys), _Held())
        async with held.lock:  # one asks, the others find what it was told
            now = monotonic()
            stale = now - held.fetched > REFRESH_S or not (held.keys and knows(held.keys, kid))
            if stale and now - held.asked > self.again_s:
                held.asked = now
                await self._fetch(attestor, held)
        if not held.keys or monotonic() - held.fetched > OLDEST_S:
            raise UnavailableError(f"the keys of issuer {attestor.issuer} are not to be had: {held.problem}")
        return held.keys

    async def _fetch(self, attestor: Attestor, held: _Held) -> None:
        keys = attestor.keys
        source = KeySource(url=keys.uri) if keys.uri else KeySource(url=attestor.issuer, discovered=True)
        try:
            trust = await asyncio.to_thread(self._trust, keys)
            private = keys.allow_private_redirects
            async with asyncio.timeout(FETCH_S):
                found = await fetch_keys(source, trust, private_redirects=private, names_itself=True)
            knows(found, "")
        except (*FETCH_ERRORS, TimeoutError, IdentityError) as error:
            held.problem = str(error) or f"no answer within {FETCH_S:g} s"
            known = {"attestor": attestor.name, "url": source.url, "reason": held.problem, "kept": bool(held.keys)}
            _LOG.warning("attestor-keys-not-fetched", extra=known)
            return
        held.keys, held.fetched, held.problem = found, monotonic(), ""

    def _trust(self, keys: IssuerKeys) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / keys.ca_file) if keys.ca_file else None)

    def _read(self, name: str) -> str:
        path = self.folder / name
        try:
            with path.open(encoding="utf-8") as file:
                return file.read(LARGEST)
        except (OSError, UnicodeDecodeError) as error:
            raise UnavailableError(f"cannot read the issuer's keys in {path}: {error}") from error
