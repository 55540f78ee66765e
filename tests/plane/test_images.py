"""Wasm modules in OCI images: both forms of them, who may pull them, and what is not taken."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gossamer.core.resources import EXTENSION
from gossamer.model.images import Image, image_of
from gossamer.model.modules import ModuleKey
from gossamer.plane.download import Access, DownloadError, Downloads
from gossamer.plane.image_layers import module_in
from gossamer.plane.modules import LARGEST, ModuleError, fetch_module
from gossamer.plane.pull_secrets import Login, login_for
from tests import wasm
from tests.compile.test_extensions import plugin
from tests.plane.image_registry import (
    ARTIFACT,
    DOCKER_LAYER,
    INDEX,
    OCI_LAYER,
    TOKEN,
    ImageRegistry,
    archive,
    digest_of,
    pull_secret,
    serving,
)
from tests.plane.test_judging import WEB, Plane, content

MODULE = wasm.module()
PLUGIN = {"plugin.wasm": MODULE}


def with_registry(scenario: Callable[[ImageRegistry], Awaitable[None]], registry: ImageRegistry | None = None) -> None:
    async def run() -> None:
        async with serving(registry or ImageRegistry()) as served:
            await scenario(served)

    asyncio.run(run())


async def pulled(registry: ImageRegistry, name: str, *, sha256: str = "", secret: bytes | None = None) -> bytes:
    key = ModuleKey(url=f"oci://{registry.host}/{name}", sha256=sha256, secret="ns/pull" if secret else "")
    return await fetch_module(key, secret=secret)


@pytest.mark.parametrize(
    "layers",
    [
        [(ARTIFACT, MODULE)],
        [("application/wasm", MODULE)],
        [(OCI_LAYER, archive({"etc/x": b"x"})), (ARTIFACT, MODULE)],
        [(DOCKER_LAYER, archive(PLUGIN))],
        [(OCI_LAYER, archive({"./plugin.wasm": MODULE}))],
        [("application/vnd.oci.image.layer.v1.tar", archive(PLUGIN, zipped=False))],
        [(DOCKER_LAYER, archive(PLUGIN)), (DOCKER_LAYER, archive({"etc/x": b"x"}))],
        [(DOCKER_LAYER, archive({"plugin.wasm": b"old"})), (DOCKER_LAYER, archive(PLUGIN))],
    ],
)
def test_both_forms_of_images_hold_a_module(layers: list[tuple[str, bytes]]) -> None:
    async def scenario(registry: ImageRegistry) -> None:
        registry.put("team/filters/one:v1", *layers)
        assert await pulled(registry, "team/filters/one:v1") == MODULE

    with_registry(scenario)


@pytest.mark.parametrize(
    ("platforms", "chosen"),
    [([("linux", "arm64"), ("wasip1", "wasm")], 1), ([("linux", "arm64"), ("linux", "amd64")], 1), ([("a", "b")], 0)],
)
def test_of_an_index_the_manifest_for_wasm_is_taken(platforms: list[tuple[str, str]], chosen: int) -> None:
    async def scenario(registry: ImageRegistry) -> None:
        digests = [
            registry.put(f"one:part{place}", (ARTIFACT, MODULE if place == chosen else b"\0asm other"))
            for place, _ in enumerate(platforms)
        ]
        entries = [
            {"digest": digest, "platform": {"os": system, "architecture": machine}}
            for digest, (system, machine) in zip(digests, platforms, strict=True)
        ]
        whole = registry.put_manifest("one:v1", {"mediaType": INDEX, "manifests": entries})
        assert await pulled(registry, "one:v1") == MODULE
        for digest in (whole, digests[chosen]):
            assert await pulled(registry, "one:v1", sha256=digest.removeprefix("sha256:")) == MODULE

    with_registry(scenario)


def test_what_has_another_digest_than_it_must_have_is_not_taken() -> None:
    async def scenario(registry: ImageRegistry) -> None:
        digest = registry.put("one:v1", (ARTIFACT, MODULE))
        assert await pulled(registry, f"one@{digest}") == MODULE
        assert await pulled(registry, f"one:other@{digest}", sha256=digest[7:]) == MODULE
        with pytest.raises(ModuleError, match="has the digest"):
            await pulled(registry, "one:v1", sha256="0" * 64)
        registry.manifests[f"/v2/one/manifests/{digest}"] += b" "
        with pytest.raises(ModuleError, match="has the digest"):
            await pulled(registry, f"one@{digest}")
        registry.blobs[digest_of(MODULE)] = MODULE + b"\0"
        with pytest.raises(ModuleError, match="not what its digest says"):
            await pulled(registry, "one:v1")

    with_registry(scenario)


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([(ARTIFACT, b"\0asm" + bytes(LARGEST))], "larger than 16 MB"),
        ([(DOCKER_LAYER, archive({"plugin.wasm": b"\0asm" + bytes(LARGEST)}))], "larger than 16 MB"),
        ([(DOCKER_LAYER, archive({"big": bytes(5 * LARGEST), **PLUGIN}))], "too large when it is unpacked"),
        ([(DOCKER_LAYER, archive({"other.wasm": MODULE}))], "holds no plugin.wasm"),
        ([(DOCKER_LAYER, b"\x1f\x8bnothing")], "damaged"),
        ([(DOCKER_LAYER, archive({"plugin.wasm": b"<html>"}))], "no Wasm module"),
        ([("application/json", b"{}")], "no layer that could hold a module"),
    ],
)
def test_what_is_too_large_or_no_module_is_not_taken(layers: list[tuple[str, bytes]], why: str) -> None:
    async def scenario(registry: ImageRegistry) -> None:
        registry.put("one:v1", *layers)
        with pytest.raises(ModuleError, match=why):
            await pulled(registry, "one:v1")

    with_registry(scenario)


@pytest.mark.parametrize("content", [b"[]", b"{", b"{}", b'{"manifests": []}', b'{"layers": [1, {"mediaType": 1}]}'])
def test_a_manifest_that_is_none_is_an_error_and_no_crash(content: bytes) -> None:
    async def scenario(registry: ImageRegistry) -> None:
        registry.manifests["/v2/one/manifests/v1"] = content
        with pytest.raises(ModuleError):
            await pulled(registry, "one:v1")

    with_registry(scenario)


@pytest.mark.parametrize("asks", ["basic", "bearer"])
def test_who_has_credentials_shows_them_and_who_has_none_is_told(asks: str) -> None:
    async def scenario(registry: ImageRegistry) -> None:
        registry.put("one:v1", (ARTIFACT, MODULE))
        assert await pulled(registry, "one:v1", secret=pull_secret(registry.host)) == MODULE
        with pytest.raises(ModuleError, match=r"no token|imagePullSecret"):
            await pulled(registry, "one:v1")
        with pytest.raises(ModuleError, match=r"no token|look at the Secret"):
            await pulled(registry, "one:v1", secret=pull_secret(registry.host, password="wrong"))
        with pytest.raises(ModuleError, match="no credentials for"):
            await pulled(registry, "one:v1", secret=pull_secret("elsewhere.example"))

    with_registry(scenario, ImageRegistry(login="ann:pass", asks=asks))


def test_a_token_is_asked_for_without_a_name_and_for_pulling_alone() -> None:
    async def scenario(registry: ImageRegistry) -> None:
        registry.put("team/one:v1", (ARTIFACT, MODULE))
        assert await pulled(registry, "team/one:v1") == MODULE
        (asked,) = [(path, who) for path, who in registry.seen if path.startswith("/token")]
        assert asked == ("/token?scope=repository%3Ateam%2Fone%3Apull&service=here", "")

    with_registry(scenario, ImageRegistry(asks="bearer"))


def test_layers_elsewhere_are_fetched_without_our_token_and_only_if_that_is_allowed() -> None:
    async def scenario(registry: ImageRegistry) -> None:
        async with serving(ImageRegistry()) as elsewhere:
            registry.put("one:v1", (ARTIFACT, MODULE))
            elsewhere.put("one:v1", (ARTIFACT, MODULE))
            registry.moved = f"http://{elsewhere.host}"
            with pytest.raises(ModuleError, match="private address"):
                await pulled(registry, "one:v1")
            assert elsewhere.seen == []
            key = ModuleKey(url=f"oci://{registry.host}/one:v1")
            assert await fetch_module(key, Access(private_redirects=True)) == MODULE
            assert f"Bearer {TOKEN}" in [who for _, who in registry.seen]
            assert [who for _, who in elsewhere.seen] == [""]

    with_registry(scenario, ImageRegistry(asks="bearer"))


def test_a_module_by_http_leads_to_no_private_address_either() -> None:
    async def scenario(registry: ImageRegistry) -> None:
        async with serving(ImageRegistry()) as elsewhere:
            digest = digest_of(MODULE)
            for one in (registry, elsewhere):
                one.blobs[digest] = MODULE
            registry.moved = f"http://{elsewhere.host}"
            key = ModuleKey(url=f"http://{registry.host}/blobs/{digest}")
            with pytest.raises(ModuleError, match="private address"):
                await fetch_module(key)
            assert await fetch_module(key, Access(private_redirects=True)) == MODULE

    with_registry(scenario)


def test_what_began_with_https_does_not_go_on_without() -> None:
    async def run() -> None:
        async with Downloads("https://registry.example/x", Access(private_redirects=True), 3) as downloads:
            with pytest.raises(DownloadError, match="not to be trusted"):
                await downloads.get("http://127.0.0.1:1/x", 10, {})

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("oci://r.io/a/b:1", Image(host="r.io", repository="a/b", tag="1")),
        ("r.io:5000/a", Image(host="r.io:5000", repository="a", tag="latest")),
        ("localhost/a", Image(host="localhost", repository="a", tag="latest")),
        ("a", Image(host="docker.io", repository="library/a", tag="latest")),
        ("oci://team/a:v2", Image(host="docker.io", repository="team/a", tag="v2")),
        (f"oci://r.io/a@sha256:{'0' * 64}", Image(host="r.io", repository="a", digest=f"sha256:{'0' * 64}")),
        (f"oci://r.io/a:1@sha256:{'0' * 64}", Image(host="r.io", repository="a", tag="1", digest=f"sha256:{'0' * 64}")),
        ("oci://r.io/a@sha256:0", None),
        ("oci://r.io/../a", None),
        ("oci://r.io/A", None),
        ("oci://r.io/a:", None),
        ("oci://r.io/a?x", None),
        ("oci://r.io/", None),
        ("oci://u:p@r.io/a", None),
    ],
)
def test_what_image_a_url_names(url: str, found: Image | None) -> None:
    assert image_of(url) == found


LOGIN = {"username": "ann", "password": "a:b"}


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ("r.io", True),
        ("https://r.io", True),
        ("https://r.io/v1/", True),
        ("*.io", True),
        ("r.io/team", True),
        ("r.io/team/one", True),
        ("r.io/tea", False),
        ("r.io/other", False),
        ("*", False),
        ("r.io:5000", False),
        ("x.r.io", False),
    ],
)
def test_which_registry_credentials_are_for(where: str, fits: bool) -> None:
    image = Image(host="r.io", repository="team/one", tag="1")
    config = json.dumps({"auths": {where: LOGIN}}).encode()
    if fits:
        assert login_for(config, image, "ns/pull") == Login(user="ann", password="a:b")
    else:
        with pytest.raises(DownloadError, match=r"no credentials for r\.io"):
            login_for(config, image, "ns/pull")


def test_the_most_particular_credentials_are_taken_and_docker_hub_has_its_own_name() -> None:
    config = json.dumps({"auths": {"r.io": {"username": "x", "password": "y"}, "r.io/team": LOGIN}}).encode()
    assert login_for(config, Image(host="r.io", repository="team/one"), "s").user == "ann"
    hub = json.dumps({"auths": {"https://index.docker.io/v1/": LOGIN}}).encode()
    assert login_for(hub, Image(host="docker.io", repository="team/one"), "s").user == "ann"


@pytest.mark.parametrize(
    "config", [b"", b"{", b"[]", b'{"auths": 1}', b'{"auths": {"r.io": 1}}', b'{"auths": {"r.io": {"auth": "%"}}}']
)
def test_a_pull_secret_that_is_none_is_told(config: bytes) -> None:
    with pytest.raises(DownloadError, match="Secret ns/pull"):
        login_for(config, Image(host="r.io", repository="a"), "ns/pull")


def test_nothing_that_is_shown_holds_a_password() -> None:
    assert "pass" not in repr(Login(user="ann", password="pass")).replace("password", "")


def test_an_archive_that_holds_no_files_holds_no_module() -> None:
    assert module_in(archive({}), LARGEST) is None


def secret(host: str, *, password: str = "pass", namespace: str = "istio-system") -> str:
    held = base64.b64encode(pull_secret(host, password=password)).decode()
    return (
        f"apiVersion: v1\nkind: Secret\ntype: kubernetes.io/dockerconfigjson\n"
        f"metadata: {{name: pull, namespace: {namespace}}}\ndata: {{.dockerconfigjson: {held}}}\n"
    )


@pytest.mark.envoy
def test_an_image_is_pulled_with_its_namespaces_secret_and_taken_by_envoy(envoy: Path, tmp_path: Path) -> None:
    plane = Plane(envoy=envoy, state=tmp_path)
    plane.judging.store.retry_s = 30.0

    def told(name: str) -> bytes:
        resources = plane.pipeline.resources(WEB)
        assert resources is not None
        found = resources.get(EXTENSION, f"extensions.istio.io/wasmplugin/{name}")
        return found.body if found is not None else b""

    async def scenario(registry: ImageRegistry) -> None:
        registry.put("one:v1", (DOCKER_LAYER, archive(PLUGIN)))
        url = f"oci://{registry.host}/one:v1"
        asking = plugin("x", url=url, imagePullSecret="pull")
        theirs = plugin("y", url=url, imagePullSecret="pull").replace("istio-system", "default")
        without = plugin("z", url=url)
        plane.say(one=asking, two=theirs, three=without, secret=secret(registry.host, password="wrong"))
        await plane.judging.first()
        assert MODULE not in content(plane)
        assert {one.code for one in plane.pipeline.diagnostics} == {"module-not-fetched"}
        assert {one.name for one in plane.pipeline.diagnostics} == {"x", "y", "z"}
        async with plane.following():
            plane.say(one=asking, two=theirs, three=without, secret=secret(registry.host))
            await plane.until(lambda: MODULE in content(plane))
            assert MODULE not in told("default.y"), "a Secret of another namespace is not its own"
            assert MODULE not in told("istio-system.z"), "nor is what somebody else was given"
        failing = {one.name: one.message for one in plane.pipeline.diagnostics}
        assert sorted(failing) == ["y", "z"]
        assert "there is no Secret default/pull" in failing["y"]

    with_registry(scenario, ImageRegistry(login="ann:pass", asks="bearer"))
