"""What a captured application tries in order to go round its sidecar, and how each attempt fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import gossamer
from gossamer.node.sandbox import Command, Isolation
from tests.node.capture_parts import ENVIRONMENT, NAMESPACES, add_network, run_program, sandboxed

# Each attempt prints its name and "done", or the name of the error that stopped it.
ATTEMPTS = """
import ctypes, json, os, signal, socket, subprocess, sys
from pathlib import Path
settings = json.loads(sys.argv[1])
sys.path[:0] = settings["path"]
libc = ctypes.CDLL(None, use_errno=True)

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")

def drop_rules():
    from gossamer.node.capture.nftables import drop_table
    drop_table("gossamer")

def change_link():
    from pyroute2 import IPRoute
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="eth0")[0], state="down")

def mark():
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)

def raw():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

def packets():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)

def hypervisor():
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)

def rings():
    checked(libc.syscall(425, 8, ctypes.create_string_buffer(120)))

def groups():
    open("/sys/fs/cgroup/cgroup.procs", "a").write("1")

def manager():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(settings["manager"])

def read_key():
    Path(settings["key"]).read_text()

def read_key_by_another_process():
    for folder in Path("/proc").glob("[0-9]*"):
        if (folder / "root" / settings["key"].lstrip("/")).exists():
            return
    raise FileNotFoundError

def unmount_key():
    checked(libc.umount2(str(Path(settings["key"]).parent).encode(), 2))
    read_key()

def find_warden():
    if not os.listdir(settings["runtime"]):
        raise FileNotFoundError

def talk_to_warden():
    with socket.socket(socket.AF_UNIX) as warden:
        warden.connect(settings["runtime"] + "/warden.sock")

def signal_outsider():
    os.kill(settings["outsider"], 0)

def enter_host_network():
    for folder in Path("/proc").glob("[0-9]*"):
        with open(folder / "ns/net") as namespace:
            if os.stat(namespace.fileno()).st_ino == settings["host_network"]:
                checked(libc.setns(namespace.fileno(), 0))
                return
    raise FileNotFoundError

def write_switch():
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

def mount():
    checked(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))

def new_user_namespace():
    # capabilities in a namespace of one's own are none over the network
    checked(libc.unshare(0x10000000))
    drop_rules()

def uncover_key():
    # a mount namespace of one's own holds these mounts too, locked
    checked(libc.unshare(0x10000000 | 0x00020000))
    checked(libc.umount2(str(Path(settings["key"]).parent).encode(), 2))

for attempt in (
    drop_rules, change_link, mark, raw, packets, hypervisor, rings, groups, manager, read_key,
    read_key_by_another_process, unmount_key, find_warden, talk_to_warden, signal_outsider,
    enter_host_network, write_switch, mount, new_user_namespace, uncover_key,
):
    if os.fork():
        os.wait()
        continue
    try:
        attempt()
        print(attempt.__name__, "done", flush=True)
    except Exception as error:
        print(attempt.__name__, type(error).__name__, flush=True)
    os._exit(0)
"""


@asynccontextmanager
async def _manager() -> AsyncIterator[socket.socket]:
    """Somebody of this user who takes orders, where a terminal multiplexer does."""
    folder = Path(f"/tmp/tmux-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"gossamer-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(path))
        found.listen()
        try:
            yield found
        finally:
            path.unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()


@pytest.mark.parametrize("isolation", NAMESPACES)
def test_every_escape_fails(isolation: Isolation, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "key.pem").write_text("secret")

    async def scenario() -> str:
        async with sandboxed(tmp_path / "run", isolation, hidden=(state,)) as sandbox, _manager() as manager:
            await add_network(sandbox)
            sleeper = Command(argv=("sleep", "60"), env=ENVIRONMENT, log=tmp_path / "sleeper")
            outsider = await sandbox.spawn("outsider", sleeper)
            settings = json.dumps(
                {
                    "path": [*sys.path, str(Path(gossamer.__file__).parents[1])],
                    "key": str(state / "key.pem"),
                    "runtime": str(tmp_path / "run"),
                    "outsider": outsider.pid,
                    "manager": manager.getsockname(),
                    "host_network": Path("/proc/self/ns/net").stat().st_ino,
                }
            )
            code, said = await run_program(sandbox, ATTEMPTS, tmp_path / "said", settings)
            assert code == 0, said
            return said

    outcomes = dict(line.split() for line in asyncio.run(scenario()).splitlines())
    assert len(outcomes) == 20
    assert {name for name, outcome in outcomes.items() if outcome == "done"} == set()
    # for the right reasons, and not because the attempts themselves are broken
    for name in ("drop_rules", "mark", "raw", "packets", "rings", "unmount_key", "mount", "new_user_namespace"):
        assert outcomes[name] == "PermissionError", outcomes
    assert outcomes["manager"] == "FileNotFoundError", "its folder is there, and nobody in it"
    if Path("/sys/fs/cgroup/cgroup.procs").exists():
        assert outcomes["groups"] == "OSError", "they are there to be read"
    assert outcomes["hypervisor"] == "OSError", "no such family here"
    assert outcomes["change_link"] == "NetlinkError"
    assert outcomes["uncover_key"] == "OSError", "a locked mount is an invalid argument"
    assert outcomes["read_key"] == outcomes["talk_to_warden"] == "FileNotFoundError"
    assert outcomes["signal_outsider"] == "ProcessLookupError"


@pytest.mark.parametrize("isolation", NAMESPACES)
def test_the_same_user_can_do_outside_what_is_refused_inside(isolation: Isolation, tmp_path: Path) -> None:
    """The counterpart: were the program not confined, it would read the key and reach the warden."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "key.pem").write_text("secret")

    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", isolation, hidden=(state,)) as sandbox:
            log = tmp_path / "said"
            code = (
                "import socket, sys; print(open(sys.argv[1]).read()); "
                "socket.socket(socket.AF_UNIX).connect(sys.argv[2])"
            )
            argv = (sys.executable, "-c", code, str(state / "key.pem"), str(tmp_path / "run/warden.sock"))
            child = await sandbox.spawn("free", Command(argv=argv, env=ENVIRONMENT, log=log))
            assert (await child.wait(), log.read_text()) == (0, "secret\n")

    asyncio.run(scenario())


@pytest.mark.parametrize("isolation", NAMESPACES)
def test_an_application_is_who_it_was_on_the_host(isolation: Isolation, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", isolation) as sandbox:
            await add_network(sandbox)
            code = "import os; print(os.getuid(), os.getgid(), os.getcwd()); open('made', 'w')"
            argv = (sys.executable, "-c", code)
            command = Command(argv=argv, env=ENVIRONMENT, log=tmp_path / "said", network="one", cwd=str(tmp_path))
            child = await sandbox.spawn("program", command)
            assert await child.wait() == 0
        assert (tmp_path / "said").read_text() == f"{os.getuid()} {os.getgid()} {tmp_path}\n"
        assert (tmp_path / "made").stat().st_uid == os.getuid()

    asyncio.run(scenario())
