"""How a long-running command ends: by a signal, by the end of its terminal, or with the command that started it.

A child holds the reading end of a pipe whose writing end only its parent has; when the parent is gone, however it went,
the pipe ends and the child stops in order. Nothing is left behind by a parent that was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from gossamer.core.errors import failure_of

LIFELINE = "GOSSAMER_LIFELINE"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(asyncio.Event):
    """Set when the process should stop; `number` is the signal that said so, None if it was the end of its parent."""

    number: signal.Signals | None = None


def run_until_stopped(main: Callable[[Stop], Awaitable[int]]) -> int:
    """Run `main` with an event that is set when the process should stop; returns main's exit code.

    A second signal of the same kind ends the process at once.
    """

    async def scenario() -> int:
        stop = Stop()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, _stop, loop, stop, number)
        _watch_lifeline(loop, stop)
        return await main(stop)

    try:
        return asyncio.run(scenario())
    except ExceptionGroup as group:
        if (failure := failure_of(group)) is not None:
            raise failure from group
        raise


def _stop(loop: asyncio.AbstractEventLoop, stop: Stop, number: signal.Signals) -> None:
    stop.number = number
    stop.set()
    loop.remove_signal_handler(number)


def _watch_lifeline(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    descriptor = os.environ.pop(LIFELINE, "")
    if not descriptor.isdigit():
        return

    def ended() -> None:
        loop.remove_reader(int(descriptor))
        stop.set()

    os.set_inheritable(int(descriptor), False)
    loop.add_reader(int(descriptor), ended)
