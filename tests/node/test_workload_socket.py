"""What a confined application sees of its agent: one folder, its own, with whatever socket the agent has there now."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossamer.node.sandbox import Command, Isolation
from tests.node.capture_parts import ENVIRONMENT, NAMESPACES, add_network, sandboxed

ASK = """
import os, signal, socket, sys
from pathlib import Path

def ask():
    with socket.socket(socket.AF_UNIX) as found:
        found.connect(sys.argv[1] + "/spiffe.sock")
        return found.recv(9).decode()

def tried(attempt):
    try:
        return attempt() or "done"
    except OSError as error:
        return type(error).__name__

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print(ask(), os.listdir(Path(sys.argv[1]).parents[1]), os.listdir(Path(sys.argv[1]).parent), flush=True)
print(tried(lambda: os.unlink(sys.argv[1] + "/spiffe.sock")), tried(lambda: os.listdir(sys.argv[2])), flush=True)
os.setgid(7)
os.setuid(7)
print(ask(), flush=True)
signal.sigwait({signal.SIGUSR1})
print(ask(), flush=True)
"""


@contextlib.contextmanager
def answering(folder: Path, word: str) -> Iterator[None]:
    """Somebody on the folder's socket who says a word to whoever comes."""
    path = folder / "spiffe.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(8)
        loop = asyncio.get_running_loop()

        def greet() -> None:
            with listener.accept()[0] as caller:
                caller.sendall(word.encode())

        loop.add_reader(listener, greet)
        try:
            yield
        finally:
            loop.remove_reader(listener)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can pass through, as the one of runtime folders is."""
    with tempfile.TemporaryDirectory(prefix="socket-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_it_finds_its_own_socket_and_no_other(tmp_path: Path, open_folder: Path) -> None:
    """Also as another user of its own, and after the agent has come again with another socket in the same place."""

    async def scenario() -> str:
        runtime, log = open_folder / "run", tmp_path / "said"
        own, other = runtime / "api" / "default.one", runtime / "api" / "default.two"
        async with sandboxed(runtime / "sandbox", Isolation.ROOT, hidden=(runtime,)) as sandbox:
            await add_network(sandbox)
            for folder in (own, other):
                folder.mkdir(parents=True)
                folder.chmod(0o755)
            argv = (sys.executable, "-c", ASK, str(own), str(other))
            with answering(other, "wrong"):
                with answering(own, "first"):
                    command = Command(argv=argv, env=ENVIRONMENT, log=log, network="one", shown=own)
                    child = await sandbox.spawn("program", command)
                    async with asyncio.timeout(20):
                        while log.read_text().count("\n") < 3 and child.returncode is None:  # noqa: ASYNC110
                            await asyncio.sleep(0.02)
                with answering(own, "again"):
                    await child.signal(signal.SIGUSR1)
                    await child.wait()
        return log.read_text()

    said = asyncio.run(scenario()).splitlines()
    assert said == ["first ['api'] ['default.one']", "OSError FileNotFoundError", "first", "again"]


@pytest.mark.parametrize("isolation", NAMESPACES)
def test_one_that_is_to_have_none_sees_none(isolation: Isolation, tmp_path: Path) -> None:
    async def scenario() -> str:
        runtime, log = tmp_path / "run", tmp_path / "said"
        async with sandboxed(runtime / "sandbox", isolation, hidden=(runtime,)) as sandbox:
            await add_network(sandbox)
            (runtime / "api" / "default.one").mkdir(parents=True)
            argv = (sys.executable, "-c", f"import os; print(os.listdir({str(runtime)!r}))")
            child = await sandbox.spawn("program", Command(argv=argv, env=ENVIRONMENT, log=log, network="one"))
            await child.wait()
        return log.read_text()

    assert asyncio.run(scenario()) == "[]\n"
