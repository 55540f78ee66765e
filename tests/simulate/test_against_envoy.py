"""What the simulator says is what the Envoy that ships with the project does, case by case.

One Envoy serves all routes below; each request goes to it and to the simulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.simulate.outcome import Verdict
from gossamer.simulate.paths import normal_path
from gossamer.simulate.simulator import Simulator
from tests.simulate import build, real_envoy
from tests.simulate.http_world import (
    AUTHORITIES,
    HEADER_MATCHERS,
    HEADERS,
    NAMES,
    NORMAL_PATHS,
    PATHS,
    REDIRECTS,
    REWRITES,
    Both,
    clusters_of,
    listeners_of,
)

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module")
def both(envoy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    ports = dict(zip(NAMES, real_envoy.free_ports(len(NAMES)), strict=True))
    listeners, clusters = listeners_of(ports), clusters_of(ports)
    with real_envoy.serving(envoy, tmp_path_factory.mktemp("envoy"), listeners, clusters):
        yield Both(ports, Simulator(build.resources(listeners=listeners, clusters=clusters)))


@pytest.mark.parametrize("number", range(len(HEADER_MATCHERS)))
def test_headers_of_routes_and_policies(both: Both, number: int) -> None:
    for values in HEADERS:
        headers = [("x", value) for value in values]
        real = real_envoy.get(both.ports["headers"], f"/h{number}/", headers=headers)
        said = both.simulate("headers", f"/h{number}/", headers=headers)
        assert said.route is not None
        assert said.route.name == real.body, values
        real = real_envoy.get(both.ports["policies"], f"/h{number}/", headers=headers)
        said = both.simulate("policies", f"/h{number}/", headers=headers)
        assert (said.verdict is Verdict.DENIED) == (real.status == 403), values


def test_path_conditions(both: Both) -> None:
    for path in PATHS:
        real = real_envoy.get(both.ports["paths"], path)
        said = both.simulate("paths", path)
        assert (said.status, said.route.name if said.route else "") == (
            real.status,
            real.body if real.status == 200 else "",
        ), path
    real = real_envoy.get(both.ports["paths"], "/m", method="POST")
    said = both.simulate("paths", "/m", method="POST")
    assert said.route is not None
    assert said.route.name == real.body == "post"


@pytest.mark.parametrize("listener", ["normal", "merged", "rejecting"])
def test_normal_paths(both: Both, listener: str) -> None:
    for path in NORMAL_PATHS:
        real = real_envoy.get(both.ports[listener], path)
        said = both.simulate(listener, path)
        assert said.status == real.status, path
        if real.status == 200:
            assert real.header("x-seen") == _path_seen(both, listener, path), path


def _path_seen(both: Both, listener: str, path: str) -> str:
    """The path that the simulator's filters saw."""
    settings = {
        "normal": HttpConnectionManager(normalize_path=BoolValue(value=True)),
        "merged": HttpConnectionManager(
            normalize_path=BoolValue(value=True),
            merge_slashes=True,
            path_with_escaped_slashes_action=HttpConnectionManager.UNESCAPE_AND_FORWARD,
        ),
        "rejecting": HttpConnectionManager(
            path_with_escaped_slashes_action=HttpConnectionManager.REJECT_REQUEST,
        ),
    }
    return normal_path(path, settings[listener]) or ""


@pytest.mark.parametrize("listener", ["hosts", "hosts-without-port", "no-rest"])
def test_virtual_hosts(both: Both, listener: str) -> None:
    for authority in AUTHORITIES:
        real = real_envoy.get(both.ports[listener], authority=authority)
        said = both.simulate(listener, authority=authority)
        assert said.status == real.status, authority
        assert (said.route.name if said.route else "") == real.body, authority


def test_a_request_without_a_host_is_a_bad_one(both: Both) -> None:
    assert real_envoy.get(both.ports["hosts"], authority=None).status == 400
    assert both.simulate("hosts", authority="").status == 400


