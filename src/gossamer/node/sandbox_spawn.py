"""What a child of the warden does between fork and exec.

Invariant: a confined child never holds a capability over its network namespace, whose owner is the user namespace
outside its own; that, and not file permissions, is why it cannot change rules, links or marks.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox_families import keep_families
from gossamer.node.sandbox_managers import manager_places

NAMESERVER: Final = "100.100.100.53"
"""Nobody's address: what is sent to its port 53 is redirected to Envoy's DNS listener."""
RESOLVERS: Final = (Path("/run/systemd/resolve"), Path("/run/nscd"), Path("/run/avahi-daemon"))
"""Sockets by which glibc would ask the host's resolvers and never send a packet that can be redirected."""
HOSTS: Final = Path("/etc/hosts")
# chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot: over its own
# user namespace alone, where they let an image's start script drop its privileges
_KEPT: Final = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18})
_CHILD_FAILED: Final = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command as the warden received it."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    log: str
    user: str
    terminal: bool
    """Whether standard input and output stay the warden's own."""
    memory: Path | None = None
    """What is to be its /dev/shm, if not the host's."""
    hosts: str = ""
    """The file that it finds as /etc/hosts, outside of any confinement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Where a confined child lives. `user_namespace` tells whether the warden itself is in one of its own."""

    network: Path
    resolver: Path
    hidden: tuple[Path, ...]
    shown: Path | None
    """A folder that stays what it is though it lies in a hidden one."""
    user_namespace: bool
    outer_uid: int
    outer_gid: int


def host_pid() -> int:
    """This process's id as /proc has it, which is the host's unless a new /proc was mounted."""
    return int(Path("/proc/self").readlink().name)


