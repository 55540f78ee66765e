"""EnvoyFilters and extensions are tried on a real Envoy before any proxy is told them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gossamer.api.config import Config
from gossamer.compile.serialise import resource_from_bytes
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.core.resources import CLUSTER, EXTENSION, LISTENER, Resources, Table
from gossamer.model.modules import ModuleKey
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.plane.admission import Admission
from gossamer.plane.envoy_check import EnvoyCheck, Trial
from gossamer.plane.gate import Gate
from gossamer.plane.judging import Judging
from gossamer.plane.modules import ModuleError, fetch_module
from gossamer.plane.pipeline import Pipeline
from gossamer.sources.files import Files
from tests import wasm
from tests.compile.compiled import service
from tests.compile.patches.documents import ROUTER, envoy_filter, http_filter, lua, patch
from tests.compile.test_extensions import plugin

WEB = Proxy(type=ProxyType.SIDECAR, namespace="default", name="web", addresses=("1.1.1.1",))
GOOD = patch("HTTP_FILTER", "INSERT_BEFORE", lua("good"), listener=http_filter(ROUTER))
BETTER = patch("HTTP_FILTER", "INSERT_BEFORE", lua("better"), listener=http_filter(ROUTER))
BAD = patch("HTTP_FILTER", "INSERT_BEFORE", lua("bad", "function ("), listener=http_filter(ROUTER))
UNREADABLE = patch("HTTP_FILTER", "INSERT_BEFORE", {"nam": "x"}, listener=http_filter(ROUTER))
PLUGIN = "extensions.istio.io/wasmplugin/istio-system.x"


@dataclass(slots=True, kw_only=True)
class Plane:
    """A pipeline and its judging, without ports."""

    envoy: Path | None
    state: Path
    admitted: dict[ResourceId, str] = field(default_factory=dict)
    pushes: int = 0
    pipeline: Pipeline = field(init=False)
    judging: Judging = field(init=False)
    documents: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(mesh_config=None, last_good=None, admitted=self.admitted)
        self.judging = Judging(
            pipeline=self.pipeline,
            envoy=self.envoy,
            state=self.state,
            running=lambda: [WEB],
            rebuild=self.build,
            changed=self._changed,
        )

    def build(self) -> None:
        texts = {f"{name}.yaml": text for name, text in {"service": service("reviews"), **self.documents}.items()}
        self.pipeline.build(Files(texts=FrozenMap(texts)), ())
        self.judging.built()

    def _changed(self) -> None:
        self.pushes += 1
        self.build()

    def say(self, **documents: str) -> None:
        self.documents = documents
        self.build()

    def filters(self) -> list[str]:
        """The HTTP filters of one listener that are named in small letters alone: those of tests."""
        resources = self.pipeline.resources(WEB)
        assert resources is not None
        body = str(resources.get(LISTENER, "0.0.0.0_80").body)  # type: ignore[union-attr]
        return [name for name in ("good", "better", "bad") if f"\\n\\x0{len(name)}{name}" in body.lower()]

    def codes(self) -> set[str]:
        return {one.code for one in self.pipeline.diagnostics}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what is awaited sets no event
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.judging.follow())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def plane(envoy: Path, tmp_path: Path) -> Plane:
    return Plane(envoy=envoy, state=tmp_path)


@pytest.mark.envoy
def test_a_good_filter_is_in_force_once_envoy_took_it(plane: Plane) -> None:
    async def test() -> None:
        plane.say(one=envoy_filter(GOOD))
        assert plane.filters() == []
        await plane.judging.first()
        assert plane.filters() == ["good"]
        assert plane.codes() == set()

    asyncio.run(test())


@pytest.mark.envoy
def test_a_broken_filter_hurts_only_itself_and_is_named_with_its_line(plane: Plane) -> None:
    async def test() -> None:
        plane.say(one=envoy_filter(GOOD), two=envoy_filter(BETTER, BAD, name="broken"))
        await plane.judging.first()
        assert plane.filters() == ["good"]
        (found,) = plane.pipeline.diagnostics
        assert (found.code, found.name, found.path) == ("envoy-refuses", "broken", "spec.configPatches[1]")
        assert (found.position.file, found.position.line) == ("two.yaml", 1)
        assert "script load error" in found.message

    asyncio.run(test())


@pytest.mark.envoy
def test_an_edit_that_is_refused_leaves_the_last_good_one_in_force(plane: Plane) -> None:
    async def test() -> None:
        plane.say(one=envoy_filter(GOOD))
        await plane.judging.first()
        async with plane.following():
            plane.say(one=envoy_filter(BAD))
            assert plane.filters() == ["good"], "nothing goes out that was not judged"
            await plane.until(lambda: plane.codes() == {"envoy-refuses"})
            assert plane.filters() == ["good"]
            plane.say(one=envoy_filter(BETTER))
            await plane.until(lambda: plane.filters() == ["better"])
            assert plane.codes() == set()
            plane.say()
            await plane.until(lambda: plane.filters() == [])

    asyncio.run(test())


@pytest.mark.envoy
def test_what_was_in_force_outlives_a_restart_though_its_file_is_broken_now(plane: Plane, envoy: Path) -> None:
    async def test() -> None:
        plane.say(one=envoy_filter(GOOD))
        await plane.judging.first()
        plane.say(one=envoy_filter(BAD))
        await plane.judging.first()
        for _ in range(2):
            again = Plane(envoy=envoy, state=plane.state, admitted=plane.pipeline.admitted_texts)
            again.say(one=envoy_filter(BAD))
            assert again.filters() == ["good"], "before anybody was asked"
            await again.judging.first()
            assert again.filters() == ["good"]
            assert again.codes() == {"envoy-refuses"}

    asyncio.run(test())


@pytest.mark.envoy
def test_what_cannot_be_read_is_refused_without_envoy(plane: Plane) -> None:
    async def test() -> None:
        plane.say(one=envoy_filter(GOOD), two=envoy_filter(UNREADABLE, name="broken"))
        await plane.judging.first()
        assert plane.filters() == ["good"]
        assert plane.codes() == {"invalid-patch"}
        assert len(plane.pipeline.diagnostics) == 1

    asyncio.run(test())


@pytest.mark.envoy
def test_a_bootstrap_is_judged_too(plane: Plane) -> None:
    good = patch("BOOTSTRAP", "MERGE", {"stats_flush_interval": "3s"})
    bad = patch("BOOTSTRAP", "MERGE", {"static_resources": {"clusters": [{"name": "x", "connect_timeout": "-1s"}]}})

    async def test() -> None:
        plane.say(one=envoy_filter(good), two=envoy_filter(bad, name="broken"))
        await plane.judging.first()
        start = plane.pipeline.start(WEB)
        assert start is not None
        assert [one.value for one in start.patches] == ['{"stats_flush_interval":"3s"}']
        (found,) = (one for one in plane.pipeline.diagnostics if one.is_error)
        assert (found.code, found.name, found.path) == ("envoy-refuses", "broken", "spec.configPatches[0]")

    asyncio.run(test())


def test_where_envoy_does_not_start_patches_are_let_out_with_a_warning(tmp_path: Path) -> None:
    plane = Plane(envoy=tmp_path / "nothing", state=tmp_path)

    async def test() -> None:
        plane.say(one=envoy_filter(GOOD))
        await plane.judging.first()
        assert plane.filters() == ["good"]
        assert plane.codes() == {"envoy-not-asked"}

    asyncio.run(test())


@asynccontextmanager
async def server(answers: dict[str, bytes]) -> AsyncIterator[str]:
    """An HTTP server with these bodies by path; its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        while (await reader.readline()).strip():
            pass
        path = line.split()[1].decode()
        if path.startswith("/moved"):
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: /x.wasm\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        elif path in answers:
            body = answers[path]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    serving = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with serving:
        yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"


