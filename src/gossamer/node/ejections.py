"""Tells the control plane which endpoints this host's Envoys leave out by their own judgement.

Envoy is asked only while the control plane says that some service has outlier detection or active checks, and for no
more than a fiftieth of the time: with a thousand clusters an answer takes tens of milliseconds. Invariant: each report
is the whole truth of this host, so one that is lost is made good by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import grpc.aio

from gossamer.core.errors import EnvoyError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.envoy_admin import Admin
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc

EVERY_S: Final = 2.0
REPEAT_S: Final = 20.0
_PART: Final = 50
"""Of the time, the part that asking may take."""
_CALL_S: Final = 5.0
_FLAGS: Final = {
    "failed_outlier_check": rpc.EXCLUSION_OUTLIER,
    "active_hc_timeout": rpc.EXCLUSION_CHECK_TIMEOUT,
    "failed_active_health_check": rpc.EXCLUSION_CHECK_FAILED,
    "pending_active_hc": rpc.EXCLUSION_CHECK_PENDING,
}
Key = tuple[str, str]


def observations_in(clusters: str, caller: Key) -> list[rpc.Observation]:
    """What Envoy's `/clusters?format=json` says of endpoints that it leaves out by itself; those that the control plane
    took out are none of them."""
    return list(_observations(json.loads(clusters), rpc.WorkloadKey(namespace=caller[0], name=caller[1])))


def _observations(clusters: Mapping[str, Any], caller: rpc.WorkloadKey) -> Iterator[rpc.Observation]:
    for cluster in clusters.get("cluster_statuses", ()):
        for host in cluster.get("host_statuses", ()):
            health = host.get("health_status", {})
            flags = [flag for name, flag in _FLAGS.items() if health.get(name)]
            place = host.get("address", {}).get("socket_address", {})
            if flags and cluster["name"].startswith("outbound|"):
                yield rpc.Observation(
                    caller=caller,
                    cluster=cluster["name"],
                    address=place.get("address", "") or host.get("address", {}).get("pipe", {}).get("path", ""),
                    port=place.get("port_value", 0),
                    exclusions=_said_once(flags),
                )


def _said_once(flags: list[rpc.Exclusion.ValueType]) -> list[rpc.Exclusion.ValueType]:
    """A check that timed out, or was never made, has failed too: the particular says more."""
    particular = {rpc.EXCLUSION_CHECK_TIMEOUT, rpc.EXCLUSION_CHECK_PENDING} & set(flags)
    return [flag for flag in flags if flag != rpc.EXCLUSION_CHECK_FAILED or not particular]


class EjectionWatch:
    """Asks the Envoys that `admins` gives, by workload, while `wanted` is true; `serve` runs until cancelled."""

    def __init__(
        self,
        admins: Callable[[], Iterable[tuple[Key, Admin]]],
        wanted: Latest[bool],
        channel: Callable[[], grpc.aio.Channel],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admins = admins
        self._wanted = wanted
        self._channel = channel
        self._clock = clock
        self._since: dict[bytes, float] = {}
        self._reported: frozenset[bytes] = frozenset()
        self._reported_at = 0.0

    async def serve(self) -> None:
        changed = asyncio.Event()
        unsubscribe = self._wanted.subscribe(lambda _: changed.set())
        try:
            while True:
                began = self._clock()
                if self._wanted.value or self._reported:
                    await self._turn()
                pause = max(EVERY_S, _PART * (self._clock() - began)) if self._wanted.value else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await changed.wait()
                changed.clear()
        finally:
            unsubscribe()

    async def _turn(self) -> None:
        """Ask every Envoy once, and report if there is news, or something that is not to be forgotten."""
        found: dict[bytes, rpc.Observation] = {}
        for caller, admin in tuple(self._admins()) if self._wanted.value else ():
            with contextlib.suppress(UnavailableError, EnvoyError, ValueError):
                text = await admin.clusters_text()
                for observation in await asyncio.to_thread(observations_in, text, caller):
                    found[observation.SerializeToString(deterministic=True)] = observation
        now = self._clock()
        self._since = {key: self._since.get(key, now) for key in found}
        known = frozenset(found)
        due = known and now - self._reported_at >= REPEAT_S
        if known == self._reported and not due:
            return
        for key, observation in found.items():
            observation.seconds = now - self._since[key]
        with contextlib.suppress(grpc.aio.AioRpcError):  # said again the next time
            async with self._channel() as channel:
                request = rpc.ReportRequest(observations=list(found.values()))
                await calls.REPORT.call(channel)(request, timeout=_CALL_S)
            self._reported, self._reported_at = known, now
