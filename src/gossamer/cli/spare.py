"""How a command that was started as a spare learns the rest of its arguments (see `child.Spare`, which tells them)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Final

WORDS: Final = "GOSSAMER_WORDS"
"""Names the descriptor of the pipe by which a spare is told its arguments."""


def await_words(arguments: Sequence[str]) -> list[str] | None:
    """The arguments of this run: those given and, of a spare, those that it is told, once its output and environment
    are as it is told. None for a spare that is told nothing."""
    descriptor = os.environ.pop(WORDS, "")
    if not descriptor.isdigit():
        return list(arguments)
    with os.fdopen(int(descriptor), "rb") as pipe:
        told = pipe.read()
    if not told:
        return None
    order = json.loads(told)
    with open(order["log"], "ab") as log:  # noqa: PTH123 - pathlib is among the modules that --help does without
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update(order["env"])
    return [*arguments, *order["arguments"]]
