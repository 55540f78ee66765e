"""Files to Config: pure, total, and as cheap as what changed.

What a document says depends on its text alone and is remembered (`memo`); what is done here for every document at
every load is little more than putting it in its place.

Rules: a resource of several files belongs to the first by name. One that is not valid keeps its last valid version,
unless it is a security resource, which denies what it selects. A document that cannot be read freezes what its file
last gave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter
from typing import Any

from gossamer.api.config import Config
from gossamer.api.document import Entry, read_document
from gossamer.api.last_good import Held, LastGood
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.mesh_document import read_mesh_config
from gossamer.api.profile import Profile, profile_name, profile_text
from gossamer.api.reader import split_documents
from gossamer.api.resource import Resource
from gossamer.api.source_index import SourceIndex, Written
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Position, Severity
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file as it is named to people, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`unread` names the files with a document that cannot be read. As long as there was never a load without any
    (`ready` is false), what they were to say, a policy perhaps, may be missing from `config`: a control plane waits."""

    config: Config
    last_good: LastGood
    diagnostics: Diagnostics
    index: SourceIndex
    unread: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return self.last_good.whole

    @property
    def has_errors(self) -> bool:
        return any(diagnostic.is_error for diagnostic in self.diagnostics)


def load(
    files: Iterable[SourceFile],
    last_good: LastGood | None = None,
    *,
    mesh_config: SourceFile | None = None,
    mesh_config_key: str = "",
    profile: Profile = Profile.NONE,
    memo: Memo | None = None,
) -> Loaded:
    """What the files say together, in whatever order they come. Never raises for what a user wrote.

    `last_good` is what the load before returned. Pass the same `memo` each time: a load then costs what changed.
    `mesh_config` is a file that holds a MeshConfig, by itself or under `mesh_config_key`. `profile` lies under all.
    """
    gathering = _Gathering(last_good or LastGood(), memo or Memo(), profile)
    for file in sorted(files, key=attrgetter("name")):
        gathering.add(file)
    gathering.restore()
    mesh, mesh_text = gathering.mesh(mesh_config, mesh_config_key)
    gathering.lay_under(mesh.root_namespace)
    attributes: dict[str, Any] = {
        attribute: tuple([resource for _, resource in sorted(found, key=_PLACE)])
        for attribute, found in gathering.resources.items()
    }
    return Loaded(
        config=Config(mesh=mesh, **attributes),
        last_good=gathering.remembered(mesh_text),
        diagnostics=tuple(gathering.diagnostics),
        index=SourceIndex(gathering.written),
        unread=tuple(gathering.unread),
    )


_PLACE = itemgetter(0)
_Placed = tuple[tuple[str, str, str], Resource[Any]]
"""A resource behind the key that it is sorted by, which is made once and not at every load."""


def _placed(resource: Resource[Any]) -> _Placed:
    return (resource.id.namespace, resource.id.name, resource.id.kind), resource


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _FileReading:
    """What one file says, put so that a load has little left to do. `plain`: every resource in it is used as it
    stands, and no id is there twice."""

    entries: tuple[tuple[Entry, Written], ...]
    diagnostics: Diagnostics
    unreadable: bool
    plain: bool
    written: Mapping[ResourceId, Written]
    resources: tuple[tuple[str, tuple[_Placed, ...]], ...]
    held: tuple[Held, ...]


def _read_file(file: SourceFile, memo: Memo) -> _FileReading:
    documents = [(memo(read_document, chunk.text), chunk) for chunk in split_documents(file.text)]
    entries = tuple(
        (
            entry,
            Written(file=file.name, line=chunk.line + entry.line, text=chunk.text, offset=chunk.line, path=entry.path),
        )
        for reading, chunk in documents
        for entry in reading.entries
    )
    by_attribute: dict[str, list[_Placed]] = {}
    for entry, _ in entries:
        if entry.resource is not None:
            by_attribute.setdefault(entry.attribute, []).append(_placed(entry.resource))
    written = {entry.id: place for entry, place in entries}
    return _FileReading(
        entries=entries,
        diagnostics=tuple(
            _in_file(diagnostic, file.name, chunk.line)
            for reading, chunk in documents
            for diagnostic in reading.diagnostics
        ),
        unreadable=any(reading.unreadable for reading, _ in documents),
        plain=len(written) == len(entries) == sum(len(found) for found in by_attribute.values()),
        written=written,
        resources=tuple((attribute, tuple(found)) for attribute, found in by_attribute.items()),
        held=tuple(Held(id=entry.id, text=place.text) for entry, place in entries),
    )


def _in_file(diagnostic: Diagnostic, file: str, lines: int) -> Diagnostic:
    place = diagnostic.position
    line = place.line + lines if place.line else 0
    return replace(diagnostic, position=Position(file=file, line=line, column=place.column))


