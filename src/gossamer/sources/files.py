"""Configuration from files and folders, re-read as they change.

An event of the file system is only a hint to look again: every look compares size, inode and time stamp of all files
and reads those that differ, so a missed event costs one period and never a change. What is published is a plain value,
the text of every file; a file that cannot be read keeps the text that it last had and is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import watchfiles

from gossamer.core.diagnostics import Diagnostic, Diagnostics, Position, Severity
from gossamer.core.errors import UsageError
from gossamer.core.frozen import FrozenMap
from gossamer.core.latest import Latest

_LOG = logging.getLogger(__name__)
SUFFIXES = (".yaml", ".yml", ".json")
STEP_MS = 10
DEBOUNCE_MS = 20
RESCAN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The text of every configuration file by path, and which could not be read."""

    texts: FrozenMap[str, str]
    diagnostics: Diagnostics = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    stamp: tuple[int, int, int]
    text: str


class FileSource:
    """The files named, and all `.yaml`, `.yml` and `.json` files below the folders named (hidden ones left out)."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._seen: dict[str, _Seen] = {}
        self._held: dict[str, _Seen] = {}
        missing = [str(path) for path in self.paths if not path.exists()]
        if missing:
            raise UsageError(f"no such file or folder: {', '.join(missing)}")
        self.latest = Latest(self.read())

    def read(self) -> Files:
        """Look at every file now, reading those that changed since the last look.

        What cannot be looked at, a file, a folder or a whole root, keeps what it last gave and is reported.
        """
        seen: dict[str, _Seen] = {}
        problems: list[Diagnostic] = []
        self._held = {}
        for path in sorted(set(self._paths(problems))):
            try:
                seen[path] = self._look(path)
            except FileNotFoundError:
                continue  # gone between listing and reading: the next look will agree
            except (OSError, UnicodeDecodeError) as error:
                problems.append(_unreadable(path, error))
                if path in self._seen:
                    seen[path] = self._seen[path]
        self._seen = seen
        return Files(
            texts=FrozenMap({path: entry.text for path, entry in seen.items()}),
            diagnostics=tuple(problems),
        )

    def refresh(self) -> bool:
        """Look again and publish; returns whether anything differed."""
        return self.latest.publish(self.read())

    async def watch(self, stop: asyncio.Event) -> None:
        """Publish every change until `stop` is set."""
        folders = [path for path in self.paths if path.is_dir()]
        parents = {path.parent for path in self.paths if path not in folders}
        async with asyncio.TaskGroup() as group:
            if folders:
                group.create_task(self._watch(folders, stop, recursive=True))
            if parents:
                group.create_task(self._watch(sorted(parents), stop, recursive=False))

    async def _watch(self, roots: Sequence[Path], stop: asyncio.Event, *, recursive: bool) -> None:
        while not stop.is_set():
            try:
                async for _ in watchfiles.awatch(
                    *roots,
                    step=STEP_MS,
                    debounce=DEBOUNCE_MS,
                    rust_timeout=int(RESCAN_S * 1000),
                    yield_on_timeout=True,
                    stop_event=stop,
                    ignore_permission_denied=True,
                    recursive=recursive,
                    watch_filter=None,
                ):
                    self.refresh()
            except (OSError, RuntimeError) as error:  # no more watches to be had, or a root is away
                _LOG.warning("files-not-watched", extra={"reason": str(error)})
                self.refresh()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RESCAN_S):
                        await stop.wait()

    def _paths(self, problems: list[Diagnostic]) -> Iterator[str]:
        for path in self.paths:
            if path.is_dir():
                yield from self._below(str(path), problems)
            elif path.exists():
                yield str(path)
            else:  # a root that was there when we began: taken away, or about to be put in place again
                yield from self._kept(str(path), FileNotFoundError(2, "No such file or folder"), problems)

    def _below(self, folder: str, problems: list[Diagnostic]) -> Iterator[str]:
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            yield from self._kept(folder, error, problems)
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):  # a link to a folder above would never end
                yield from self._below(entry.path, problems)
            elif entry.name.endswith(SUFFIXES):
                yield entry.path

    def _kept(self, path: str, error: OSError, problems: list[Diagnostic]) -> Iterator[str]:
        """The files that were seen at or below a path that cannot be looked at."""
        problems.append(_unreadable(path, error))
        for known, entry in self._seen.items():
            if known == path or known.startswith(path.rstrip("/") + "/"):
                self._held[known] = entry
                yield known

    def _look(self, path: str) -> _Seen:
        if path in self._held:
            return self._held[path]
        status = os.stat(path)  # noqa: PTH116 - a thousand files a look: Path.stat costs three times as much
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._seen.get(path)
        if known is not None and known.stamp == stamp:
            return known
        text = Path(path).read_text(encoding="utf-8")
        if known is not None and known.text == text:
            text = known.text  # the same object: everything made from it is found by identity
        return _Seen(stamp=stamp, text=text)


def _unreadable(path: str, error: Exception) -> Diagnostic:
    why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error}"
    return Diagnostic(
        severity=Severity.ERROR,
        code="unreadable-file",
        message=f"{path} {why}; what it last held stays in force",
        position=Position(file=path),
        hint="make the file readable, or remove it",
    )