def content(plane: Plane) -> bytes:
    resources = plane.pipeline.resources(WEB)
    assert resources is not None
    found = resources.get(EXTENSION, PLUGIN)
    return found.body if found is not None else b""


@pytest.mark.envoy
def test_a_module_is_fetched_judged_and_kept_on_disk(plane: Plane, envoy: Path) -> None:
    async def test() -> None:
        async with server({"/x.wasm": wasm.module()}) as url:
            plane.say(one=plugin("x", url=f"{url}/x.wasm"))
            await plane.judging.first()
            assert wasm.module() in content(plane)
            assert plane.codes() == set()
        again = Plane(envoy=envoy, state=plane.state)
        again.say(one=plugin("x", url=f"{url}/x.wasm"))
        await again.judging.first()
        assert wasm.module() in content(again), "its server is gone, the module is not"

    asyncio.run(test())


@pytest.mark.envoy
@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"path": "/nothing"}, "answers 404"),
        ({"path": "/x.wasm", "sha256": "0" * 64}, "SHA-256"),
        ({"path": "/other"}, "no Wasm module"),
    ],
)
def test_a_module_that_is_not_to_be_had_denies_and_is_told(plane: Plane, spec: dict[str, Any], why: str) -> None:
    async def test() -> None:
        async with server({"/x.wasm": wasm.module(), "/other": b"<html>"}) as url:
            path = spec.pop("path")
            plane.say(one=plugin("x", url=url + path, **spec))
            await plane.judging.first()
            (found,) = plane.pipeline.diagnostics
            assert found.code == "module-not-fetched"
            assert why in found.message
            assert found.position.file == "one.yaml"
            assert b"extension-not-received" in content(plane)

    asyncio.run(test())


