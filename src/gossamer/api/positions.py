"""Where in a document a field was written.

Invariant: every path has a place: a field that is not there has that of the nearest thing around it that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gossamer.api.common import json_name
from gossamer.api.reader import PARSER

Path = tuple[str | int, ...]
"""Keys and indexes from a document's root: `("spec", "http", 0, "timeout")`."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column (from 1) of a field's value and of its key; `path` has the keys as their author spelt them."""

    path: Path
    line: int
    column: int
    key_line: int
    key_column: int


def path_text(path: Path) -> str:
    """As people write it: `spec.http[0].route[1].weight`, `metadata.labels["app.kubernetes.io/name"]`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN_KEY.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f'["{step}"]')
    return "".join(parts)


def find_places(text: str, paths: Iterable[Path]) -> Mapping[Path, Place]:
    """The place of each path in the readable document `text`. Keys match in camelCase as in snake_case."""
    wanted = list(paths)
    seeker = _Seeker(wanted)
    seeker.run(text)
    return {path: seeker.best(path) for path in wanted}


def _normal(path: Path) -> Path:
    return tuple(json_name(step) if isinstance(step, str) else step for step in path)


class _Frame:
    __slots__ = ("key", "key_mark", "mapping", "next_index", "path", "spelt")

    def __init__(self, mapping: bool, path: Path | None, spelt: Path) -> None:
        self.mapping = mapping
        self.path = path
        self.spelt = spelt
        self.key: str | None = None
        self.key_mark: tuple[int, int] = (0, 0)
        self.next_index = 0


class _Seeker:
    """Walks the events and notes every node whose path is a beginning of a wanted one."""

    def __init__(self, wanted: Iterable[Path]) -> None:
        self.prefixes = {
            normal[:length] for path in wanted for normal in (_normal(path),) for length in range(len(path) + 1)
        }
        self.found: dict[Path, Place] = {}
        self.frames: list[_Frame] = []

    def run(self, text: str) -> None:
        events: Iterator[Any] = yaml.parse(text, Loader=PARSER)
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent or kind is yaml.AliasEvent:
                frame = self.frames[-1] if self.frames else None
                if frame and frame.mapping and frame.key is None:
                    frame.key = event.value if kind is yaml.ScalarEvent else event.anchor
                    frame.key_mark = (event.start_mark.line + 1, event.start_mark.column + 1)
                else:
                    self._node(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                path, spelt = self._node(event)
                self.frames.append(_Frame(kind is yaml.MappingStartEvent, path, spelt))
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self.frames.pop()

    def _node(self, event: Any) -> tuple[Path | None, Path]:
        """Note a node; returns its path, None when nothing below it is wanted."""
        mark = (event.start_mark.line + 1, event.start_mark.column + 1)
        if not self.frames:
            self.found[()] = Place((), *mark, *mark)
            return (), ()
        frame = self.frames[-1]
        step: str | int = frame.next_index
        key_mark = mark
        if frame.mapping:
            step, key_mark, frame.key = frame.key or "", frame.key_mark, None
        frame.next_index += 1
        if frame.path is None:
            return None, ()
        path = (*frame.path, json_name(step) if isinstance(step, str) else step)
        if path not in self.prefixes:
            return None, ()
        spelt = (*frame.spelt, step)
        place = mark if type(event) is yaml.ScalarEvent and event.value else key_mark
        self.found.setdefault(path, Place(spelt, *place, *key_mark))
        return path, spelt

    def best(self, path: Path) -> Place:
        normal = _normal(path)
        for length in range(len(path), -1, -1):
            place = self.found.get(normal[:length])
            if place:
                if length < len(path):
                    return Place(
                        (*place.path, *path[length:]),
                        place.key_line,
                        place.key_column,
                        place.key_line,
                        place.key_column,
                    )
                return place
        return Place(path, 1, 1, 1, 1)
