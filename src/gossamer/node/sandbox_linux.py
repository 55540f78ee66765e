"""The few system calls that Python 3.11 does not offer, by their kernel names.

Every function raises OSError with the kernel's errno. Nothing here keeps state.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_MNT_DETACH: Final = 2
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 1 << 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Numbers that differ between processors (`audit` as in linux/audit.h)."""

    audit: int
    setns: int
    socket: int
    seccomp: int
    pidfd_getfd: int = 438


ARCHITECTURES: Final = {
    "x86_64": Architecture(audit=0xC000003E, setns=308, socket=41, seccomp=317),
    "aarch64": Architecture(audit=0xC00000B7, setns=268, socket=198, seccomp=277),
}


def architecture() -> Architecture | None:
    """This machine's numbers, None where nobody has written them down."""
    return ARCHITECTURES.get(platform.machine())


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _checked(_libc().setns(fd, kind), "setns")


def mount(source: str, target: Path | str, kind: str | None, flags: int, options: str | None = None) -> None:
    result = _libc().mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )
    _checked(result, f"mount {target}")


def unmount(target: Path) -> None:
    _checked(_libc().umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def die_with_parent(signal_number: int) -> None:
    """Ask for `signal_number` when the thread that forked this process ends; lost on setuid, kept over exec."""
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has gone (a child subreaper)."""
    _checked(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def keep_capabilities(kept: frozenset[int]) -> None:
    """Give up for good, over any later exec too, every capability but `kept`."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        if capability not in kept:
            _checked(_libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")


def duplicate_from(pidfd: int, fd: int, numbers: Architecture) -> int:
    """A duplicate, in this process, of another process's file descriptor."""
    return _checked(_libc().syscall(numbers.pidfd_getfd, pidfd, fd, 0), "pidfd_getfd")


def bare_socket(family: int, kind: int, protocol: int) -> int:
    """A socket as a plain descriptor, close-on-exec or not as `kind` says."""
    return _checked(_libc().socket(family, kind, protocol), "socket")


def install_filter(instructions: list[tuple[int, int, int, int]], numbers: Architecture) -> int:
    """Install a seccomp filter of (code, jump true, jump false, operand); returns its notification descriptor."""
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    return _set_filter(instructions, numbers, _SECCOMP_FILTER_FLAG_NEW_LISTENER)


def add_filter(instructions: list[tuple[int, int, int, int]], numbers: Architecture) -> None:
    """Install a seccomp filter that tells nobody. It takes CAP_SYS_ADMIN; set-user-id programs stay what they are."""
    _set_filter(instructions, numbers, 0)


def _set_filter(instructions: list[tuple[int, int, int, int]], numbers: Architecture, flags: int) -> int:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code)))
    result = _libc().syscall(numbers.seccomp, _SECCOMP_SET_MODE_FILTER, flags, program)
    return _checked(result, "seccomp")
