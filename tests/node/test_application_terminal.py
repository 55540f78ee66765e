"""An application that is lent a terminal: it reads and writes there, and its keys reach it once."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gossamer
from gossamer.node.sandbox import Isolation
from tests.conftest import need

AGENT = """
import asyncio, fcntl, os, signal, sys, termios
from pathlib import Path
from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap
from gossamer.node.sandbox import *

SCRIPT = \"\"\"
trap 'count=$((count + 1)); echo interrupted $count' INT
test -t 0 && test -t 1 && echo "on a terminal"
read line
echo "read $line"
read line
sleep 0.3
echo "in all $count"
exit 5
\"\"\"

async def main():
    # a session and a terminal of its own, as a login gives them
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    isolation = Isolation(sys.argv[2])
    try:
        sandbox = await open_sandbox(SandboxSettings(runtime=Path(sys.argv[1]), isolation=isolation))
    except CaptureError:
        sys.exit("not here")
    network = "" if isolation is Isolation.NONE else "one"
    if network:
        await sandbox.add_network(Network(name=network))
    env = FrozenMap(os.environ)
    child = await sandbox.spawn("program", Command(argv=("bash", "-c", SCRIPT), env=env, network=network))
    code = await child.wait()
    await sandbox.close()
    print("ended with", code, flush=True)

asyncio.run(main())
"""


class Terminal:
    """The other side of a pseudo terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def expect(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self._descriptor, 4096).decode()
            except OSError as error:  # the other side has closed
                raise AssertionError(self.seen) from error


@pytest.mark.parametrize("isolation", [Isolation.NONE, Isolation.USER])
def test_it_has_the_terminal(isolation: Isolation, tmp_path: Path) -> None:
    need(Path("/bin/bash").exists(), "there is no bash")
    ours, theirs = pty.openpty()
    source = str(Path(gossamer.__file__).parents[1])
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(tmp_path / "run"), isolation],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])},
    )
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        terminal.expect("on a terminal")
        terminal.type("hello\n")
        terminal.expect("read hello")
        terminal.type("\x03")
        terminal.expect("interrupted 1")
        terminal.type("\n")
        terminal.expect("in all 1")
        terminal.expect("ended with 5")
        assert agent.wait(10) == 0
    finally:
        agent.kill()
        agent.wait()
        os.close(ours)
