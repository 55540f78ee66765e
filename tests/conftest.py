"""What every test can ask for; `need` is how a test says what its machine must have."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings

from gossamer.ca.stub import create_stub
from gossamer.compile.static import Stub
from gossamer.core.errors import EnvoyError
from gossamer.node.binary import find_envoy

settings.register_profile("gossamer", deadline=None)  # how long an example takes says nothing about the code here
settings.load_profile("gossamer")

Need = Callable[[bool, str], None]
SHARED = Path(os.environ.get("GOSSAMER_SHARED", Path(__file__).parents[2] / "shared"))


def need(condition: bool, reason: str) -> None:
    """Skip unless `condition`; under GOSSAMER_REQUIRE=all that is a failure, so that CI never skips quietly."""
    if condition:
        return
    if os.environ.get("GOSSAMER_REQUIRE") == "all":
        pytest.fail(f"GOSSAMER_REQUIRE=all, but {reason}")
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in parallel, a file or folder of `e2e` runs as one, since its tests share meshes, and so does
    `node`, whose tests change the host's networks."""
    for item in items:
        room, *rest = item.path.relative_to(Path(__file__).parent).parts
        if room in {"e2e", "node"}:
            item.add_marker(pytest.mark.xdist_group("node" if room == "node" else f"{room}/{rest[0]}"))


@pytest.fixture(scope="session")
def envoy() -> Path:
    """The Envoy binary that ships with the project."""
    try:
        return find_envoy()
    except EnvoyError as error:
        need(False, str(error))
        raise


@pytest.fixture(scope="session")
def stub() -> Stub:
    """A certificate that stands for all that Envoy is shown while it only validates."""
    certificate, key, authority = create_stub(datetime.now(UTC))
    return Stub(certificate=certificate, key=key, authority=authority)


@pytest.fixture(scope="session")
def cases() -> Path:
    """Cases with known right answers; they are not part of the repository."""
    folder = SHARED / "cases"
    if not folder.is_dir():  # a clone on its own: nothing a package could install
        pytest.skip(f"no cases in {folder}; set GOSSAMER_SHARED")
    return folder
