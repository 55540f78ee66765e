"""One Envoy takes over from another under load, in every way of capturing: no request fails, and what cannot take over
changes nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.core.errors import EnvoyError
from gossamer.node.envoy import Envoy, EnvoyState, running_envoys
from gossamer.node.envoy_settings import EnvoySettings
from gossamer.node.hot_restart import SHARED_MEMORY, Generation, first_generation, forget_generations
from gossamer.node.sandbox import Child, Command, Isolation, Lifeline, Sandbox, SandboxSettings, open_sandbox
from tests.node.capture_parts import (
    ENVIRONMENT,
    add_network,
    answering,
    capture_listener,
    cluster,
    envoy_settings,
    free_port,
    plain_listener,
    running,
    sandboxed,
)

pytestmark = pytest.mark.envoy

# Requests, each on a connection of its own and each on one that is kept, until standard input ends.
LOAD = """
import collections, http.client, json, os, sys, threading
host, port, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
found = collections.Counter()
def ask(connection):
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        found[str(response.status)] += 1
    except OSError as error:
        found[repr(error)] += 1
ending = False
while not ending:
    ending = os.path.exists(stop)  # asked at least once, however late this process came to run
    connection = http.client.HTTPConnection(host, port, timeout=10)
    ask(connection)
    connection.close()
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def _tidy(tmp_path: Path) -> Iterator[None]:
    """Without namespaces the lock is in the host's own shared memory: an agent forgets it, and so do these tests."""
    yield
    forget_generations(tmp_path / "hot", (), shared=True)


@asynccontextmanager
async def _load(sandbox: Sandbox, folder: Path, targets: Sequence[tuple[str, int, str]]) -> AsyncIterator[list[str]]:
    """Constant requests to each (address, port, network); afterwards, what each of them met."""
    stop, met = folder / "stop", list[str]()
    children: list[tuple[Child, Path]] = []
    for number, (address, port, network) in enumerate(targets):
        log = folder / f"load{number}"
        argv = (sys.executable, "-c", LOAD, address, str(port), str(stop))
        command = Command(argv=argv, env=ENVIRONMENT, log=log, network=network)
        children.append((await sandbox.spawn(f"load {number}", command), log))
    yield met
    stop.touch()
    for child, log in children:
        await child.wait()
        met.append(log.read_text())


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not within 10 s")


def _settings(folder: Path, binary: Path, port: int, upstream: int, network: str) -> EnvoySettings:
    listeners = [plain_listener(port, "app")]
    if network:
        listeners.append(capture_listener("out", 15001, network, "app", folder / "access"))
    bootstrap = {"static_resources": {"listeners": listeners, "clusters": [cluster("app", upstream)]}}
    return envoy_settings(folder / "envoy", binary, bootstrap, drain_seconds=1, restarts_in=folder / "hot")


@pytest.mark.parametrize("isolation", Isolation)
def test_no_request_fails_while_envoys_are_exchanged(isolation: Isolation, tmp_path: Path, envoy: Path) -> None:
    """Twice, the second time to another binary with more threads; listening sockets in a workload's network too."""
    newer = tmp_path / "newer-envoy"
    newer.symlink_to(envoy)

    async def scenario() -> None:
        port = free_port()
        async with sandboxed(tmp_path / "run", isolation) as sandbox, answering("hello") as upstream:
            network = "" if isolation is Isolation.NONE else str(await add_network(sandbox))
            settings = _settings(tmp_path, envoy, port, upstream, network)
            targets = [("127.0.0.1", port, ""), *([("10.99.0.7", 80, "one")] * 2 if network else [])]
            async with running(sandbox, settings) as found:
                assert found.version.count(".") == 2
                seen: list[EnvoyState] = []
                found.state.subscribe(seen.append)
                async with _load(sandbox, tmp_path, targets) as met:
                    await asyncio.sleep(0.3)
                    pids = [found.pid]
                    for next_settings in (settings, replace(settings, binary=newer, concurrency=2)):
                        before = running_envoys(sandbox, settings.name)[0]
                        await found.exchange(next_settings)
                        pids.append(found.pid)
                        assert (await asyncio.wait_for(before.wait(), 10)) == 0, "it has drained, and ended by itself"
                        await asyncio.sleep(0.3)
                assert len(set(pids)) == 3
                options = (await found.admin.server_info())["command_line_options"]
                assert (options["restart_epoch"], options["concurrency"]) == (2, 2)
            assert found.restarts == 0
            assert set(seen) <= {EnvoyState.READY, EnvoyState.DRAINING, EnvoyState.STOPPED}
            for words in met:
                assert set(json.loads(words)) == {"200"}, words

    asyncio.run(scenario())


