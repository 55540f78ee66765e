"""Which certificates were given out and have not ended: what is counted, and what a revocation looks up.

One line each in one file, so that commands and a control plane share it; a lock beside it orders them. Invariant: a
certificate is in the file before it is in anybody else's hands.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from gossamer.ca.certificates import load_chain
from gossamer.ca.files import private_folder, write_private
from gossamer.core.errors import StateError

_COMPACT: Final = 2_000
"""After so many lines it is time to leave out those that have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One certificate. `workload` is `NAMESPACE/NAME`, empty for a host's own; `host` is empty for one made by hand."""

    serial: int
    workload: str
    host: str
    signer: str
    not_after: datetime

    @property
    def name(self) -> str:
        return self.workload or f"host {self.host}"


class IssuedLog:
    """The file, in a folder of its own kind."""

    def __init__(self, folder: Path) -> None:
        self._path = private_folder(folder) / "issued.jsonl"
        self._lines = 0

    def add(self, chain: bytes, *, workload: str, host: str, signer: str, now: datetime) -> None:
        """Remember a certificate chain (PEM) that is about to be given out. StateError if it cannot be written."""
        leaf = load_chain(chain, "what was signed")[0]
        issued = Issued(
            serial=leaf.serial_number, workload=workload, host=host, signer=signer, not_after=leaf.not_valid_after_utc
        )
        try:
            with self._locked():
                with self._path.open("a+b") as file:
                    os.fchmod(file.fileno(), 0o600)
                    file.write((_end_of_line(file) + _line(issued)).encode())
                self._lines += 1
                if self._lines % _COMPACT == 0:
                    valid = [_line(one) for one in self.valid(now)]
                    write_private(self._path, "".join(valid).encode())
        except OSError as error:
            raise StateError(f"cannot write {self._path}: {error.strerror}") from error

    def valid(self, now: datetime) -> list[Issued]:
        """All that have not ended, in the order in which they were given out. A line that a crash cut short is
        nobody's."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"cannot read {self._path}: {error.strerror}") from error
        found = (_issued(line) for line in lines)
        return [one for one in found if one is not None and one.not_after > now]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_suffix(".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def latest(issued: list[Issued]) -> list[Issued]:
    """Of each holder the newest alone: the others were replaced by it."""
    return list({one.name: one for one in issued}.values())


def _line(one: Issued) -> str:
    ends = int(one.not_after.timestamp())
    return json.dumps([f"{one.serial:x}", one.workload, one.host, one.signer, ends]) + "\n"


def _end_of_line(file: BinaryIO) -> str:
    """What the file lacks when a crash cut its last line short."""
    if file.seek(0, os.SEEK_END) == 0:
        return ""
    file.seek(-1, os.SEEK_END)
    return "" if file.read(1) == b"\n" else "\n"


def _issued(line: str) -> Issued | None:
    try:
        serial, workload, host, signer, ends = json.loads(line)
        return Issued(
            serial=int(serial, 16),
            workload=str(workload),
            host=str(host),
            signer=str(signer),
            not_after=datetime.fromtimestamp(int(ends), UTC),
        )
    except (ValueError, TypeError):
        return None
