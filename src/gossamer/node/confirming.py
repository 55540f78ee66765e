"""Finds out what one Envoy serves of the secrets that it was given, by asking Envoy.

Invariant: nothing is confirmed that Envoy does not show among its active secrets. One that it never asked for, it does
not need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from gossamer.ca.spiffe import WorkloadId
from gossamer.core.errors import EnvoyError, UnavailableError
from gossamer.node.confirmed import Confirmed
from gossamer.node.envoy_admin import Admin
from gossamer.node.sds import SecretSet

_FIRST_S: Final = 0.05
_LONGEST_S: Final = 5.0


async def confirm(admin: Admin, secrets: SecretSet, workload: WorkloadId, confirmed: Confirmed) -> None:
    """Tell `confirmed` what this Envoy serves, now and after every change, until cancelled."""
    changed = asyncio.Event()
    unsubscribe = (
        secrets.latest.subscribe(lambda _: changed.set()),
        secrets.renamed.subscribe(lambda _: changed.set()),
    )
    try:
        while True:
            changed.clear()
            offered, pause = secrets.offered, _FIRST_S
            while not (served := await _serves(admin, offered.versions)) and not changed.is_set():
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_S)
            if served and not changed.is_set():
                confirmed.serves(workload, offered.trust, offered.signer_key_id)
                await changed.wait()
    finally:
        for stop in unsubscribe:
            stop()


async def _serves(admin: Admin, versions: Mapping[str, str]) -> bool:
    """Whether Envoy has these versions of the secrets, as far as it has asked for them at all."""
    try:
        active = await admin.secret_versions(tuple(versions))
    except (UnavailableError, EnvoyError):
        return False
    return all(versions[name] == version for name, version in active)
