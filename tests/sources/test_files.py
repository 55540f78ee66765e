from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gossamer.core.errors import StateError, UsageError
from gossamer.sources.files import FileSource
from gossamer.sources.state import load_document, lock, private_folder, save_document


def test_reads_yaml_below_a_folder_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    (tmp_path / ".b.yaml").write_text("b: 1")
    (tmp_path / "notes.txt").write_text("no")
    nested = tmp_path / "team" / "deep"
    nested.mkdir(parents=True)
    (nested / "c.yml").write_text("c: 1")
    files = FileSource([tmp_path]).latest.value
    assert files.texts == {str(tmp_path / "a.yaml"): "a: 1", str(nested / "c.yml"): "c: 1"}


def test_only_a_difference_is_published(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    source = FileSource([tmp_path])
    assert not source.refresh()
    (tmp_path / ".scratch").write_text("a: 1")
    (tmp_path / ".scratch").rename(file)
    assert not source.refresh(), "the same content under a new time stamp"
    file.write_text("a: 2")
    assert source.refresh()
    file.unlink()
    assert source.refresh()
    assert not source.latest.value.texts


def test_an_unreadable_file_keeps_its_text_and_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    source = FileSource([tmp_path])
    file.write_bytes(b"\xff\xfe")
    assert source.refresh()
    assert source.latest.value.texts == {str(file): "a: 1"}
    [diagnostic] = source.latest.value.diagnostics
    assert diagnostic.code == "unreadable-file"
    assert diagnostic.position.file == str(file)


def test_a_folder_that_is_away_for_a_moment_takes_nothing_with_it(tmp_path: Path) -> None:
    config = tmp_path / "config"
    (config / "team").mkdir(parents=True)
    file = config / "team" / "a.yaml"
    file.write_text("a: 1")
    source = FileSource([config])
    config.rename(tmp_path / "old")
    assert source.refresh()
    assert source.latest.value.texts == {str(file): "a: 1"}
    [diagnostic] = source.latest.value.diagnostics
    assert diagnostic.position.file == str(config)
    (tmp_path / "old").rename(config)
    file.unlink()
    assert source.refresh()
    assert not source.latest.value.texts
    assert not source.latest.value.diagnostics


def test_a_file_root_is_watched_without_what_lies_beside_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "mesh.yaml"
        file.write_text("a: 1")
        source = FileSource([file])
        stop, seen = asyncio.Event(), asyncio.Event()
        source.latest.subscribe(lambda _: seen.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(source.watch(stop))
            await asyncio.sleep(0.2)
            file.write_text("a: 2")
            await asyncio.wait_for(seen.wait(), 10)
            stop.set()

    asyncio.run(scenario())


def test_a_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        FileSource([tmp_path / "nowhere"])


def test_a_change_on_disk_is_published_soon_even_in_a_new_folder(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = FileSource([tmp_path])
        stop, seen = asyncio.Event(), asyncio.Event()
        source.latest.subscribe(lambda files: seen.set() if len(files.texts) == 1 else None)
        async with asyncio.TaskGroup() as group:
            group.create_task(source.watch(stop))
            await asyncio.sleep(0.2)
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "a.yaml").write_text("a: 1")
            await asyncio.wait_for(seen.wait(), 10)
            stop.set()

    asyncio.run(scenario())


def test_a_state_document_from_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert load_document(path, 1) is None
    save_document(path, 1, {"a": [1]})
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_document(path, 2) == (1, {"a": [1]})
    save_document(path, 3, {})
    with pytest.raises(StateError, match="newer"):
        load_document(path, 2)
    path.write_text("{")
    with pytest.raises(StateError, match="damaged"):
        load_document(path, 2)


def test_one_lock_a_mesh(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "state")
    assert folder.stat().st_mode & 0o777 == 0o700
    with (
        lock(folder, "control plane"),
        pytest.raises(StateError, match="another control plane"),
        lock(folder, "control plane"),
    ):
        pass
    with lock(folder, "control plane"):
        pass
