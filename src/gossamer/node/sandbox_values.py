"""What an agent may ask its warden for. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gossamer.core.frozen import FrozenMap


class Lifeline(StrEnum):
    """What the warden does when its agent is gone without a word (kill -9, a closed terminal)."""

    DIE = "die"
    """Ends everything: applications are asked first, then nothing is left."""
    OUTLIVE = "outlive"
    """Keeps everything running; the next agent with the same runtime folder adopts it."""


class Isolation(StrEnum):
    """What the children of a warden are kept apart by."""

    ROOT = "root"
    """Mount, pid and network namespaces that belong to the host's root."""
    USER = "user"
    """The same inside a user namespace of one's own: no privilege needed."""
    NONE = "none"
    """Plain processes on the host's network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """`runtime` is a folder of this mesh alone (made with mode 0700 when missing); applications never see it, nor
    the folders in `hidden`."""

    runtime: Path
    isolation: Isolation = Isolation.NONE
    lifeline: Lifeline = Lifeline.DIE
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network namespace to make for one workload: no wire leads out of it, all that leaves goes to Envoy.

    `addresses` are the workload's own (IPv4 and IPv6, without prefix), `search` the resolver's search list.
    """

    name: str
    addresses: tuple[str, ...] = ("100.64.0.2", "fd00:6705::2")
    search: tuple[str, ...] = ()
    outbound_port: int = 15001
    inbound_port: int = 15006
    dns_port: int = 15053


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapture:
    """Processes of the host, captured by their users' ids on the host's own network; `ports` are those they serve.

    Nothing is made but rules, which the kernel drops with the warden. Envoy itself runs as root, which is never one of
    `uids`.
    """

    name: str
    uids: tuple[int, ...]
    ports: tuple[int, ...] = ()
    outbound_port: int = 15001
    inbound_port: int = 15006
    dns_port: int = 15053


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A process to start. `env` is its whole environment.

    With `network`, it is confined: it lives in that network namespace and in user, mount and pid namespaces of its
    own. With `hosts`, it stays on the host's network and finds that file as its /etc/hosts, in a mount namespace (and,
    unless we are root, a user namespace) of its own. With `enters`, it stays on the host's network but may open sockets
    in the workloads' (an Envoy). `log` takes standard output and error (appended); None lends it the terminal of
    whoever started the warden. `user` is a login name or number, for root only. `note` is given back to an agent that
    adopts the child.
    """

    argv: tuple[str, ...]
    env: FrozenMap[str, str]
    cwd: str = ""
    log: Path | None = None
    network: str = ""
    hosts: Path | None = None
    enters: bool = False
    user: str = ""
    note: str = ""
    shown: Path | None = None
    """A folder that a confined child sees though what is around it is hidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question to a workload, asked from inside its network: does `port` take a connection; with `path`, does
    `GET path` answer 200 to 399 (over TLS with `tls`, whoever's the certificate is); with `service`, does its gRPC
    health service say that this one (empty: the server) is serving? `seconds` bounds the whole."""

    port: int
    address: str = ""
    """Empty: where the workload is known to listen, else on loopback."""
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    service: str | None = None
    seconds: float = 1.0
