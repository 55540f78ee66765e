"""Where each resource was written: for people who read, never for what is compiled.

Invariant: it is no part of a Config, so moving a line changes nothing but this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from gossamer.api.positions import Path, find_places
from gossamer.api.reader import UnreadableError, read_value
from gossamer.core.diagnostics import Diagnostics, Position
from gossamer.core.ids import ResourceId


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """Where a resource begins (`line`, from 1; 0 when its document is no longer there), and its document: the text,
    the number of lines before it in the file, and the path of the resource in it."""

    file: str
    line: int
    text: str = ""
    offset: int = 0
    path: Path = ()


_STEP: Final = re.compile(r'\.?([^.\[\]"]+)|\[(\d+)\]|\["([^"]*)"\]')


def parse_path(text: str) -> Path:
    """The inverse of `path_text`, as far as the text goes."""
    steps: list[str | int] = []
    at = 0
    while found := _STEP.match(text, at):
        steps.append(int(found[2][:9]) if found[2] else found[1] if found[1] is not None else found[3])
        at = found.end()
    return tuple(steps)


class SourceIndex(Mapping[ResourceId, Written]):
    """The place of every resource by id, and of every field when asked."""

    __slots__ = ("_written",)

    def __init__(self, written: Mapping[ResourceId, Written]) -> None:
        self._written = written

    def __getitem__(self, resource: ResourceId) -> Written:
        return self._written[resource]

    def __iter__(self) -> Iterator[ResourceId]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)

    def position(self, resource: ResourceId, rule: str = "") -> Position:
        """The place of a resource, or of a field of it (`spec.http[0]`); an empty Position when it is unknown."""
        written = self._written.get(resource)
        if written is None:
            return Position()
        if not rule or not written.text:
            return Position(file=written.file, line=written.line, column=1 if written.line else 0)
        path = written.path + parse_path(rule)
        try:
            read_value(written.text)
            place = find_places(written.text, [path])[path]
        except UnreadableError:
            return Position(file=written.file, line=written.line, column=1)
        return Position(file=written.file, line=written.offset + place.key_line, column=place.key_column)


def placed(diagnostics: Diagnostics, index: SourceIndex) -> Diagnostics:
    """The diagnostics with file, line and column."""
    return tuple(
        diagnostic
        if diagnostic.position.file
        else replace(diagnostic, position=index.position(diagnostic.resource, diagnostic.path))
        for diagnostic in diagnostics
    )
