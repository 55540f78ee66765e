"""Which kinds of sockets a confined program may make: those that its network namespace holds, and no others.

A network namespace is no wall to every family: by AF_VSOCK a program reaches the machine's hypervisor, and other
workloads of the host, past every rule and every sidecar. So a seccomp filter lets it make sockets of UNIX, IPv4, IPv6,
netlink and (where it has the right, which it has not) packets alone. io_uring, which makes sockets without a system
call, is refused, as container engines refuse it. Invariant: what a program may not, nothing that it starts may.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Final

from gossamer.node import sandbox_linux as linux

Instruction = tuple[int, int, int, int]
ALLOWED: Final = (
    socket.AF_UNIX,
    socket.AF_INET,
    socket.AF_INET6,
    socket.AF_NETLINK,
    socket.AF_PACKET,
)
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_IO_URING_SETUP: Final = 425
_X32: Final = 0x40000000


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatible:
    """The numbers of programs of 32 bits on the same processor; `socketcall` 0 where there is no such call."""

    audit: int
    socket: int
    socketcall: int = 0


_COMPATIBLE: Final = {
    linux.ARCHITECTURES["x86_64"]: Compatible(audit=0x40000003, socket=359, socketcall=102),
    linux.ARCHITECTURES["aarch64"]: Compatible(audit=0x40000028, socket=281),
}


def keep_families() -> None:
    """Let this process, and all that it starts, make no other sockets. Nothing where the processor is unknown. OSError
    if the kernel refuses; it takes CAP_SYS_ADMIN over one's own user namespace."""
    numbers = linux.architecture()
    if numbers is not None:
        linux.add_filter(family_filter(numbers), numbers)


def family_filter(numbers: linux.Architecture) -> list[Instruction]:
    """The seccomp program."""
    compatible = _COMPATIBLE[numbers]
    families = [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
    families += [(_EQUAL, len(ALLOWED) - number, 0, family) for number, family in enumerate(ALLOWED)]
    families += [_refuse(errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]
    # x32 programs have the same architecture and other numbers; nobody builds any
    native = _calls(numbers.socket, ((_ANY_BIT, _X32, errno.ENOSYS), (_EQUAL, _IO_URING_SETUP, errno.EPERM)))
    refused = [(_EQUAL, _IO_URING_SETUP, errno.EPERM)]
    if compatible.socketcall:  # its arguments are behind a pointer; libraries make sockets by the other call first
        refused.append((_EQUAL, compatible.socketcall, errno.ENOSYS))
    small = _calls(compatible.socket, tuple(refused))
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 0, len(native) + len(families), numbers.audit),
        *native,
        *families,
        (_EQUAL, 1, 0, compatible.audit),
        _refuse(errno.ENOSYS),
        *small,
        *families,
    ]


def _calls(makes_socket: int, refused: tuple[tuple[int, int, int], ...]) -> list[Instruction]:
    """Refuse some calls; fall through to what follows for the one that makes a socket, and allow the rest."""
    found: list[Instruction] = [(_LOAD, 0, 0, _NUMBER)]
    for test, number, error in refused:
        found += [(test, 0, 1, number), _refuse(error)]
    return [*found, (_EQUAL, 1, 0, makes_socket), (_RETURN, 0, 0, _ALLOW)]


def _refuse(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | error)
