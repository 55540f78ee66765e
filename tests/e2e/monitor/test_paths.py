"""A path written in every way that some server or other reads as `/admin`, against a rule that denies that, under each
normalisation of MeshConfig: Envoy and the simulator give one verdict, and no application gets what it would read so."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import SplitResult

import pytest

from gossamer.cli.asking import People, ask
from gossamer.cli.cast import Cast
from gossamer.cli.question import Question
from gossamer.cli.running import build_running
from gossamer.core.memo import Memo
from tests.e2e.agreement.prediction import ends_of
from tests.e2e.monitor.raw import converse
from tests.e2e.monitor.world import DOOR, World

PATHS = (
    *(
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin",
        "///admin//x",
        "/admin//x",
        "/.//admin",
        "/./admin",
        "/admin/.",
        "/admin/..",
    ),
    *("/x/../admin", "/x//../admin", "/../admin", "/..//admin", "/ok/./../admin/x", "/admin/../ok", "/x/.../admin"),
    *(
        "/%61dmin",
        "/adm%69n/x",
        "/%2e/admin",
        "/%2e%2e/admin",
        "/x/%2E%2e/admin",
        "/%2561dmin",
        "/admin%00",
        "/admin%20",
    ),
    *("/admin%2f", "/admin%2Fx", "/%2fadmin", "/%2Fadmin", "/x/..%2fadmin", "/x%2f..%2fadmin", "/x%2f%2e%2e%2fadmin"),
    *("/admin%5cx", "/%5cadmin", "/x%5C..%5cadmin", "/x\\..\\admin", "\\admin", "/\\admin", "/admin\\x"),
    *("/admin;x", "/admin;/x", "/;/admin", "/x/..;/admin", "/x/..;x=1/admin", "/x/.;/../admin", "/x/..;/..;y/admin"),
    *("/x/%2e%2e;/admin", "/x/.%2E;a=b/admin", "/x/y\\..;/../admin", "/ok/%2e;/x", "/ADMIN", "/Admin/x", "/aDmIn"),
    *("/admin?x=/ok", "/ok?x=/admin", "/ok?/../admin", "/admin%3fx", "/admin%23x", "/%c0%af/admin", "/%e0%80%afadmin"),
)
"""Paths as they stand on a request line."""
MODES = ("NONE", "BASE", "DEFAULT", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")


def _as_read(path: str, mode: str) -> str:
    """A path as an application reads it that reads as much into it as the mesh is told to."""
    path = path.partition("?")[0]
    if mode == "NONE":
        return path
    if mode == "DECODE_AND_MERGE_SLASHES":
        path = re.sub("%2f", "/", re.sub("%5c", "\\\\", path, flags=re.I), flags=re.I)
    path = re.sub("%2e", ".", re.sub("%([46]1|[46]9)", lambda found: chr(int(found[1], 16)), path), flags=re.I)
    path = re.sub(r"(?<=/)(\.\.?);[^/]*", r"\1", path.replace("\\", "/"))
    if mode in ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"):
        path = re.sub("//+", "/", path)
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


@pytest.mark.parametrize("mode", MODES)
def test_one_verdict_on_each_path(world: World, mode: str) -> None:
    text = f"accessLogFile: /dev/stdout\npathNormalization: {{normalization: {mode}}}\n"
    if world.mesh_config.read_text() != text:
        world.configure(lambda: world.mesh_config.write_text(text))
    cast = build_running(world.snapshot(), Memo())[1]
    denied, differing = 0, []
    with ThreadPoolExecutor(8) as pool:
        met = [*pool.map(lambda path: _met(world, path), PATHS)]
    for path, found in zip(PATHS, met, strict=True):
        expected = _simulated(cast, path)
        if found not in expected:
            differing.append((path, found, expected))
        status, got = found
        denied += status == 403
        if status == 200:
            read = _as_read(got, mode)
            assert not re.match("/admin(/|$)", read), (path, got)
    assert not differing
    assert denied >= 3, "there is something that is denied"
    assert _met(world, "/ok") == (200, "/ok")


def _met(world: World, path: str) -> tuple[int, str]:
    """The status, and the path that the application got."""
    request = f"GET {path} HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n"
    said = converse(world.ports[80], request.encode("latin-1"))
    (status,) = said.statuses or [0]
    if status != 200:
        return status, ""
    return status, json.loads(said.data.partition(b"\r\n\r\n")[2])["head"].split(" ")[1]


def _simulated(cast: Cast, path: str) -> set[tuple[int, str]]:
    target, _, query = path.partition("?")
    question = Question(url=SplitResult("http", "web.test", target, query, ""))
    answer = ask(cast, question, People(gateway=DOOR, client="127.0.0.1"))
    return {(end.status, end.path if end.status == 200 else "") for end in ends_of(answer.call)}


def test_what_is_decided_at_the_gateway_alone_is_not_undone_behind_it(world: World) -> None:
    """Two proxies normalise, one after the other: what the first let through as another path stays that."""
    policy = world.place.mesh / "config" / "all.yaml"
    kept = policy.read_text()
    everywhere, gateway = (f"name: no-admin, namespace: {name}" for name in ("istio-system", "edge"))
    assert everywhere in kept
    world.configure(lambda: policy.write_text(kept.replace(everywhere, gateway)))
    try:
        for path in ("/x/%2e%2e;/admin", "/x/y\\..;/../admin", "/admin", "/x/.%2e;/admin"):
            status, got = _met(world, path)
            assert status == 403 or not got.startswith("/admin"), (path, status, got)
    finally:
        world.configure(lambda: policy.write_text(kept))
