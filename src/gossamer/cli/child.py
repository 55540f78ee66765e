"""Commands of ours as child processes of a command, each tied to it by a lifeline, its output in a file.

What a control plane or an agent imports takes most of a second. A `Spare` is started before its arguments are known,
and imports while its parent works them out. Invariant: a spare that is told nothing does nothing and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gossamer.cli.lifecycle import LIFELINE
from gossamer.cli.spare import WORDS


class Child:
    """A gossamer process of ours in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int, log: Path) -> None:
        self._process = process
        self._lifeline = lifeline
        self.log = log

    @classmethod
    def start(cls, arguments: Sequence[str], *, log: Path, env: Mapping[str, str]) -> Child:
        """Run `gossamer ARGUMENTS`; `env` is laid over our own environment."""
        with log.open("ab") as output:
            process, lifeline = _spawn(arguments, {**env}, output=output.fileno())
        return cls(process, lifeline, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        while (code := self._process.poll()) is None:
            descriptor = os.pidfd_open(self._process.pid)
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return code

    async def stop(self, timeout_s: float) -> int:
        """Ask it to stop in order; kill it when it does not. Returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                return await self.wait()
        except TimeoutError:
            self._process.kill()
            return await self.wait()
        finally:
            self.release()

    def release(self) -> None:
        """Close our end of the lifeline of a child that has ended."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


class Spare:
    """`gossamer COMMAND`, waiting for the rest of its arguments."""

    def __init__(self, command: str) -> None:
        reading, self._telling = os.pipe()
        try:
            self._process, self._lifeline = _spawn([command], {WORDS: str(reading)}, pass_fds=(reading,))
        finally:
            os.close(reading)

    def employ(self, arguments: Sequence[str], *, log: Path, env: Mapping[str, str]) -> Child | None:
        """Let it run with these arguments after its command; None if it is no more."""
        order = {"arguments": [*arguments], "log": str(log), "env": {**env}}
        telling, self._telling = self._telling, -1
        try:
            with os.fdopen(telling, "wb") as pipe:
                pipe.write(json.dumps(order).encode())
        except OSError:
            return None
        child, self._lifeline = Child(self._process, self._lifeline, log), -1
        return child

    def dismiss(self) -> None:
        """End it, unless it is employed."""
        if self._lifeline < 0:
            return
        self._process.kill()
        self._process.wait()
        for descriptor in (self._telling, self._lifeline):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._lifeline = -1


def _spawn(
    arguments: Sequence[str], env: Mapping[str, str], *, output: int | None = None, pass_fds: tuple[int, ...] = ()
) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and our end of its lifeline."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            # -P: never import from the current folder, which may be anybody's
            [sys.executable, "-P", "-m", "gossamer", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **env, LIFELINE: str(reading)},
            pass_fds=(reading, *pass_fds),
            start_new_session=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return process, writing
