"""Follows a CA folder: a new intermediate, or another root beside the old one, is in force without a restart.

Invariant: what is signed always leads to a root that the mesh trusts already. A folder that does not fit, or that no
longer trusts the root under which everybody runs, changes nothing and is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from gossamer.ca.authority import Authority
from gossamer.ca.folder import CERTIFICATE, CHAIN, KEY, ROOTS, load_authority
from gossamer.core.errors import IdentityError
from gossamer.core.latest import Latest

_LOG = logging.getLogger(__name__)
LOOK_S: Final = 1.0


async def follow_authority(folder: Path, authority: Latest[Authority], clock: Callable[[], datetime]) -> None:
    """Look again and again, until cancelled."""
    seen, said = await asyncio.to_thread(_contents, folder), ""
    while True:
        await asyncio.sleep(LOOK_S)
        found = await asyncio.to_thread(_contents, folder)
        if found == seen:
            continue
        try:
            renewed = await asyncio.to_thread(next_authority, folder, authority.value, clock())
        except IdentityError as error:  # perhaps half written: looked at again
            if str(error) != said:
                said = str(error)
                _LOG.error("ca-folder-refused", extra={"reason": said})
            continue
        seen, said = found, ""
        authority.publish(renewed)
        _LOG.info("ca-folder-changed", extra={"signer": renewed.signer_key_id, "roots": len(renewed.roots)})


def next_authority(folder: Path, current: Authority, now: datetime) -> Authority:
    """The authority that the folder holds now. IdentityError if it does not fit, or leaves out the root in use."""
    found = load_authority(folder, current.trust_domain, now)
    if current.root not in found.roots:
        raise IdentityError(
            f"CA folder {folder}: {ROOTS} leaves out the root under which the mesh runs, so nobody could talk to who "
            "has an old certificate: let it hold both roots until all certificates are renewed"
        )
    return found


def _contents(folder: Path) -> tuple[bytes, ...]:
    return tuple(_read(folder / name) for name in (CERTIFICATE, KEY, ROOTS, CHAIN))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
