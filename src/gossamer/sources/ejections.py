"""What callers' Envoys leave out of load balancing by their own judgement, as their hosts' agents report it.

A pure state machine; time is an argument (seconds of any one clock that never goes back). Invariant: it is for people
to see, and nothing of it becomes configuration; a report that is not repeated is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from gossamer.core.frozen import Value
from gossamer.rpc import gossamer_pb2 as rpc

REPORT_S: Final = 60.0
"""How long a report counts. Agents repeat theirs three times as often as long as there is anything in it."""
_MANY: Final = 10_000
_LONG: Final = 512
_WHY: Final = {
    rpc.EXCLUSION_OUTLIER: "outlier detection",
    rpc.EXCLUSION_CHECK_FAILED: "health check",
    rpc.EXCLUSION_CHECK_TIMEOUT: "health check timed out",
    rpc.EXCLUSION_CHECK_PENDING: "not checked yet",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ejection(Value):
    """One caller (namespace, name) that leaves out one endpoint of one of its clusters, and why; since when by the
    control plane's clock."""

    caller: tuple[str, str]
    cluster: str
    address: str
    port: int
    why: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    ejections: tuple[Ejection, ...]
    at: float


@dataclass(slots=True)
class Ejections:
    """The newest report of each host."""

    _reports: dict[str, _Report] = field(default_factory=dict)

    def report(
        self, host: str, observations: Iterable[rpc.Observation], now: float, owned: Callable[[str, str], bool]
    ) -> None:
        """Take what a host says, the whole of it, of the workloads that are its own."""
        kept = [one for one in observations if _sound(one) and owned(one.caller.namespace, one.caller.name)]
        self._reports[host] = _Report(ejections=tuple(_ejection(one, now) for one in kept[:_MANY]), at=now)

    def current(self, now: float) -> tuple[Ejection, ...]:
        """What is reported now, in the order of callers."""
        self._reports = {host: report for host, report in self._reports.items() if report.at + REPORT_S > now}
        found = [one for report in self._reports.values() for one in report.ejections]
        return tuple(sorted(found, key=lambda one: (one.caller, one.cluster, one.address, one.port)))


def _sound(observation: rpc.Observation) -> bool:
    """Whether it is fit to be shown: whatever a host says ends up on a terminal."""
    texts = (observation.cluster, observation.address)
    return all(len(text) <= _LONG and text.isprintable() for text in texts) and observation.port < 65536


def _ejection(observation: rpc.Observation, now: float) -> Ejection:
    return Ejection(
        caller=(observation.caller.namespace, observation.caller.name),
        cluster=observation.cluster,
        address=observation.address,
        port=observation.port,
        why=tuple(_WHY.get(exclusion, "reasons of its own") for exclusion in observation.exclusions),
        since=now - max(0.0, observation.seconds),
    )
