"""Commands as children: started at once or as spares, and what becomes of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gossamer.cli.child import Child, Spare

# A parent that has a spare and is killed before it could tell it anything.
PARENT = """
import os, signal
from gossamer.cli.child import Spare
print(Spare("validate")._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "broken.yaml"
    file.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 5}\n")
    return file


def _ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


async def _wait(child: Child) -> list[int]:
    try:
        async with asyncio.timeout(30):
            return list(await asyncio.gather(child.wait(), child.wait()))
    finally:
        child.release()


def test_a_spare_is_as_good_as_a_child(broken: Path, tmp_path: Path) -> None:
    """Arguments, environment and output are the same as if it had been started with them."""
    arguments = [f"--file={broken}"]
    env = {"COLUMNS": "200"}
    child = Child.start(["validate", *arguments], log=tmp_path / "child", env=env)
    employed = Spare("validate").employ(arguments, log=tmp_path / "spare", env=env)
    assert employed is not None
    codes = [asyncio.run(_wait(child)), asyncio.run(_wait(employed))]
    assert codes == [[1, 1], [1, 1]]
    said = (tmp_path / "child").read_text()
    assert "broken.yaml" in said
    assert (tmp_path / "spare").read_text() == said


def test_a_spare_that_is_dismissed_is_gone() -> None:
    spare = Spare("validate")
    spare.dismiss()
    assert spare._process.returncode is not None
    spare.dismiss()


def test_a_spare_that_ended_is_not_employed(tmp_path: Path) -> None:
    spare = Spare("validate")
    spare._process.kill()
    spare._process.wait()
    assert spare.employ(["--file=x"], log=tmp_path / "log", env={}) is None
    spare.dismiss()


def test_a_spare_ends_with_its_parent() -> None:
    parent = subprocess.run([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, timeout=20, check=False)
    pid = int(parent.stdout)
    deadline = time.monotonic() + 10
    while not _ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
