"""An observed proxy tells its agent what comes in, and nothing of what goes out; Envoy takes what says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.compile.static import Stub
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import LISTENER
from gossamer.model.proxy import Proxy
from tests.compile.compiled import GATEWAY, SIDECAR, compiled
from tests.compile.test_goldens import EXPLICIT, FOLDER, MEMBERS
from tests.compile.validated import validated

REVIEWS = replace(SIDECAR, name="reviews-v1", labels=FrozenMap({"app": "reviews"}))
CASES: dict[str, tuple[str, Proxy]] = {
    "sidecar": ("sidecar", REVIEWS),
    "explicit": ("sidecar", EXPLICIT),
    "gateway": ("gateway", GATEWAY),
}


def observed(proxy: Proxy) -> Proxy:
    return replace(proxy, capture=replace(proxy.capture, observed=True))


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES)
def test_envoy_takes_the_listeners_of_an_observed_proxy(case: str, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    source, proxy = CASES[case]
    text = (FOLDER / f"{source}.yaml").read_text()
    found = compiled(text, proxy=observed(proxy), registrations=MEMBERS)
    assert validated(envoy, found.resources, stub, tmp_path) == ""


def test_what_goes_out_is_told_to_nobody_and_stays_shared() -> None:
    text = (FOLDER / "sidecar.yaml").read_text()
    plain = compiled(text, proxy=REVIEWS, registrations=MEMBERS).resources
    told = compiled(text, proxy=observed(REVIEWS), registrations=MEMBERS)
    telling = {one["name"] for one in told.json()["listeners"] if "GrpcAccessLogConfig" in json.dumps(one)}
    assert telling == {"virtualInbound"}
    differing = [
        one.name
        for one in told.resources.all_of(LISTENER)
        if one.body != getattr(plain.get(LISTENER, one.name), "body", b"")
    ]
    assert differing == ["virtualInbound"]
