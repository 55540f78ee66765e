"""YAML text to JSON-shaped values, by Kubernetes' rules.

A document is read by itself: a mistake in one says nothing about its neighbours in the file. Values carry no
positions, because hardly anyone asks; `positions` reads a document again for those who do.

Invariant: for every text there is either a value made of None, bool, int, float, str, list and dict with str keys, or
an UnreadableError with a place. Depth, and what aliases can multiply, are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gossamer.api.scalars import ScalarError, resolve_plain, resolve_tagged
from gossamer.api.yaml_words import explain

MAX_DEPTH: Final = 100
MAX_ALIASED_NODES: Final = 100_000
"""How many nodes aliases may add to a document: enough for any configuration, too few for a bomb."""

PARSER: Final[Any] = getattr(yaml.cyaml, "CParser") if yaml.__with_libyaml__ else yaml.SafeLoader  # noqa: B009  (unexported in its stubs)
_MARKER: Final = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_ONLY_DIRECTIVES: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n|%[^\n]*\n)*")
_YAML_DIRECTIVE: Final = re.compile(r"^%YAML\s+(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one document and the number of lines before it in its file."""

    text: str
    line: int


class UnreadableError(Exception):
    """Why a text is not a document; `line` and `column` count from 1 within it."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


def split_documents(text: str) -> tuple[Chunk, ...]:
    """The documents of a file, cut where a line starts with `---`; directives stay with the document they precede."""
    text = text.removeprefix("\ufeff")
    if "---" not in text:
        return (Chunk(text, 0),)
    chunks: list[Chunk] = []
    start, line = 0, 0
    for marker in _MARKER.finditer(text):
        if marker.start() == start or _ONLY_DIRECTIVES.fullmatch(text, start, marker.start()):
            continue
        chunks.append(Chunk(text[start : marker.start()], line))
        line += text.count("\n", start, marker.start())
        start = marker.start()
    chunks.append(Chunk(text[start:], line))
    return tuple(chunks)


def read_value(text: str) -> Any:
    """The value of one document, None when it is empty. Raises UnreadableError."""
    version = _YAML_DIRECTIVE.search(text) if "%YAML" in text else None
    if version and version[1] != "1.1":
        raise UnreadableError(f"YAML {version[1]} is not read by Kubernetes; leave the directive out")
    try:
        return _Builder().build(yaml.parse(text, Loader=PARSER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(filter(None, (error.context, error.problem))) or "invalid YAML"
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise UnreadableError(explain(message, _line(text, line)), line, column) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = error.position - before.rfind("\n")
        raise UnreadableError(f"{error.reason} (#x{error.character:04x})", before.count("\n") + 1, column) from None
    except UnicodeError:
        raise UnreadableError("the text is not valid Unicode") from None


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number - 1] if number <= len(lines) else ""


def _key_text(key: object) -> str:
    """A mapping's key as JSON writes it: numbers and booleans become strings."""
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return str(key)
    if isinstance(key, float):
        return str(int(key)) if key.is_integer() and abs(key) < 1e21 else repr(key)
    raise ScalarError("a key must be a string, a number or a boolean")


class _Frame:
    """A collection under construction: `into` is a dict or a list, `key` the key that waits for its value."""

    __slots__ = ("anchor", "first", "into", "key", "merges")

    def __init__(self, into: dict[str, Any] | list[Any], anchor: str | None, first: int) -> None:
        self.into = into
        self.anchor = anchor
        self.first = first
        self.key: str | None = None
        self.merges: list[Any] | None = None


_MERGE: Final = "<<"


class _Builder:
    """Folds the events of one document into a value."""

    __slots__ = ("aliased", "anchors", "document", "frames", "nodes")

    def __init__(self) -> None:
        self.frames: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0
        self.aliased = 0
        self.document: Any = None

    def build(self, events: Iterator[Any]) -> Any:
        documents = 0
        for event in events:
            kind = type(event)
            try:
                if kind is yaml.ScalarEvent:
                    self._scalar(event)
                elif kind is yaml.MappingStartEvent:
                    self._open({}, event)
                elif kind is yaml.SequenceStartEvent:
                    self._open([], event)
                elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                    self._close()
                elif kind is yaml.AliasEvent:
                    self._alias(event)
                elif kind is yaml.DocumentStartEvent:
                    documents += 1
                    if documents > 1:
                        raise ScalarError("a second document starts here; separate documents with ---")
            except ScalarError as error:
                mark = event.start_mark
                raise UnreadableError(str(error), mark.line + 1, mark.column + 1) from None
        return self.document

    def _scalar(self, event: Any) -> None:
        self.nodes += 1
        text = event.value
        plain = event.implicit[0]
        if plain and text == _MERGE and self._wants_key():
            self.frames[-1].key = _MERGE
            self.frames[-1].merges = self.frames[-1].merges or []
            return
        tag = event.tag
        value = resolve_plain(text) if plain else text if tag is None or tag == "!" else resolve_tagged(tag, text)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1)
        self._put(value, merge=False)

    def _wants_key(self) -> bool:
        return bool(self.frames) and type(self.frames[-1].into) is dict and self.frames[-1].key is None

    def _open(self, into: dict[str, Any] | list[Any], event: Any) -> None:
        if self._wants_key():
            raise ScalarError("a key must be a string, a number or a boolean")
        if len(self.frames) >= MAX_DEPTH:
            raise ScalarError(f"nested deeper than {MAX_DEPTH} levels")
        self.nodes += 1
        self.frames.append(_Frame(into, event.anchor, self.nodes))
        if event.anchor:
            self.anchors.pop(event.anchor, None)

    def _close(self) -> None:
        frame = self.frames.pop()
        if frame.merges:
            self._merge(frame)
        if frame.anchor:
            self.anchors[frame.anchor] = (frame.into, self.nodes - frame.first + 1)
        self._put(frame.into, merge=bool(self.frames) and self.frames[-1].key is _MERGE)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            raise ScalarError(f"*{event.anchor} refers to no finished anchor")
        value, size = self.anchors[event.anchor]
        self.nodes += size
        self.aliased += size
        if self.aliased > MAX_ALIASED_NODES:
            raise ScalarError(f"aliases add more than {MAX_ALIASED_NODES} nodes")
        self._put(value, merge=bool(self.frames) and self.frames[-1].key is _MERGE)

    def _put(self, value: Any, *, merge: bool) -> None:
        if not self.frames:
            self.document = value
            return
        frame = self.frames[-1]
        into = frame.into
        if type(into) is list:
            into.append(value)
        elif frame.key is None:
            key = value if type(value) is str else _key_text(value)
            if key in into:
                raise ScalarError(f"the key {key!r} is here twice")
            frame.key = key
        elif frame.key is _MERGE and frame.merges is not None:
            if not merge:
                raise ScalarError("<< takes a mapping, or a list of them")
            frame.merges.extend(value if type(value) is list else [value])
            frame.key = None
        else:
            into[frame.key] = value  # type: ignore[call-overload]
            frame.key = None

    def _merge(self, frame: _Frame) -> None:
        into = frame.into
        for merged in frame.merges or ():
            if type(merged) is not dict or type(into) is not dict:
                raise ScalarError("<< takes a mapping, or a list of them")
            for key, value in merged.items():
                if key in into:
                    raise ScalarError(f"the key {key!r} is here twice, once through <<")
                into[key] = value
