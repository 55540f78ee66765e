"""How Envoys are to be started: what the control plane says survives an agent, and what it may not say is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.compile.patches.bootstrap import BootstrapPatch
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.started import ProxySettings
from gossamer.node.envoy_settings import EnvoySettings
from gossamer.node.starts import Started, Starts, started
from gossamer.plane.starts import start_message
from gossamer.rpc import gossamer_pb2 as rpc

KEY = ("shop", "web")
WEB = Proxy(type=ProxyType.SIDECAR, namespace="shop", name="web")
SETTINGS = ProxySettings(
    concurrency=0,
    environment=FrozenMap({"A": "1"}),
    runtime=FrozenMap({"x": "y"}),
    statsd="10.0.0.1:8125",
    termination_drain_s=0.0,
    flush_interval_s=2.5,
    flush_kb=9,
    max_connections=7,
    drain_s=30,
    outbound_port=16001,
    inbound_port=16006,
    listener_connections=9,
    readiness_probe='{"periodSeconds":3}',
)
PATCHES = (BootstrapPatch(value="{}", replace_lists=True),)


@pytest.mark.parametrize("settings", [SETTINGS, ProxySettings()])
def test_what_is_said_is_what_is_understood(settings: ProxySettings) -> None:
    assert started(start_message(WEB, settings, PATCHES)) == Started(settings=settings, patches=PATCHES)


def test_the_next_agent_knows_it(tmp_path: Path) -> None:
    starts = Starts(folder=tmp_path / "starts")
    assert starts.of(KEY) == Started()
    starts.take(start_message(WEB, SETTINGS, PATCHES))
    again = Starts(folder=tmp_path / "starts")
    assert again.of(KEY) == starts.of(KEY) == Started(settings=SETTINGS, patches=PATCHES)
    again.take(start_message(WEB, ProxySettings(), ()))
    assert Starts(folder=tmp_path / "starts").of(KEY) == Started()


def test_an_agent_judges_by_itself_what_its_envoys_are_given() -> None:
    said = rpc.Start(environment={"LD_PRELOAD": "/x.so", "A": "1"})
    assert started(said).settings.environment == {"A": "1"}


def test_envoy_is_started_so(tmp_path: Path) -> None:
    def settings(**more: Any) -> EnvoySettings:
        base: dict[str, Any] = {
            "name": "e",
            "binary": Path("/e"),
            "bootstrap": "{}",
            "folder": tmp_path,
            "admin_socket": tmp_path / "a",
            "log": tmp_path / "l",
        }
        return EnvoySettings(**(base | more))

    plain = settings()
    assert plain.argv[plain.argv.index("--concurrency") + 1] == "1"
    all_cores = settings(concurrency=0, flush_seconds=2.5, flush_kb=9)
    assert "--concurrency" not in all_cores.argv, "Envoy's own default is one thread for each core"
    assert all_cores.argv[all_cores.argv.index("--file-flush-interval-msec") + 1] == "2500"
    assert all_cores.argv[all_cores.argv.index("--file-flush-min-size-kb") + 1] == "9"
    digests = {plain.digest, all_cores.digest, settings(environment=FrozenMap({"A": "1"})).digest}
    assert len(digests) == 3, "one that is started differently is another"
