"""The last copy on disk: what survives, what is shared, what damage does."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from gossamer.core.errors import StateError
from gossamer.core.resources import CLUSTER, ENDPOINT, Resource
from gossamer.node.store import SCHEMA, Store, Stored


def item(name: str, content: str = "", *, type_url: str = CLUSTER, verified: bool = True) -> Stored:
    body = f"{name} {content}".encode()
    return Stored(Resource(type_url=type_url, name=name, version=content or "1", body=body), verified)


def bodies(folder: Path) -> list[Path]:
    return [path for path in (folder / "bodies").rglob("*") if path.is_file()]


def test_what_is_saved_is_loaded_by_another_process(tmp_path: Path) -> None:
    saved = [item("a"), item("a", "2", verified=False), item("a", type_url=ENDPOINT)]
    Store(tmp_path).save("web", saved)
    loaded = Store(tmp_path).load("web")
    assert loaded == saved
    assert [stored.resource.body for stored in loaded] == [stored.resource.body for stored in saved]


def test_nothing_is_loaded_of_whom_nothing_was_saved(tmp_path: Path) -> None:
    assert Store(tmp_path).load("web") == []


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "proxies"
    Store(folder).save("web", [item("a")])
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_sidecars_share_bodies_on_disk_and_in_memory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("web", [item("a")])
    store.save("api", [item("a")])
    assert len(bodies(tmp_path)) == 1
    assert store.load("web")[0].resource is store.load("api")[0].resource is not None
    mine = item("a").resource
    assert store.share(mine) is store.share(item("a").resource)


def test_one_name_and_version_with_two_bodies_is_two_resources(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.share(Resource(type_url=CLUSTER, name="a", version="1", body=b"x"))
    second = store.share(Resource(type_url=CLUSTER, name="a", version="1", body=b"y"))
    assert (first.body, second.body) == (b"x", b"y")


def test_a_body_that_comes_back_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for items in ([item("a")], [], [item("a")]):
        store.save("web", items)
    assert len(Store(tmp_path).load("web")) == 1


def test_bodies_that_nobody_uses_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("web", [item("a"), item("b")])
    store.save("api", [item("b")])
    store.save("web", [item("c")])
    assert len(bodies(tmp_path)) == 2
    store.forget("web")
    assert len(bodies(tmp_path)) == 1
    assert store.sidecars() == ["api"]
    assert [stored.resource.name for stored in store.load("api")] == ["b"]


def test_what_a_crash_left_behind_goes(tmp_path: Path) -> None:
    Store(tmp_path).save("web", [item("a")])
    stray = tmp_path / "bodies" / "ab" / "abcd"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"half")
    fresh = Store(tmp_path)
    fresh.save("api", [item("b")])
    assert not stray.exists()
    assert [stored.resource.name for stored in fresh.load("web")] == ["a"]


def test_a_damaged_body_is_not_served_and_is_mended_by_the_next_save(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("web", [item("a"), item("b")])
    (next(path for path in bodies(tmp_path) if path.read_bytes() == b"a ")).write_bytes(b"")
    fresh = Store(tmp_path)
    assert [stored.resource.name for stored in fresh.load("web")] == ["b"]
    fresh.save("web", [item("a"), item("b")])
    assert len(Store(tmp_path).load("web")) == 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 1, "content": {"resources": [1]}}']
)
def test_a_damaged_manifest_is_no_copy(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    store.save("web", [item("a")])
    (tmp_path / "manifests" / "web.json").write_bytes(content)
    assert store.load("web") == []
    store.save("web", [item("a")])
    assert len(store.load("web")) == 1


def test_what_a_newer_version_wrote_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("web", [item("a")])
    manifest = tmp_path / "manifests" / "web.json"
    manifest.write_text(json.dumps({"schema": SCHEMA + 1, "content": {}}))
    with pytest.raises(StateError, match="newer"):
        store.load("web")


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(StateError):
            Store(tmp_path).save(name, [])
