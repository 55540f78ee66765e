"""What is remembered of configuration that was good, so that a mistake takes nothing away.

It holds documents as they were written, by the file they came from: whoever has the same memory and the same files
computes the same Config. Secrets are among them, so whoever stores it keeps it as private as a key.

Invariant: of each resource that was in use after a load, the document that gave it is here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gossamer.core.errors import StateError
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A resource and the text of the document that gave it."""

    id: ResourceId
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """By file, what it last gave; `mesh_config` is the text of the last valid MeshConfig, None when there was none.
    `whole`: there was a time when every document could be read, so nothing that ever was in force is missing here."""

    files: FrozenMap[str, tuple[Held, ...]] = field(default_factory=FrozenMap)
    mesh_config: str | None = None
    whole: bool = False

    def by_id(self) -> Mapping[ResourceId, Held]:
        """Every resource that is held."""
        return {held.id: held for records in self.files.values() for held in records}

    def to_bytes(self) -> bytes:
        """For disk; equal memories give equal bytes. It may hold secrets."""
        texts: dict[str, int] = {}
        files = {
            name: [
                [held.id.kind, held.id.namespace, held.id.name, texts.setdefault(held.text, len(texts))]
                for held in self.files[name]
            ]
            for name in sorted(self.files)
        }
        content = {
            "version": VERSION,
            "meshConfig": self.mesh_config,
            "whole": self.whole,
            "files": files,
            "texts": list(texts),
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    @classmethod
    def from_bytes(cls, content: bytes) -> LastGood:
        """What `to_bytes` wrote. Raises StateError when it is damaged or of a later version."""
        try:
            raw: Any = json.loads(content.decode("utf-8", "surrogatepass"))
            if raw["version"] != VERSION:
                raise StateError(f"the last good configuration has version {raw['version']}, not {VERSION}")
            texts = raw["texts"]
            files = {
                name: tuple(
                    Held(id=ResourceId(kind=kind, namespace=namespace, name=resource), text=texts[index])
                    for kind, namespace, resource, index in records
                )
                for name, records in raw["files"].items()
            }
            return cls(files=FrozenMap(files), mesh_config=raw["meshConfig"], whole=bool(raw["whole"]))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise StateError(f"the last good configuration is damaged: {error}") from error
