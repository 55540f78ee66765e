"""How the control plane wants Envoys to be started: its answers to registrations, kept on disk.

Invariant: an agent that comes back while the control plane is away starts an Envoy as it was started before, and so
adopts the one that runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from gossamer.ca.files import private_folder, write_private
from gossamer.compile.patches.bootstrap import BootstrapPatch
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import INBOUND_PORT, OUTBOUND_PORT
from gossamer.model.started import DEFAULT, ProxySettings, may_be_set
from gossamer.rpc import gossamer_pb2 as rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """How one Envoy is to be started."""

    settings: ProxySettings = DEFAULT
    patches: tuple[BootstrapPatch, ...] = ()


@dataclass(slots=True, kw_only=True)
class Starts:
    """What was said, by workload (namespace, name)."""

    folder: Path
    _said: dict[tuple[str, str], rpc.Start] = field(default_factory=dict)

    def take(self, start: rpc.Start) -> None:
        """Remember an answer; on disk, if it says anything new."""
        key = (start.workload.namespace, start.workload.name)
        path = self._path(key)
        content = start.SerializeToString(deterministic=True)
        if self._said.get(key) != start and not (path.exists() and path.read_bytes() == content):
            write_private(private_folder(self.folder) / path.name, content)
        self._said[key] = start

    def of(self, key: tuple[str, str]) -> Started:
        """What was last said of a workload; the agent's own way if nothing was."""
        start = self._said.get(key)
        if start is None:
            try:
                start = rpc.Start.FromString(self._path(key).read_bytes())
            except (OSError, DecodeError):
                return Started()
        return started(start)

    def keep(self, keys: Iterable[tuple[str, str]]) -> None:
        """Forget what was said of all other workloads."""
        kept = {self._path(key) for key in keys}
        for path in self.folder.glob("*.start"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _path(self, key: tuple[str, str]) -> Path:
        return self.folder / f"{key[0]}.{key[1]}.start"


def started(start: rpc.Start) -> Started:
    """What an answer means. An agent judges by itself which variables its Envoys may be given."""
    environment = {name: value for name, value in start.environment.items() if may_be_set(name)}
    return Started(
        settings=ProxySettings(
            concurrency=_count(start, "concurrency"),
            environment=FrozenMap(environment),
            runtime=FrozenMap(start.runtime),
            statsd=start.statsd,
            termination_drain_s=_given(start, "termination_drain_seconds"),
            flush_interval_s=_given(start, "flush_interval_seconds"),
            flush_kb=start.flush_kb,
            max_connections=_count(start, "max_connections"),
            drain_s=_count(start, "drain_seconds"),
            listener_connections=_count(start, "listener_connections"),
            readiness_probe=start.readiness_probe,
            outbound_port=start.outbound_port or OUTBOUND_PORT,
            inbound_port=start.inbound_port or INBOUND_PORT,
        ),
        patches=tuple(BootstrapPatch(value=one.value, replace_lists=one.replace_lists) for one in start.patches),
    )


def _count(start: rpc.Start, name: str) -> int | None:
    return int(getattr(start, name)) if start.HasField(name) else None  # type: ignore[arg-type]


def _given(start: rpc.Start, name: str) -> float | None:
    return float(getattr(start, name)) if start.HasField(name) else None  # type: ignore[arg-type]
