"""What the control plane holds of what sidecars have seen, as the commands of `gossamer authz` read it.

Invariant: nothing here decides; times are seconds since 1970, and `now` is the control plane's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gossamer.cli.parts import folders
from gossamer.core.errors import UnavailableError
from gossamer.rpc.local import PLANE_SOCKET, call
from gossamer.sources.seen import ANONYMOUS, OUTSIDE, PLAINTEXT

MUCH: Final = 0.1
"""Of all entries, the part that may be missing."""
_SPIFFE: Final = "spiffe://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One row: what was asked of a workload, by whom, what was decided, how often."""

    caller: str
    port: int
    protocol: str
    method: str
    path: str
    verdict: str
    by: str
    would: str
    count: int
    first: float
    last: float

    @property
    def identity(self) -> str:
        """The caller's verified identity without scheme, as policies write it; empty if there was none."""
        return self.caller.removeprefix(_SPIFFE) if self.caller.startswith(_SPIFFE) else ""

    @property
    def plaintext(self) -> bool:
        return self.caller.startswith(PLAINTEXT)

    @property
    def address(self) -> str:
        """The address of a caller without identity; empty for others."""
        kind, _, address = self.caller.partition(":")
        return address if f"{kind}:" in (PLAINTEXT, ANONYMOUS) else ""

    @property
    def what(self) -> str:
        """`GET /a` or `TCP`."""
        return f"{self.method} {self.path}".strip() if self.protocol == "http" else "TCP"

    @property
    def who(self) -> str:
        """The caller in words: `namespace/account`, or why there is none."""
        if self.identity:
            return account_of(self.identity)
        if self.caller == OUTSIDE:
            return "callers from outside"
        words = "plaintext from" if self.plaintext else "TLS without an identity from"
        return f"{words} {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A service port that a workload answers for."""

    hostname: str
    namespace: str
    port: int
    workload_port: int
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorkload:
    """One workload and what came in at it. `missed` entries never arrived here, `unrecorded` ones found no place."""

    namespace: str
    name: str
    gateway: bool = False
    host: str = ""
    running: bool = True
    observed: bool = True
    reporting: bool = True
    since: float | None = None
    taken: int = 0
    missed: int = 0
    unrecorded: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    services: tuple[ServicePort, ...] = ()
    mode: str = "PERMISSIVE"
    port_modes: Mapping[int, str] = field(default_factory=dict)
    tokens: bool = False
    allow: tuple[str, ...] = ()
    dry_run: tuple[str, ...] = ()
    dry_run_allow: tuple[str, ...] = ()
    """Those of them that allow."""
    rows: tuple[Seen, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def gaps(self) -> str:
        """What is not known of what came in, in words; empty if all is."""
        parts = [f"{self.missed} of {self.taken + self.missed} entries got lost"] if self.missed else []
        if self.unrecorded:
            parts.append(f"{self.unrecorded} were of too many kinds to record")
        return ", and ".join(parts)

    @property
    def full_of_gaps(self) -> bool:
        """Whether too much is not known to conclude anything. What matters comes more than once: a little may be lost,
        as it is when an agent is killed."""
        return self.missed + self.unrecorded > MUCH * max(self.taken + self.missed, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A PeerAuthentication, and where it is written."""

    namespace: str
    name: str
    selector: Mapping[str, str]
    mode: str
    ports: Mapping[int, str]
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMesh:
    """All of a mesh."""

    now: float
    root_namespace: str = "istio-system"
    workloads: tuple[SeenWorkload, ...] = ()
    peers: tuple[Peer, ...] = ()


def ask_seen(state: Path | None) -> SeenMesh:
    """What the first control plane of this host says. UnavailableError when none answers."""
    for folder in folders(state):
        if (folder / PLANE_SOCKET).exists():
            try:
                answer = call(folder / PLANE_SOCKET, "GET", "/v1/seen", timeout_s=60.0).json()
            except UnavailableError:
                continue
            return load_seen_mesh(answer)
    raise UnavailableError("no control plane answers on this host; is the mesh running?")


def load_seen_mesh(answer: Mapping[str, Any]) -> SeenMesh:
    """The JSON of the local API."""
    return SeenMesh(
        now=answer["now"],
        root_namespace=answer["root_namespace"],
        workloads=tuple(_workload(one) for one in answer["workloads"]),
        peers=tuple(Peer(**one | {"ports": _by_port(one["ports"])}) for one in answer["peers"]),
    )


def _workload(one: Mapping[str, Any]) -> SeenWorkload:
    plain = (
        *("namespace", "name", "gateway", "host", "running", "observed", "reporting", "since", "taken", "missed"),
        *("unrecorded", "labels", "selector", "tokens"),
    )
    mtls = one.get("mtls", {"mode": "PERMISSIVE", "ports": {}})
    return SeenWorkload(
        **{name: one[name] for name in plain if name in one},
        addresses=tuple(one.get("addresses", ())),
        services=tuple(ServicePort(**service) for service in one.get("services", ())),
        mode=mtls["mode"],
        port_modes=_by_port(mtls["ports"]),
        allow=tuple(one.get("allow", ())),
        dry_run=tuple(one.get("dry_run", ())),
        dry_run_allow=tuple(one.get("dry_run_allow", ())),
        rows=tuple(Seen(**row) for row in one["rows"]),
    )


def _by_port(ports: Mapping[str, str]) -> dict[int, str]:
    return {int(port): mode for port, mode in ports.items()}


def seen_json(workload: SeenWorkload) -> dict[str, Any]:
    """A workload's rows and gaps, times as texts."""
    return {
        "workload": workload.key,
        "since": moment(workload.since) if workload.since is not None else "",
        "reporting": workload.observed and workload.reporting,
        "taken": workload.taken,
        "missed": workload.missed,
        "unrecorded": workload.unrecorded,
        "rows": [asdict(row) | {"first": moment(row.first), "last": moment(row.last)} for row in workload.rows],
    }


def account_of(identity: str) -> str:
    """`namespace/account` of an identity of Istio's shape, else all of it."""
    parts = identity.split("/")
    return f"{parts[2]}/{parts[4]}" if len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa" else identity


def moment(at: float) -> str:
    """A time as policies' comments and tables write it (UTC, to the second)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
