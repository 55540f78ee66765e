"""Local ports and loopback addresses by purpose, kept in a file so that a restart finds the same ones.

What the registry and Envoy's listeners name must not wander. Invariant: a port given to one purpose is given to no
other on the same address; one that somebody else took while we were away is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from gossamer.core.errors import CaptureError, StateError

FIRST: Final = 20000
LAST: Final = 29999
"""Below the ports that Linux gives to outgoing connections (from 32768)."""
_SCHEMA: Final = 1
_LISTEN: Final = "0A"
"""The state of a listening socket in /proc/net/tcp."""
LOOPBACK: Final = ipaddress.IPv4Network("127.64.0.0/10")
"""Workloads' own addresses in explicit capture."""
SERVICES: Final = ipaddress.IPv4Network("127.128.0.0/10")
"""Addresses that services have for one workload in explicit capture."""
SHARED: Final = ipaddress.IPv4Network("100.64.0.0/11")
"""Workloads' own addresses inside their namespaces: carriers' shared space, never a service's."""


class Ports:
    """Allocations of one host and mesh. `path` is the file that remembers them; None remembers nothing."""

    def __init__(self, path: Path | None, *, first: int = FIRST, last: int = LAST) -> None:
        self._path = path
        self._first, self._last = first, last
        self._ports: dict[str, tuple[str, int]] = {}
        self._addresses: dict[str, str] = {}
        self._confirmed: set[str] = set()
        self._waiting = self._unsaved = False
        if path is not None:
            self._load(path)

    def allocate(self, purpose: str, address: str, *, preferred: int = 0, kind: int = socket.SOCK_STREAM) -> int:
        """The port of `purpose` at `address`, of TCP unless `kind` says otherwise: the one it had, else `preferred` if
        free, else a free one. CaptureError if there is none."""
        known = self._ports.get(purpose)
        if known is not None and known[0] != address:
            known = None
        if known is not None and (purpose in self._confirmed or _free(*known, shared=True, kind=kind)):
            self._confirmed.add(purpose)
            return known[1]
        taken = {port for other, (where, port) in self._ports.items() if where == address and other != purpose}
        for port in self._candidates(purpose, preferred):
            if port not in taken and _free(address, port, shared=False, kind=kind):
                self._ports[purpose] = (address, port)
                self._confirmed.add(purpose)
                self._save()
                return port
        raise CaptureError(f"no free port between {self._first} and {self._last} at {address} for {purpose}")

    def claim(self, purpose: str, address: str, port: int, *, held: bool) -> bool:
        """Whether `purpose` has this very port: it is nobody else's, or ours already while what serves it is `held`."""
        others = {kept for other, kept in self._ports.items() if other != purpose}
        ours = held and self._ports.get(purpose) == (address, port)
        free = _free(address, port, shared=True) and not _listens(address, port)
        if (address, port) in others or not (ours or free):
            return False
        self._ports[purpose] = (address, port)
        self._save()
        return True

    def remember(self, purpose: str, port: int) -> None:
        """Note a port that was chosen elsewhere."""
        if self._ports.get(purpose) != ("", port):
            self._ports[purpose] = ("", port)
            self._save()

    def remembered(self, purpose: str) -> int | None:
        """The port that was noted."""
        found = self._ports.get(purpose)
        return None if found is None else found[1]

    def address(self, purpose: str, network: ipaddress.IPv4Network) -> str:
        """An address of `network` that no other purpose has."""
        known = self._addresses.get(purpose)
        if known is None or ipaddress.IPv4Address(known) not in network:
            taken = set(self._addresses.values())
            size = network.num_addresses - 2
            start = self._start(purpose) % size
            numbers = ((start + step) % size + 1 for step in range(size))
            known = next(address for number in numbers if (address := str(network[number])) not in taken)
            self._addresses[purpose] = known
            self._save()
        return known

    def release(self, prefix: str) -> None:
        """Forget every allocation whose purpose starts with `prefix`."""
        for kept in (self._ports, self._addresses):
            for purpose in [purpose for purpose in kept if purpose.startswith(prefix)]:
                del kept[purpose]
        self._confirmed = {purpose for purpose in self._confirmed if purpose in self._ports}
        self._save()

    def keep(self, keys: Iterable[str]) -> None:
        """Forget every allocation but those of purposes `KEY/...`."""
        kept = tuple(f"{key}/" for key in keys)
        gone = {f"{purpose.partition('/')[0]}/" for purpose in (*self._ports, *self._addresses)} - set(kept)
        for prefix in sorted(gone):
            self.release(prefix)

    def _start(self, purpose: str) -> int:
        """Where to begin to look. Two meshes of one machine have workloads of one name, may start at one moment, and
        take other ports and addresses all the same: two Envoys of one user could open one port, and share its calls."""
        return _number(f"{self._path}/{purpose}")

    def _candidates(self, purpose: str, preferred: int) -> Iterator[int]:
        size = self._last - self._first + 1
        start = self._start(purpose)
        if preferred:
            yield preferred
        yield from (self._first + (start + step) % size for step in range(size))

    def _load(self, path: Path) -> None:
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if document["schema"] != _SCHEMA:
                raise StateError(f"{path} is of schema {document['schema']}; this version reads {_SCHEMA}")
            self._ports = {key: (address, port) for key, (address, port) in document["ports"].items()}
            self._addresses = dict(document["addresses"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path} is damaged ({error}); delete it and ports are chosen anew") from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Remember at the end all that is allocated meanwhile."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
            if self._unsaved:
                self._save()

    def _save(self) -> None:
        self._unsaved = self._waiting
        if self._path is None or self._waiting:
            return
        document = {"schema": _SCHEMA, "ports": self._ports, "addresses": self._addresses}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
        new.replace(self._path)


def _number(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:6])


def _listens(address: str, port: int) -> bool:
    """Whether somebody listens at exactly this address: a port that may be shared looks free to those who share."""
    family, table = (socket.AF_INET6, "tcp6") if ":" in address else (socket.AF_INET, "tcp")
    packed = socket.inet_pton(family, address)
    words = (int.from_bytes(packed[start : start + 4], sys.byteorder) for start in range(0, len(packed), 4))
    wanted = "".join(f"{word:08X}" for word in words) + f":{port:04X}"
    with contextlib.suppress(OSError):
        rows = (line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:])
        return any(row[1] == wanted and row[3] == _LISTEN for row in rows)
    return False


def _free(address: str, port: int, *, shared: bool, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether a listener could be bound; `shared` allows for an Envoy of ours that holds the port already."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, kind) as attempt:
        if shared:  # Envoy shares its ports in this way, and only with processes of the same user
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        attempt.bind((address, port))
        return True
    return False
