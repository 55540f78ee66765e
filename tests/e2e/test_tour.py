"""The tour as people run it: one command, by root and by an ordinary user, green and gone within two minutes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import need

UID = 54321
ROOT = os.geteuid() == 0
STEPS = 8
pytestmark = [pytest.mark.e2e, pytest.mark.envoy, pytest.mark.timeout(180)]


def as_ordinary_user(home: Path) -> list[str]:
    """A command that runs another as an ordinary user, who finds the interpreter and this package also where only root
    could: such folders are bared, for that command alone, of everything else."""
    for program in ("setpriv", "unshare"):
        need(shutil.which(program) is not None, f"{program} is missing: install util-linux")
    trees = [tree for tree in (Path(sys.base_prefix), Path(__file__).parents[2]) if closed_folder(tree)]
    script = ["set -e"]
    for number, tree in enumerate(trees):
        script += [f"mkdir {home}/tree{number}", f"mount --bind {tree} {home}/tree{number}"]
    for folder in {closed_folder(tree) for tree in trees}:
        script.append(f"mount -t tmpfs -o mode=755 tmpfs {folder}")
    for number, tree in enumerate(trees):
        script += [f"mkdir -p {tree}", f"mount --bind {home}/tree{number} {tree}"]
        script += [f"umount {home}/tree{number}", f"rmdir {home}/tree{number}"]
    script.append(f'exec setpriv --reuid={UID} --regid={UID} --clear-groups "$@"')
    alone = ["unshare", "--mount", "--propagation=private"]
    may = subprocess.run([*alone, "true"], check=False, capture_output=True).returncode == 0
    need(may or not trees, f"others cannot read {trees}, and root cannot mount here")
    return [*(alone if trees else []), "sh", "-c", "\n".join(script), "sh"]


def closed_folder(path: Path) -> Path | None:
    """The uppermost folder on the way to `path` that others may not enter."""
    return next((folder for folder in reversed([path, *path.parents]) if not folder.stat().st_mode & 0o001), None)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that belongs to the ordinary user; short, since sockets go into it, and open from the top down."""
    folder = Path(f"/tmp/gossamer-{os.getpid()}")
    folder.mkdir()
    if ROOT:
        os.chown(folder, UID, UID)
    yield folder
    shutil.rmtree(folder)


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "GOSSAMER_ENVOY")}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def run(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    """What came of a command; its output is the bytes that a pipe gets."""
    return subprocess.run(
        command, check=False, env=environment(home), cwd="/", capture_output=True, text=True, timeout=150
    )


def links() -> set[str]:
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def processes_with(text: str) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if text in words:
            found.append(f"{process.pid} {words}")
    return found


@pytest.mark.parametrize("user", ["whoever tests", *(["an ordinary user"] if ROOT else [])])
def test_the_tour_is_green_and_leaves_nothing(user: str, home: Path, envoy: Path) -> None:
    command = [sys.executable, "-m", "gossamer", "demo", "--check"]
    if user == "an ordinary user":
        command = [*as_ordinary_user(home), *command]
    before = links()
    began = time.monotonic()
    done = run(command, home)
    elapsed = time.monotonic() - began
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert f"All {STEPS} steps are green" in done.stdout, told
    assert elapsed < 120, told
    panels = re.findall(r"^╭─  (\d) ", done.stdout, re.MULTILINE)
    assert panels == [str(number) for number in range(1, STEPS + 1)]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "capture: transparent" in done.stdout or not ROOT
    assert not processes_with(str(home))
    assert not list(home.glob("gossamer-demo-*"))
    assert links() == before


def test_a_port_that_is_taken_is_told_and_nothing_is_started(home: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "gossamer", "demo", f"--port={port}"]
        done = run(command, home)
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 cannot be had" in done.stderr
    assert not list(home.glob("gossamer-demo-*"))