class _Gathering:
    """A load under way."""

    def __init__(self, last_good: LastGood, memo: Memo, profile: Profile) -> None:
        self.last_good = last_good
        self.memo = memo
        self.profile = profile
        self.resources: defaultdict[str, list[_Placed]] = defaultdict(list)
        self.diagnostics: list[Diagnostic] = []
        self.written: dict[ResourceId, Written] = {}
        self.held: dict[str, tuple[Held, ...]] = {}
        self.unread: list[str] = []
        self._by_id: Mapping[ResourceId, Held] | None = None

    def add(self, file: SourceFile) -> None:
        """Take in one file; files come in the order of their names."""
        reading = self.memo.keep(file.name, _read_file, file, self.memo)
        self.diagnostics.extend(reading.diagnostics)
        if reading.unreadable:
            self.unread.append(file.name)
        if reading.plain and self.written.keys().isdisjoint(reading.written):
            self.written.update(reading.written)
            for attribute, found in reading.resources:
                self.resources[attribute].extend(found)
            self.held[file.name] = reading.held
        else:
            held = (self._add_entry(entry, place) for entry, place in reading.entries)
            self.held[file.name] = tuple(filter(None, held))

    def _add_entry(self, entry: Entry, place: Written) -> Held | None:
        """Take in one resource; returns what is to be remembered of it."""
        first = self.written.get(entry.id)
        if first is not None:
            self._say_duplicate(entry.id, place, first)
            return None
        self.written[entry.id] = place
        if entry.resource is not None:
            self._put(entry.attribute, entry.resource)
            return Held(id=entry.id, text=place.text)
        held = self._last_good_of(entry.id)
        if held is None or not self._put_held(held):
            return None
        message = "as long as this is not resolved, the last valid version stays in use"
        self._say(
            Severity.INFO, "last-valid-version", message, entry.id, Position(file=place.file, line=place.line, column=1)
        )
        return held

    def restore(self) -> None:
        """Give back to files with an unreadable document what they last gave, after all files have had their say."""
        for name in self.unread:
            records = self.last_good.files.get(name, ())
            kept = tuple(held for held in records if held.id not in self.written and self._put_held(held))
            if kept:
                self.written.update({held.id: Written(file=name, line=0) for held in kept})
                self.held[name] += kept
                message = (
                    f"a document of {name} cannot be read; {len(kept)} of the resources that it last gave stay in use"
                )
                self._say(Severity.WARNING, "last-valid-version", message, None, Position(file=name))

    def lay_under(self, root_namespace: str) -> None:
        """Give the profile's resources, each unless the files have one of its kind, namespace and name."""
        name = profile_name(self.profile)
        file = SourceFile(name=name, text=profile_text(self.profile, root_namespace))
        reading = self.memo.keep(name, _read_file, file, self.memo)
        for entry, place in reading.entries:
            first = self.written.setdefault(entry.id, place)
            if first is place and entry.resource is not None:
                self._put(entry.attribute, entry.resource)
            elif first is not place:
                message = f"this stands in the place of what {name} has under the same name"
                where = Position(file=first.file, line=first.line, column=1 if first.line else 0)
                self._say(Severity.INFO, "profile-replaced", message, entry.id, where)

    def mesh(self, file: SourceFile | None, key: str) -> tuple[MeshConfig, str | None]:
        """The MeshConfig in use, and the text that gives it."""
        default = self.memo(read_mesh_config, "", "", self.profile).mesh or MeshConfig()
        if file is None:
            return default, None
        reading = self.memo.keep(file.name, read_mesh_config, file.text, key, self.profile)
        self.diagnostics.extend(_in_file(diagnostic, file.name, 0) for diagnostic in reading.diagnostics)
        if reading.mesh is not None:
            return reading.mesh, reading.source
        text = self.last_good.mesh_config
        earlier = self.memo(read_mesh_config, text, "", self.profile).mesh if text is not None else None
        if earlier is None:
            self.unread.append(file.name)
            return default, None
        return earlier, text

    def remembered(self, mesh_text: str | None) -> LastGood:
        whole = self.last_good.whole or not self.unread
        return LastGood(files=FrozenMap(self.held), mesh_config=mesh_text, whole=whole)

    def _put(self, attribute: str, resource: Resource[Any]) -> None:
        self.resources[attribute].append(_placed(resource))

    def _put_held(self, held: Held) -> bool:
        """Use the remembered version of a resource; returns whether there is one."""
        for entry in self.memo(read_document, held.text).entries:
            if entry.id == held.id and entry.resource is not None:
                self._put(entry.attribute, entry.resource)
                return True
        return False

    def _last_good_of(self, resource: ResourceId) -> Held | None:
        if self._by_id is None:
            self._by_id = self.last_good.by_id()
        return self._by_id.get(resource)

    def _say_duplicate(self, resource: ResourceId, place: Written, first: Written) -> None:
        message = f"{resource} is already defined at {first.file}:{first.line}; this one is not used"
        where = Position(file=place.file, line=place.line, column=1)
        self._say(Severity.ERROR, "duplicate-resource", message, resource, where)

    def _say(self, severity: Severity, code: str, message: str, resource: ResourceId | None, where: Position) -> None:
        self.diagnostics.append(
            Diagnostic(
                severity=severity,
                code=code,
                message=message,
                kind=resource.kind if resource else "",
                namespace=resource.namespace if resource else "",
                name=resource.name if resource else "",
                position=where,
            )
        )
