"""One mesh for all questions of the reference monitor, run by an ordinary user, as whom its applications run too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.monitor.world import World, running
from tests.e2e.users import ordinary


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    with running(ordinary()) as found:
        yield found
