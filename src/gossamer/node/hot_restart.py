"""Which Envoy takes over from which: what two processes of one sidecar must agree on to hand listening sockets over.

In Envoy's hot restart a process of the next epoch with the same base id finds its parent by a UNIX socket, and a lock
that both share in /dev/shm; it is given the parent's listening sockets, and tells it to drain once it serves.
Invariant: two processes have one base id only if one follows the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where shm_open makes what it is asked for
_BASES: Final = 9_999_999
_IDS: Final = 10
"""Envoy multiplies a base id by ten: the last digit tells parent and child apart."""
_PREFIX: Final = "e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One process among those that follow each other."""

    base: int
    epoch: int = 0

    @property
    def next(self) -> Generation:
        return replace(self, epoch=self.epoch + 1)

    def argv(self, folder: Path, shutdown_seconds: int) -> tuple[str, ...]:
        """Envoy's options; the parent is ended `shutdown_seconds` after this one serves."""
        return (
            *("--base-id", str(self.base), "--restart-epoch", str(self.epoch)),
            # a path and not an abstract name: whoever is on this host could take that
            *("--socket-path", str(folder / _PREFIX), "--socket-mode", "600"),
            *("--parent-shutdown-time-s", str(shutdown_seconds)),
        )


def write_note(digest: str, generation: Generation | None) -> str:
    """What the warden keeps with a process for the agent that adopts it."""
    return f"{digest} {generation.base} {generation.epoch}" if generation else digest


def read_note(note: str) -> tuple[str, Generation | None]:
    """What `write_note` wrote; no generation for one that cannot be followed."""
    digest, *rest = note.split()
    if len(rest) != 2 or not all(word.isdigit() for word in rest):
        return digest, None
    return digest, Generation(base=int(rest[0]), epoch=int(rest[1]))


def possible() -> bool:
    """Whether this host has what a hot restart needs; a minimal container may not."""
    return SHARED_MEMORY.is_dir()


def first_generation(folder: Path, chance: Callable[[], float]) -> Generation:
    """One that no process of this host has: none with sockets in `folder`, and none of another mesh."""
    used = {_base_of(path) for path in folder.glob(f"{_PREFIX}_*")}
    base = 1 + int(chance() * (_BASES - 1))
    while base in used or _memory(base).exists():
        base = base % _BASES + 1
    return Generation(base=base)


def forget_generations(folder: Path, used: Iterable[int], *, shared: bool) -> None:
    """Remove what processes that have ended left: sockets, and, where it is `shared` with the host, memory."""
    kept = set(used)
    for path in folder.glob(f"{_PREFIX}_*"):
        base = _base_of(path)
        if base in kept:
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            if shared:
                _memory(base).unlink(missing_ok=True)


def _memory(base: int) -> Path:
    return SHARED_MEMORY / f"envoy_shared_memory_{base * _IDS}"


def _base_of(path: Path) -> int:
    number = path.name.rpartition("_")[2]
    return int(number) // _IDS if number.isdigit() else 0
