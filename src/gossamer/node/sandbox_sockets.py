"""How an Envoy without privilege opens sockets in the workloads' network namespaces.

Envoy enters a namespace with setns, makes a socket and returns. Without root it may enter (the namespaces are its own
user's) but never return to the host's. So a broker beside each Envoy answers those two system calls for it through
seccomp's user notification: setns only notes which namespace a thread means, and a socket made meanwhile is made by the
broker inside that namespace and handed over. Only making sockets takes this way, about 0.1 ms each; what flows
through them does not. Needs Linux 5.9. Invariant: a socket call whose thread means the host's namespace is untouched.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
from pathlib import Path
from typing import Final

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox_spawn import (
    Program,
    close_all_but,
    execute,
    fork,
    host_pid,
    redirect,
    report_failure,
    share_memory,
)

_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_ADD_DESCRIPTOR: Final = 0x40182103
_NOTIFICATION: Final = struct.Struct("QIIiIQ6Q")
_CONTINUE: Final = 1
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000


def socket_filter(numbers: linux.Architecture) -> list[tuple[int, int, int, int]]:
    """The seccomp program: notify of setns, and of socket for IPv4 and IPv6; allow the rest."""
    return [
        (_LOAD, 0, 0, 4),  # architecture
        (_EQUAL, 0, 6, numbers.audit),
        (_LOAD, 0, 0, 0),  # system call
        (_EQUAL, 5, 0, numbers.setns),
        (_EQUAL, 0, 3, numbers.socket),
        (_LOAD, 0, 0, 16),  # first argument: the address family
        (_EQUAL, 2, 0, socket.AF_INET),
        (_EQUAL, 1, 0, socket.AF_INET6),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]


def start_brokered(program: Program, report: int) -> None:
    """Body of the warden's child: becomes the broker; its own child becomes the program."""
    close_all_but(report)
    os.setsid()
    numbers = linux.architecture()
    if numbers is None:
        report_failure(report, program.argv, OSError(errno.ENOSYS, "unknown processor: no socket broker"))
        return
    ours, theirs = socket.socketpair()
    program_pid = fork(lambda: _run_program(program, report, theirs, numbers))
    os.close(report)
    theirs.close()
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    if descriptors:
        Broker(descriptors[0], program_pid, numbers).serve()
    _, status = os.waitpid(program_pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:  # end as it ended, so that the warden sees the same
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _run_program(program: Program, report: int, channel: socket.socket, numbers: linux.Architecture) -> None:
    os.write(report, f"pid {os.getpid()} {host_pid()}\n".encode())
    try:
        share_memory(program)
        notifications = linux.install_filter(socket_filter(numbers), numbers)
        socket.send_fds(channel, [b"x"], [notifications])
        os.close(notifications)
        channel.close()
        redirect(program)
        execute(program, dies_with_parent=True)
    except Exception as error:
        report_failure(report, program.argv, error)


class Broker:
    """Answers one program's notifications. It may wander between namespaces, since it never needs the host's again."""

    def __init__(self, notifications: int, program_pid: int, numbers: linux.Architecture) -> None:
        self._notifications = notifications
        self._numbers = numbers
        self._pidfd = os.pidfd_open(program_pid)
        self._host = Path("/proc/self/ns/net").stat().st_ino
        self._here = self._host
        self._meant: dict[int, int] = {}
        """By thread: a descriptor of the namespace that it means; absent for the host's."""
        self._known: dict[int, int] = {}
        """Descriptors of namespaces by inode. Held until the program ends."""

    def serve(self) -> None:
        """Answer until the program has ended."""
        poll = select.poll()
        poll.register(self._notifications, select.POLLIN)
        while not any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll()):
            self._answer()

    def _answer(self) -> None:
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._notifications, _RECEIVE, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # the thread was interrupted or has ended
                return
            raise
        number, thread, _, call, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        try:
            if call == self._numbers.setns:
                self._note(thread, arguments[0])
                self._reply(number, 0, 0, 0)
            elif thread in self._meant:
                self._make_socket(number, self._meant[thread], arguments)
            else:
                self._reply(number, 0, 0, _CONTINUE)
        except OSError as error:
            self._reply(number, 0, -(error.errno or errno.EPERM), 0)

    def _note(self, thread: int, descriptor: int) -> None:
        copy = linux.duplicate_from(self._pidfd, descriptor, self._numbers)
        inode = os.fstat(copy).st_ino
        if inode == self._host:
            self._meant.pop(thread, None)
            os.close(copy)
            return
        known = self._known.setdefault(inode, copy)
        if known != copy:
            os.close(copy)
        self._meant[thread] = known

    def _make_socket(self, number: int, namespace: int, arguments: list[int]) -> None:
        if self._here != namespace:
            linux.setns(namespace, linux.CLONE_NEWNET)
            self._here = namespace
        family, kind, protocol = arguments[:3]
        made = linux.bare_socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        try:
            flags = os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0
            request = bytearray(struct.pack("QIIII", number, 0, made, 0, flags))  # mutable: the result is a number
            self._reply(number, fcntl.ioctl(self._notifications, _ADD_DESCRIPTOR, request), 0, 0)
        finally:
            os.close(made)

    def _reply(self, number: int, value: int, error: int, flags: int) -> None:
        try:
            fcntl.ioctl(self._notifications, _SEND, struct.pack("QqiI", number, value, error, flags))
        except OSError as failure:
            if failure.errno != errno.ENOENT:  # the thread was interrupted meanwhile: it will ask again
                raise
