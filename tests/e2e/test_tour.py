"""The tour as people run it: one command, by root and by an ordinary user, green and gone within two minutes."""

from __future__ import annotations

import os
import re
import socket
import time

import pytest

from tests.e2e.meshes import is_left_of, place
from tests.e2e.users import User, ordinary

ROOT = os.geteuid() == 0
STEPS = 8
UTF8 = {"PYTHONIOENCODING": "utf-8"}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("who", ["whoever tests", *(["an ordinary user"] if ROOT else [])])
def test_the_tour_is_green_and_leaves_nothing(who: str) -> None:
    with place(ordinary() if who == "an ordinary user" else User.current()) as found:
        began = time.monotonic()
        demo = found.start("demo", "--check", env=UTF8 | {"TMPDIR": str(found.folder("tmp"))})
        code = demo.wait(150)
        elapsed = time.monotonic() - began
        print(demo.said)
        assert code == 0
        assert elapsed < 120
        assert f"All {STEPS} steps are green" in demo.said
        panels = re.findall(r"^╭─  (\d) ", demo.said, re.MULTILINE)
        assert panels == [str(number) for number in range(1, STEPS + 1)]
        assert max(map(len, demo.said.splitlines())) <= 80
        assert not is_left_of(found, set())
        assert not list((found.root / "tmp").iterdir())


def test_a_port_that_is_taken_is_told_and_nothing_is_started() -> None:
    with place() as found, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = found.run("demo", f"--port={port}", env={"TMPDIR": str(found.folder("tmp"))})
        assert demo.wait() == 2
        assert f"port {port} of 127.0.0.1 cannot be had" in demo.said
        assert not list((found.root / "tmp").iterdir())