@pytest.mark.envoy
def test_a_module_that_comes_later_is_run_then(plane: Plane) -> None:
    async def test() -> None:
        answers: dict[str, bytes] = {}
        plane.judging.store.retry_s = 0.1
        async with server(answers) as url:
            plane.say(one=plugin("x", url=f"{url}/x.wasm"))
            await plane.judging.first()
            assert b"extension-not-received" in content(plane)
            async with plane.following():
                answers["/x.wasm"] = wasm.module()
                await plane.until(lambda: wasm.module() in content(plane))
                assert plane.codes() == set()

    asyncio.run(test())


@pytest.mark.envoy
@pytest.mark.parametrize(("strategy", "denies"), [("FAIL_CLOSE", True), ("FAIL_OPEN", False)])
def test_code_that_envoy_refuses_denies_or_is_left_out(plane: Plane, strategy: str, denies: bool) -> None:
    async def test() -> None:
        broken = wasm.module()[:-9]
        async with server({"/x.wasm": broken}) as url:
            plane.say(one=plugin("x", url=f"{url}/x.wasm", failStrategy=strategy))
            await plane.judging.first()
            assert plane.codes() == {"envoy-refuses"}
            assert (b"extension-not-received" in content(plane)) is denies
            assert broken not in content(plane)

    asyncio.run(test())


def test_redirects_are_followed_and_what_is_too_large_is_not_taken() -> None:
    async def test() -> None:
        async with server({"/x.wasm": wasm.module(), "/large": b"\0asm" + bytes(17 * 1024 * 1024)}) as url:
            digest = hashlib.sha256(wasm.module()).hexdigest()
            assert await fetch_module(ModuleKey(url=f"{url}/moved", sha256=digest)) == wasm.module()
            with pytest.raises(ModuleError, match="larger than 16 MB"):
                await fetch_module(ModuleKey(url=f"{url}/large"))
        with pytest.raises(ModuleError):
            await fetch_module(ModuleKey(url=f"{url}/x.wasm"))

    asyncio.run(test())


def test_what_changes_nothing_asks_nobody(tmp_path: Path) -> None:
    plane = Plane(envoy=tmp_path / "nothing", state=tmp_path)

    async def test() -> None:
        plane.say()
        await plane.judging.first()
        assert plane.codes() == set()
        assert plane.pipeline.resources(WEB) is not None
        assert plane.pipeline.wanted == EMPTY
        assert any(plane.pipeline.resources(WEB).of_type(CLUSTER))  # type: ignore[union-attr]

    asyncio.run(test())


@pytest.mark.envoy
def test_what_envoy_has_against_the_mesh_itself_is_no_filters_fault(plane: Plane) -> None:
    """Nothing that is compiled is refused, as far as we know: here is a cluster that would be."""
    cluster = resource_from_bytes(CLUSTER, "x", b"\x0a\x01x\x22\x02\x08\x00", None)  # its connect_timeout is 0 s
    wrong = Resources(tables=FrozenMap({CLUSTER: (Table(CLUSTER, [cluster]),)}))
    check = EnvoyCheck(envoy=plane.envoy or Path())
    gate = Gate(check, lambda _, __: iter([(wrong, wrong)]))

    async def test() -> None:
        plane.say(one=envoy_filter(GOOD))
        assert plane.pipeline.loaded is not None
        judged = await gate.judge(plane.pipeline.loaded.config, plane.pipeline.wanted, Admission())
        assert "connect_timeout" in await check.judge(wrong)
        assert list(judged.taken) == list(plane.pipeline.wanted)

    asyncio.run(test())


def test_what_cannot_be_compiled_is_refused_and_not_let_out(plane: Plane) -> None:
    def trials(config: Config, _: object) -> Iterator[tuple[Trial, Trial]]:
        if config.envoy_filters:
            raise ValueError("an error of ours")
        yield from ()

    gate = Gate(EnvoyCheck(envoy=plane.envoy or Path()), trials)

    async def test() -> None:
        plane.say(one=envoy_filter(GOOD))
        assert plane.pipeline.loaded is not None
        judged = await gate.judge(plane.pipeline.loaded.config, plane.pipeline.wanted, Admission())
        assert not judged.taken
        assert [one.code for one in judged.diagnostics] == ["envoy-refuses"]

    asyncio.run(test())