def fork(body: Callable[[], None]) -> int:
    """Fork; the child runs `body` and never returns. Returns the child's process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        body()
    except BaseException:  # nothing may unwind into the warden's own frames
        traceback.print_exc()
    finally:
        os._exit(_CHILD_FAILED)


def close_all_but(kept: int) -> None:
    """Close every descriptor above standard error but one."""
    os.closerange(3, kept)
    os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def reset_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def redirect(program: Program) -> None:
    """Give this process the program's standard streams. Before anything is hidden: its log may lie there."""
    if program.terminal:
        return
    null = os.open("/dev/null", os.O_RDONLY)
    out = os.open(program.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(null)
    os.close(out)


def share_memory(program: Program) -> None:
    """Give this process the program's /dev/shm. OSError if it cannot."""
    target = Path("/dev/shm")  # noqa: S108 - the folder of shm_open
    if program.memory is not None and target.is_dir():
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount(str(program.memory), target, None, linux.MS_BIND)


def execute(program: Program, *, dies_with_parent: bool = False) -> NoReturn:
    """Become the program. OSError if it cannot."""
    if program.cwd:  # as who we are still: the user may not be able to go there
        os.chdir(program.cwd)
    if program.user:
        entry = pwd.getpwuid(int(program.user)) if program.user.isdigit() else pwd.getpwnam(program.user)
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if dies_with_parent:  # here, since a change of user forgets it
        linux.die_with_parent(signal.SIGKILL)
    reset_signals()
    os.execvpe(program.argv[0], program.argv, program.env)  # noqa: S606 (the user's own command)


def report_failure(report: int, argv: tuple[str, ...], error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    os.write(report, f"error cannot start {argv[0]}: {reason}\n".encode())


def start_plain(program: Program, report: int, *, dies_with_parent: bool) -> None:
    """Body of an unconfined child."""
    close_all_but(report)
    if not program.terminal:
        os.setsid()
    os.write(report, f"pid {os.getpid()} {host_pid()}\n".encode())
    try:
        redirect(program)
        share_memory(program)
        if program.hosts:
            _name_hosts(program.hosts)
        execute(program, dies_with_parent=dies_with_parent)
    except Exception as error:
        report_failure(report, program.argv, error)


def _name_hosts(file: str) -> None:
    """Have the file stand for /etc/hosts, for this process and those that it starts. OSError where a host allows no
    mounts; the process keeps its user, on whose rights nothing else changes."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        linux.unshare(linux.CLONE_NEWNS)
    except PermissionError:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    linux.mount("none", "/", None, linux.MS_SLAVE | linux.MS_REC)
    linux.mount(file, HOSTS.resolve(), None, linux.MS_BIND)
    cache = RESOLVERS[1]
    if cache.is_dir():
        linux.mount("gossamer", cache, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=64k")


def start_confined(program: Program, confinement: Confinement, report: int) -> None:
    """Body of the child that makes a confined program's namespaces; the program's own init becomes the warden's."""
    close_all_but(report)
    try:
        redirect(program)
        _enter_network(confinement)
        _hide(confinement)
        _leave_privileges(confinement)
    except Exception as error:
        report_failure(report, program.argv, error)
        return
    init = fork(lambda: run_init(program, report))
    os.write(report, f"pid {init} 0\n".encode())
    os._exit(0)


def _enter_network(confinement: Confinement) -> None:
    descriptor = os.open(confinement.network, os.O_RDONLY)
    linux.setns(descriptor, linux.CLONE_NEWNET)
    os.close(descriptor)


def _hide(confinement: Confinement) -> None:
    """In a mount namespace of the child's own: its resolver is Envoy, and folders that are not its business are empty.

    The next mount namespace belongs to a lesser user namespace, so the kernel locks these mounts into place.
    """
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", None, linux.MS_SLAVE | linux.MS_REC)
    # opened in this namespace and before its folder is hidden
    resolver = os.open(confinement.resolver, os.O_PATH)
    shown = os.open(confinement.shown, os.O_PATH) if confinement.shown is not None else None
    target = Path("/etc/resolv.conf").resolve()
    managers = tuple(manager_places())
    hidden = (*confinement.hidden, *RESOLVERS, *managers)
    for folder in hidden:
        if folder.is_dir():
            linux.mount("gossamer", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=64k")
            if target.is_relative_to(folder):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
    if target.exists():
        linux.mount(f"/proc/self/fd/{resolver}", target, None, linux.MS_BIND)
    if confinement.shown is not None:
        confinement.shown.mkdir(parents=True, exist_ok=True)
        linux.mount(f"/proc/self/fd/{shown}", confinement.shown, None, linux.MS_BIND)
        linux.mount("none", confinement.shown, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)
    for path in managers:
        if path.is_socket():
            linux.mount("/dev/null", path, None, linux.MS_BIND)
    _protect_groups()
    for folder in hidden:
        if (
            folder.is_dir() and folder.is_mount()
        ):  # what lay in another hidden folder is gone, or was made again for what is shown
            linux.mount("none", folder, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)
    os.chdir("/")


def _protect_groups() -> None:
    """Who may write control groups may move, freeze and kill what is in them: other workloads, and sidecars."""
    groups = Path("/sys/fs/cgroup")
    if groups.is_dir():
        linux.mount(str(groups), groups, None, linux.MS_BIND | linux.MS_REC)
        kept = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        linux.mount("none", groups, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | kept)


def resolver_configuration(search: tuple[str, ...]) -> str:
    """A confined program's /etc/resolv.conf."""
    lines = [f"nameserver {NAMESERVER}", "options timeout:2 attempts:2"]
    if search:
        lines.append("search " + " ".join(search))
    return "\n".join(lines) + "\n"


def _leave_privileges(confinement: Confinement) -> None:
    """Enter a user namespace whose capabilities reach nothing outside, as the same user as on the host."""
    waiting, ready = os.pipe()
    me = host_pid()

    def write_maps() -> None:
        os.close(ready)
        if not os.read(waiting, 1):  # it never got there
            os._exit(1)
        for name, text in _identity_maps(confinement):
            Path(f"/proc/{me}/{name}").write_text(text)
        os._exit(0)

    writer = fork(write_maps)
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID)
    os.write(ready, b"x")
    _, status = os.waitpid(writer, 0)
    os.close(waiting)
    os.close(ready)
    if status:
        raise OSError("no user namespace: its identity maps were refused")


def _identity_maps(confinement: Confinement) -> tuple[tuple[str, str], ...]:
    if confinement.user_namespace:  # the warden is 0 there; the child goes by its name on the host again
        return (("uid_map", f"{confinement.outer_uid} 0 1"), ("gid_map", f"{confinement.outer_gid} 0 1"))
    everyone = f"0 0 {2**32 - 1}"
    return (("uid_map", everyone), ("gid_map", everyone))


def run_init(program: Program, report: int) -> None:
    """Process 1 of a confined program's pid namespace: starts it, passes signals on, ends with its status."""
    os.write(report, f"init {host_pid()}\n".encode())
    with contextlib.suppress(OSError):  # a host that masks parts of /proc refuses; the old one then shows nothing new
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        linux.mount("/proc/sys", "/proc/sys", None, linux.MS_BIND | linux.MS_REC)
        linux.mount("none", "/proc/sys", None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)
    watched = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_SETMASK, watched)

    if not program.terminal:
        os.setsid()

    def program_body() -> None:
        try:
            if not program.terminal:
                os.setpgid(0, 0)
            keep_families()  # while it may: what it takes is given up next
            linux.keep_capabilities(_KEPT)
            execute(program)
        except Exception as error:
            report_failure(report, program.argv, error)

    child = fork(program_body)
    if not program.terminal:  # on both sides, so that no signal comes too early for the group
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
    os.close(report)
    os._exit(_watch(child, watched, terminal=program.terminal))


def _watch(child: int, watched: set[signal.Signals], *, terminal: bool) -> int:
    # with a terminal, its driver has sent these to the program already
    echoed = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH} if terminal else set()
    while True:
        number = signal.sigwait(watched)
        if number != signal.SIGCHLD:
            if number not in echoed:
                with contextlib.suppress(ProcessLookupError):
                    (os.kill if terminal else os.killpg)(child, number)
            continue
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code
