"""How many connections each listener of an Envoy holds at most (`connectionSettings.listenerConnectionLimit`).

Envoy takes that limit from its runtime, under the listener's name, and which listeners there are changes while it
runs; so the agent sets it. Invariant: a listener is limited within moments of when its Envoy is told of it, after a
restart of Envoy too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gossamer.core.errors import EnvoyError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.envoy import Envoy, EnvoyState

_LOG = logging.getLogger(__name__)
_LOOK_S: Final = 1.0
"""How often it is looked whether another Envoy has taken over, which nobody tells; and how soon a failure is made
good."""


async def limit_listeners(envoy: Envoy, listeners: Latest[tuple[str, ...]], most: int) -> None:
    """Keep every listener of this Envoy to `most` connections, until cancelled."""
    changed = asyncio.Event()
    unsubscribe = [
        listeners.subscribe(lambda _: changed.set()),
        envoy.state.subscribe(lambda _: changed.set()),
    ]
    pid, told = 0, frozenset[str]()
    try:
        while True:
            changed.clear()
            if envoy.pid != pid:
                pid, told = envoy.pid, frozenset()
            wanted = frozenset(listeners.value)
            if envoy.state.value is EnvoyState.READY and not wanted <= told:
                try:
                    await envoy.admin.set_runtime({key_of(name): str(most) for name in sorted(wanted - told)})
                    told |= wanted
                except (UnavailableError, EnvoyError) as error:
                    _LOG.warning("listeners-not-limited", extra={"envoy": envoy.settings.name, "reason": str(error)})
            await _changed(changed)
    finally:
        for end in unsubscribe:
            end()


async def _changed(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_LOOK_S):
            await event.wait()
    except TimeoutError:
        return


def key_of(listener: str) -> str:
    """The runtime key of a listener's limit."""
    return f"envoy.resource_limits.listener.{listener}.connection_limit"
