"""A workload's process: started, checked, started again, ended; confined and not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap
from gossamer.node.application import Application, ApplicationSettings, ApplicationState, RestartPolicy
from gossamer.node.backoff import Backoff
from gossamer.node.health import Probe
from gossamer.node.log_file import read_tail, rotate_log
from gossamer.node.sandbox import Check, Command, Isolation, Lifeline, Sandbox, SandboxSettings, open_sandbox
from tests.node.capture_parts import ENVIRONMENT, add_network, free_port, sandboxed

EITHER = (Isolation.NONE, Isolation.USER)
SERVE = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthy" else 500)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass
time.sleep(0.2)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@asynccontextmanager
async def _place(isolation: Isolation, folder: Path) -> AsyncIterator[tuple[Sandbox, str]]:
    """A sandbox and the network to run in."""
    async with sandboxed(folder / "run", isolation) as sandbox:
        if isolation is not Isolation.NONE:
            await add_network(sandbox)
        yield sandbox, "" if isolation is Isolation.NONE else "one"


def _settings(log: Path, network: str, script: str, **options: Any) -> ApplicationSettings:
    command = Command(argv=("sh", "-c", script), env=ENVIRONMENT, log=log, network=network)
    return ApplicationSettings(name="app", command=command, **options)


@pytest.mark.parametrize("isolation", EITHER)
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_its_exit_code_is_passed_on(isolation: Isolation, script: str, code: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _place(isolation, tmp_path) as (sandbox, network):
            settings = _settings(tmp_path / "log", network, script, restart=RestartPolicy.NEVER)
            assert await Application(sandbox, settings, lambda: 0.0).run() == code

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("policy", "script", "runs"),
    [
        (RestartPolicy.NEVER, "exit 1", 1),
        (RestartPolicy.ON_FAILURE, "exit 0", 1),
        (RestartPolicy.ON_FAILURE, "test $(wc -l <$LOG) = 3", 3),
        (RestartPolicy.ALWAYS, "test $(wc -l <$LOG) = 3 && exec sleep 60", 3),
    ],
)
def test_when_it_is_started_again(policy: RestartPolicy, script: str, runs: int, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def scenario() -> None:
        async with _place(Isolation.NONE, tmp_path) as (sandbox, network):
            script_with_mark = f"LOG={log}; echo ran; {script}"
            application = Application(sandbox, _settings(log, network, script_with_mark, restart=policy), lambda: 0.0)
            running = asyncio.create_task(application.run())
            await _until_logged(log, "ran", times=runs)
            await asyncio.wait([running], timeout=0.3)
            assert running.done() is (policy is not RestartPolicy.ALWAYS)
            await application.stop()
            await running
        assert log.read_text().split() == ["ran"] * runs
        assert application.restarts == runs - 1

    asyncio.run(scenario())


@pytest.mark.parametrize("isolation", EITHER)
def test_it_is_healthy_when_its_check_says_so(isolation: Isolation, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _place(isolation, tmp_path) as (sandbox, network):
            port = free_port()
            argv = (sys.executable, "-c", SERVE, str(port))
            command = Command(argv=argv, env=ENVIRONMENT, log=tmp_path / "log", network=network)
            settings = ApplicationSettings(
                name="app", command=command, health=Probe(check=Check(port=port, path="/healthy"))
            )
            application = Application(sandbox, settings, lambda: 0.0)
            running = asyncio.create_task(application.run())
            await application.wait_healthy(10)
            assert application.problem == ""
            assert await sandbox.check(Check(port=port, path="/ill"), network) == "GET /ill answered 500"
            assert await sandbox.check(Check(port=port), network) == ""
            assert await sandbox.check(Check(port=free_port()), network) == "Connection refused"
            os.kill(application.pid, signal.SIGSTOP)
            os.kill(application.pid, signal.SIGCONT)
            await application.stop()
            assert await running == 128 + signal.SIGTERM
            assert application.state.value is ApplicationState.STOPPED

    asyncio.run(scenario())


def test_one_that_never_answers_is_reported(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _place(Isolation.NONE, tmp_path) as (sandbox, network):
            health = Probe(check=Check(port=free_port()))
            application = Application(
                sandbox, _settings(tmp_path / "log", network, "exec sleep 60", health=health), lambda: 0.0
            )
            running = asyncio.create_task(application.run())
            with pytest.raises(CaptureError, match=r"app is not healthy after 0.3 s: Connection refused"):
                await application.wait_healthy(0.3)
            await application.stop()
            await running

    asyncio.run(scenario())


def test_one_that_cannot_start_is_reported(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _place(Isolation.NONE, tmp_path) as (sandbox, _):
            command = Command(argv=("/no/such/program",), env=ENVIRONMENT, log=tmp_path / "log")
            application = Application(sandbox, ApplicationSettings(name="app", command=command), lambda: 0.0)
            with pytest.raises(CaptureError, match="cannot start /no/such/program: No such file or directory"):
                await application.run()

    asyncio.run(scenario())


@pytest.mark.parametrize("isolation", EITHER)
def test_signals_reach_all_of_it(isolation: Isolation, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap 'echo got usr1' USR1; trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done"

    async def scenario() -> None:
        async with _place(isolation, tmp_path) as (sandbox, network):
            application = Application(sandbox, _settings(log, network, script), lambda: 0.0)
            running = asyncio.create_task(application.run())
            await application.wait_healthy(10)
            await _until_logged(log, "up")
            await application.signal(signal.SIGUSR1)
            await _until_logged(log, "got usr1")
            await application.stop()
            assert await running == 3
            assert log.read_text().splitlines()[-1] == "bye"

    asyncio.run(scenario())


@pytest.mark.parametrize("isolation", EITHER)
def test_its_patience_ends(isolation: Isolation, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def scenario() -> None:
        async with _place(isolation, tmp_path) as (sandbox, network):
            script = "trap '' TERM; echo up; while :; do sleep 0.02; done"
            application = Application(sandbox, _settings(log, network, script, stop_seconds=0.2), lambda: 0.0)
            running = asyncio.create_task(application.run())
            await _until_logged(log, "up")
            began = time.monotonic()
            await application.stop()
            assert time.monotonic() - began < 1
            assert await running == 128 + signal.SIGKILL

    asyncio.run(scenario())


def test_what_it_merely_inherits_does_not_tell_applications_apart() -> None:
    def settings(**variables: str) -> ApplicationSettings:
        command = Command(argv=("true",), env=FrozenMap(variables))
        return ApplicationSettings(name="app", command=command, incidental=frozenset({"INVOCATION_ID"}))

    assert settings(INVOCATION_ID="1", LEVEL="x").digest == settings(INVOCATION_ID="2", LEVEL="x").digest
    assert settings(INVOCATION_ID="1", LEVEL="x").digest != settings(INVOCATION_ID="1", LEVEL="y").digest


@pytest.mark.parametrize("changed", [False, True])
def test_one_left_by_an_earlier_agent(changed: bool, tmp_path: Path) -> None:
    settings = SandboxSettings(runtime=tmp_path / "run", lifeline=Lifeline.OUTLIVE)

    async def run_once(script: str, *, last: bool) -> int:
        sandbox = await open_sandbox(settings)
        application = Application(sandbox, _settings(tmp_path / "log", "", script), lambda: 0.0)
        running = asyncio.create_task(application.run())
        await application.wait_healthy(5)
        pid = application.pid
        if last:
            await application.stop()
            await sandbox.close()
        else:
            running.cancel()
            await sandbox.detach()
        await asyncio.wait([running])
        return pid

    first = asyncio.run(run_once("exec sleep 60", last=False))
    second = asyncio.run(run_once("exec sleep 61" if changed else "exec sleep 60", last=True))
    assert (first != second) is changed


async def _until_logged(log: Path, line: str, times: int = 1) -> None:
    deadline = time.monotonic() + 10
    while not log.exists() or log.read_text().splitlines().count(line) < times:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_back_off() -> None:
    backoff = Backoff(first=0.1, factor=2, limit=1, steady=10)
    waits = []
    for _ in range(6):
        wait, backoff = backoff.after(0.5, 0.0)
        waits.append(wait)
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert backoff.after(0.5, 0.999)[0] == pytest.approx(1, abs=0.001)
    assert backoff.after(11, 0.0) == (0.0, Backoff(first=0.1, factor=2, limit=1, steady=10))


def test_a_log_is_cut_when_it_is_full(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("a") as writer:
        for text in ("one\n", "two\n", "three\n", "four\n"):
            writer.write(text * 10)
            writer.flush()
            assert rotate_log(log, limit=20, keep=2)
            assert not rotate_log(log, limit=20, keep=2)
        writer.write("five\n")
        writer.flush()
    assert log.read_text() == "five\n"
    assert [path.read_text()[:5] for path in sorted(tmp_path.glob("log.*"))] == ["four\n", "three"]
    assert read_tail(tmp_path / "log.1", size=12) == "four\nfour\n"
    assert read_tail(tmp_path / "missing") == ""
