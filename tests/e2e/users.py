"""Whoever runs a command in these tests: the user that runs them, or, when that is root, an ordinary one.

An ordinary user who cannot reach the interpreter (it may live in root's home) sees it through a mount namespace in
which the folder above shows what a program needs, and nothing else.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import gossamer
from tests.conftest import need

ORDINARY = 54321
"""The user and group id; nobody's."""

# Runs its arguments as another user: UID, then mounts HIDDEN=WANTED:WANTED..., then `--` and the command.
_BECOME = """
import ctypes, os, sys
uid, *words = sys.argv[1:]
split = words.index("--")
libc = ctypes.CDLL(None, use_errno=True)
def done(code):
    if code: sys.exit(f"mount namespace: {os.strerror(ctypes.get_errno())}")
def mount(source, target, kind, flags, options=None):
    done(libc.mount(source.encode(), target.encode(), kind, flags, options))
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
if split:
    done(libc.unshare(CLONE_NEWNS))
    mount("none", "/", None, MS_REC | MS_PRIVATE)
for word in words[:split]:
    hidden, _, wanted = word.partition("=")
    handles = {path: os.open(path, os.O_PATH) for path in wanted.split(":")}
    mount("tmpfs", hidden, b"tmpfs", 0, b"mode=755")
    for path, handle in handles.items():
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{handle}", path, None, MS_BIND | MS_REC)
        os.close(handle)
os.setgroups([])
os.setresgid(int(uid), int(uid), int(uid))
os.setresuid(int(uid), int(uid), int(uid))
os.execv(words[split + 1], words[split + 1:])
"""


# Runs its arguments as root of a user namespace of its own.
_OWN_ROOT = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNS):
    print("not allowed:", os.strerror(ctypes.get_errno()))
    sys.exit(77)
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
os.execv(sys.argv[1], sys.argv[1:])
"""
OWN_ROOT = (sys.executable, "-I", "-c", _OWN_ROOT)
NOT_ALLOWED = 77
"""The exit code of OWN_ROOT where user namespaces are not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user id, and the words before a command that make it this user's."""

    uid: int
    before: tuple[str, ...] = ()

    @classmethod
    def current(cls) -> User:
        return cls(uid=os.geteuid())

    def give(self, path: Path) -> None:
        """Make a folder and what is in it this user's."""
        if self.uid != os.geteuid():
            for entry in (path, *path.rglob("*")):
                os.chown(entry, self.uid, self.uid, follow_symlinks=False)


def ordinary() -> User:
    """An ordinary user. The test is skipped where root may not mount."""
    if os.geteuid() != 0:
        return User.current()
    mounts: dict[Path, list[Path]] = {}
    for wanted in _program_folders():
        if (hidden := _first_closed(wanted)) is not None:
            mounts.setdefault(hidden, []).append(wanted)
    words = [f"{hidden}={':'.join(str(path) for path in wanted)}" for hidden, wanted in mounts.items()]
    need(not mounts or _may_mount(), f"root may not mount here, and others cannot reach {sys.executable}")
    return User(uid=ORDINARY, before=(sys.executable, "-I", "-c", _BECOME, str(ORDINARY), *words, "--"))


def _program_folders() -> list[Path]:
    """What a command reads: these tests, the interpreter, the environment, our source."""
    wanted = (Path(__file__).parents[2], Path(sys.base_prefix), Path(sys.prefix), Path(gossamer.__file__).parents[1])
    return [path.resolve() for path in wanted]


def _first_closed(path: Path) -> Path | None:
    """The topmost folder on the way to `path` that others may not enter."""
    for folder in reversed((path, *path.parents)):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def _may_mount() -> bool:
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(capabilities & (1 << 21))  # CAP_SYS_ADMIN
