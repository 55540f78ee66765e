"""What is left when an agent, or its warden, is killed: nothing, or everything, as its lifeline says."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

import gossamer
from gossamer.core.errors import UnavailableError
from gossamer.node.sandbox import Command, Isolation, Lifeline, SandboxSettings, open_sandbox
from tests.conftest import need
from tests.node.capture_parts import ENVIRONMENT, add_network, run_program, sandboxed

# An agent: opens a sandbox, starts a program that has a child of its own, says every process id, and waits.
AGENT = """
import asyncio, os, sys
from pathlib import Path
from gossamer.core.frozen import FrozenMap
from gossamer.node.sandbox import *

async def main():
    runtime, isolation, lifeline, network = sys.argv[1:]
    sandbox = await open_sandbox(
        SandboxSettings(runtime=Path(runtime), isolation=Isolation(isolation), lifeline=Lifeline(lifeline))
    )
    if network:
        await sandbox.add_network(Network(name=network))
    argv = ("sh", "-c", "trap '' TERM; sleep 300 & wait; wait")
    log = Path(runtime, "program.log")
    child = await sandbox.spawn(
        "program", Command(argv=argv, env=FrozenMap(os.environ), log=log, network=network, note="n")
    )
    free = await sandbox.spawn("free", Command(argv=argv, env=FrozenMap(os.environ), log=log, note="n"))
    print(sandbox.pid, child.pid, free.pid, flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""
EVERY = (Isolation.ROOT, Isolation.USER, Isolation.NONE)


def _start_agent(runtime: Path, isolation: Isolation, lifeline: Lifeline) -> tuple[subprocess.Popen[str], list[int]]:
    need(isolation is not Isolation.ROOT or os.geteuid() == 0, "this needs root")
    network = "" if isolation is Isolation.NONE else "one"
    source = str(Path(gossamer.__file__).parents[1])
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(runtime), isolation, lifeline, network],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])},
    )
    assert agent.stdout is not None
    with agent.stdout:
        line = agent.stdout.readline()
    if not line:
        agent.wait()
        need(False, "namespaces are not allowed here")
    pids = [int(pid) for pid in line.split()]
    # the warden, two shells and a sleep each; with namespaces, an init too
    whole = 5 if isolation is Isolation.NONE else 6
    deadline = time.monotonic() + 5
    while len(_descendants(pids)) < whole:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return agent, pids


def _kill(agent: subprocess.Popen[str]) -> None:
    agent.kill()
    agent.wait()


def _alive(pids: Iterable[int]) -> set[int]:
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.add(pid)
    return found


def _descendants(pids: Iterable[int]) -> set[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += parents.get(pid, [])
    return found


def _gone_within(pids: set[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _alive(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _alive(pids)


@pytest.mark.parametrize("isolation", EVERY)
def test_a_killed_agent_leaves_nothing(isolation: Isolation, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    mounts = Path("/proc/self/mountinfo").read_text()
    agent, pids = _start_agent(runtime, isolation, Lifeline.DIE)
    everyone = _descendants(pids)
    assert _alive(everyone) == everyone
    _kill(agent)
    # the programs ignore SIGTERM, so the warden's patience has to run out first
    assert _gone_within(everyone, 5)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not (runtime / "warden.sock").exists()


@pytest.mark.parametrize("isolation", EVERY)
def test_a_killed_agent_is_followed_by_one_that_adopts(isolation: Isolation, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    agent, pids = _start_agent(runtime, isolation, Lifeline.OUTLIVE)
    everyone = _descendants(pids)
    _kill(agent)

    async def scenario() -> None:
        settings = SandboxSettings(runtime=runtime, isolation=Isolation.NONE, lifeline=Lifeline.OUTLIVE)
        sandbox = await open_sandbox(settings)
        assert sandbox.adopted
        assert (sandbox.pid, sandbox.isolation) == (pids[0], isolation)
        assert {name: child.pid for name, child in sandbox.children.items()} == {"program": pids[1], "free": pids[2]}
        assert _alive(everyone) == everyone
        free = sandbox.children["free"]
        assert free.note == "n"
        if isolation is not Isolation.NONE:
            assert sandbox.networks == {"one"}
            path = await add_network(sandbox)
            assert path == sandbox.network_path("one")
            assert (await run_program(sandbox, "print(1)", tmp_path / "said"))[1] == "1\n"
        await free.signal(signal.SIGKILL)
        assert await free.wait() == -signal.SIGKILL
        await sandbox.close()

    try:
        asyncio.run(scenario())
        assert _gone_within(everyone, 1)
    finally:
        for pid in _alive(pids):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("isolation", [Isolation.ROOT, Isolation.USER])
def test_a_killed_warden_takes_everything_with_it(isolation: Isolation, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = SandboxSettings(runtime=tmp_path / "run", isolation=isolation)
        need(isolation is not Isolation.ROOT or os.geteuid() == 0, "this needs root")
        sandbox = await open_sandbox(settings)
        await add_network(sandbox)
        argv = ("sh", "-c", "sleep 300 & sleep 300")
        command = Command(argv=argv, env=ENVIRONMENT, log=tmp_path / "log", network="one")
        child = await sandbox.spawn("program", command)
        everyone = _descendants([sandbox.pid])
        os.kill(sandbox.pid, signal.SIGKILL)
        await sandbox.gone.wait()
        with pytest.raises(UnavailableError, match="the warden has gone"):
            await child.wait()
        with pytest.raises(UnavailableError, match="start the mesh again"):
            await add_network(sandbox, "two")
        assert _gone_within(everyone, 1)
        await sandbox.detach()

    asyncio.run(scenario())


def test_two_meshes_run_side_by_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            sandboxed(tmp_path / "a", Isolation.USER) as first,
            sandboxed(tmp_path / "b", Isolation.USER) as other,
        ):
            paths = [await add_network(first), await add_network(other)]
            assert paths[0] != paths[1]
            await first.close()
            assert (await run_program(other, "print(1)", tmp_path / "said"))[1] == "1\n"

    asyncio.run(scenario())