@pytest.mark.parametrize("name", REDIRECTS)
def test_redirects(both: Both, name: str) -> None:
    for rest in ("", "x/y", "x?a=b", "?a=b"):
        for authority in ("a.example", "a.example:80", "a.example:8080"):
            path = f"/{name}/{rest}"
            real = real_envoy.get(both.ports["redirects"], path, authority)
            said = both.simulate("redirects", path, authority)
            assert (said.verdict, said.status, said.location) == (
                Verdict.REDIRECTED,
                real.status,
                real.header("location"),
            ), (path, authority)


def test_a_host_that_requires_tls(both: Both) -> None:
    real = real_envoy.get(both.ports["require-tls"], "/x?y", "a.example:80")
    said = both.simulate("require-tls", "/x?y", "a.example:80")
    assert (said.status, said.location) == (real.status, real.header("location"))


@pytest.mark.parametrize("name", REWRITES)
def test_rewrites(both: Both, name: str) -> None:
    sent = [("x-gone", "1"), ("x-added", "mine"), ("x-set", "mine"), ("x-new", "mine"), ("x-to", "to.example")]
    for rest in ("", "x", "x/y?a=b"):
        path = f"/{name}/{rest}"
        for headers in (sent, []):
            real = real_envoy.get(both.ports["rewrites"], path, headers=headers)
            said = both.simulate("rewrites", path, headers=headers).forwarded
            assert said is not None
            seen = {key.removeprefix("x-echo-"): value for key, value in real.headers if key.startswith("x-echo-")}
            assert seen.pop("path") == said.path, path
            assert seen.pop("authority") == said.authority, path
            for key in ("x-added", "x-set", "x-new", "x-gone", "x-path", "x-if", "x-forwarded-host"):
                first = next((value for header, value in said.headers if header == key), "")
                assert (seen.get(key) or "-").partition(",")[0] == (first or "-"), (path, key)


def test_allow_policies(both: Both) -> None:
    paths = ["/ok", "/no", "/port", "/other-port", "/range", "/source", "/not-source", "/remote", "/t/1", "/t/1/2"]
    paths += ["/principal", "/authenticated", "/destination", "/sni", "/or1", "/or2", "/ok?x", "/ok/"]
    for path in paths:
        for headers in (
            [],
            [("x-who", "me too")],
            [("x-forwarded-for", "10.1.2.3")],
            [("x-forwarded-for", "10.1.2.3, 9.9.9.9")],
        ):
            real = real_envoy.get(both.ports["allow"], path, headers=headers)
            said = both.simulate("allow", path, headers=headers)
            assert said.status == real.status, (path, headers)
    for authority in ("ok.example", "Ok.example", "no.example"):
        assert (
            both.simulate("allow", authority=authority).status
            == real_envoy.get(both.ports["allow"], authority=authority).status
        )
    for method in ("DELETE", "GET"):
        assert both.simulate("allow", method=method).status == real_envoy.get(both.ports["allow"], method=method).status


def test_nowhere_to_go(both: Both) -> None:
    for path in ("/e", "/x"):
        real, said = real_envoy.get(both.ports["nowhere"], path), both.simulate("nowhere", path)
        assert said.status == real.status == 503
    assert both.simulate("nowhere", "/e").flag == "UH"
    assert both.simulate("nowhere", "/x").flag == "NC"
    assert real_envoy.get(both.ports["tcp-nowhere"]).status == 0
    assert both.simulate("tcp-nowhere").verdict is Verdict.UNAVAILABLE
    assert real_envoy.get(both.ports["tcp"]).status == 200
    assert both.simulate("tcp").verdict is Verdict.SERVED


def test_a_weight_of_zero_is_never_drawn(both: Both) -> None:
    for chance in (0.0, 0.5, 0.999):
        assert both.simulate("weights", chance=chance).cluster == "echo2"
