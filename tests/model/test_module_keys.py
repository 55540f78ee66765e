"""Which module a plugin asks for: when it is pulled anew, and with whose credentials."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.wasm_plugin import PullPolicy, WasmPlugin
from gossamer.model.extensions import key_of

DIGEST = f"sha256:{'0' * 64}"


def always(url: str, **more: Any) -> bool:
    return key_of(WasmPlugin(url=url, **more), "ns").always


@pytest.mark.parametrize(
    ("url", "by_default", "if_asked"),
    [
        ("oci://r.io/a", True, True),
        ("r.io/a:latest", True, True),
        ("oci://r.io/a:v1", False, True),
        (f"oci://r.io/a@{DIGEST}", False, False),
        (f"oci://r.io/a:latest@{DIGEST}", False, False),
        ("https://x.example/a.wasm", False, True),
    ],
)
def test_what_is_latest_is_pulled_anew_and_what_has_a_digest_never(url: str, by_default: bool, if_asked: bool) -> None:
    assert always(url) is by_default
    assert always(url, image_pull_policy=PullPolicy.ALWAYS) is if_asked
    assert always(url, image_pull_policy=PullPolicy.IF_NOT_PRESENT) is False
    assert always(url, image_pull_policy=PullPolicy.ALWAYS, sha256="0" * 64) is False


def test_credentials_are_of_the_plugins_namespace_and_for_images_alone() -> None:
    assert key_of(WasmPlugin(url="oci://r.io/a", image_pull_secret="pull"), "ns").secret == "ns/pull"
    assert key_of(WasmPlugin(url="https://r.io/a", image_pull_secret="pull"), "ns").secret == ""
    assert key_of(WasmPlugin(url="oci://r.io/a"), "ns").secret == ""