def test_what_cannot_take_over_changes_nothing(tmp_path: Path, envoy: Path) -> None:
    liar = tmp_path / "liar"
    liar.write_text(f'#!/bin/sh\n[ "$1" = --hot-restart-version ] && exec {envoy} "$1"\nexit 3\n')
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho 9.9\n")
    for path in (liar, other):
        path.chmod(0o700)

    async def scenario() -> None:
        port = free_port()
        async with sandboxed(tmp_path / "run", Isolation.NONE) as sandbox, answering("hello") as upstream:
            settings = _settings(tmp_path, envoy, port, upstream, "")
            async with running(sandbox, settings) as found:
                pid = found.pid
                with pytest.raises(EnvoyError, match=r"(?s)would not start: .*field:\s+'listener'"):
                    await found.exchange(
                        replace(settings, bootstrap=settings.bootstrap.replace("listeners", "listener"))
                    )
                for binary, reason in (
                    (liar, "it ends with code 3"),
                    (other, r"version 9\.9, and \d+"),
                    (tmp_path, "Permission denied"),
                ):
                    with pytest.raises(EnvoyError, match=reason):
                        await found.exchange(replace(settings, binary=binary))
                assert (found.pid, found.settings, found.state.value) == (pid, settings, EnvoyState.READY)
                await _breaks_after_it_was_told(found, settings)
                async with _load(sandbox, tmp_path, [("127.0.0.1", port, "")]) as met:
                    await asyncio.sleep(0.2)
                assert set(json.loads(met[0])) == {"200"}
                assert (await found.admin.state(), found.restarts) == ("LIVE", 0)
            async with running(sandbox, replace(settings, restarts_in=None)) as found:
                with pytest.raises(EnvoyError, match="without hot restart"):
                    await found.exchange(settings)

    asyncio.run(scenario())


async def _breaks_after_it_was_told(found: Envoy, settings: EnvoySettings) -> None:
    """The new one takes the admin interface, then finds its configuration bad: one like the old takes its place."""
    bootstrap = json.loads(settings.bootstrap)
    bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["address"] = "203.0.113.1"
    pid = found.pid
    with pytest.raises(EnvoyError, match=r"(?s)ended with code 1 .*203\.0\.113\.1.*was restarted"):
        await found.exchange(replace(settings, bootstrap=json.dumps(bootstrap)))
    assert found.settings == settings
    assert await found.admin.state() == "LIVE"
    assert found.pid != pid


def test_an_envoy_that_was_started_in_another_way_is_exchanged_when_it_is_adopted(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        lifeline = SandboxSettings(runtime=tmp_path / "run", lifeline=Lifeline.OUTLIVE)
        async with answering("hello") as upstream:
            settings = _settings(tmp_path, envoy, port, upstream, "")
            sandbox = await open_sandbox(lifeline)
            first = Envoy(sandbox, settings, lambda: 0.5)
            running_first = asyncio.create_task(first.run())
            await first.wait_ready(20)
            pid = first.pid
            running_first.cancel()
            await asyncio.wait([running_first])
            await sandbox.detach()
            sandbox = await open_sandbox(lifeline)
            try:
                async with (
                    running(sandbox, replace(settings, concurrency=2)) as found,
                    _load(sandbox, tmp_path, [("127.0.0.1", port, "")]) as met,
                ):
                    await _until(lambda: not found.adopted)
                    assert found.pid != pid
                    assert (await found.admin.server_info())["command_line_options"]["concurrency"] == 2
                assert set(json.loads(met[0])) == {"200"}
                assert found.restarts == 0
            finally:
                await sandbox.close()

    asyncio.run(scenario())


def test_base_ids_are_told_apart_and_what_is_left_of_them_goes(tmp_path: Path) -> None:
    first = first_generation(tmp_path, lambda: 0.5)
    (tmp_path / f"e_parent_{first.base}0").touch()
    second = first_generation(tmp_path, lambda: 0.5)
    assert second == Generation(base=first.base + 1)
    (tmp_path / f"e_udp_child_{second.base}1").touch()
    memory = SHARED_MEMORY / f"envoy_shared_memory_{first.base}0"
    memory.touch()
    forget_generations(tmp_path, [second.base], shared=False)
    assert memory.exists(), "the host's own is not asked about"
    (tmp_path / f"e_parent_{first.base}0").touch()
    forget_generations(tmp_path, [second.base], shared=True)
    assert not memory.exists()
    assert [path.name for path in tmp_path.iterdir()] == [f"e_udp_child_{second.base}1"]
    shutil.rmtree(tmp_path)
    assert first_generation(tmp_path, lambda: 0.0) == Generation(base=1)
