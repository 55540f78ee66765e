"""The last copy: what each sidecar of this host was told, on disk, for the day the control plane is away.

Bodies are files named by their hash, shared by all sidecars of the host; a manifest for each sidecar says which are its
own. The invariant: a manifest on disk names only bodies that were written before it, and a body that is not what its
name says is never served.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary, WeakValueDictionary

from gossamer.ca.files import dump_document, private_folder, write_private
from gossamer.core.errors import StateError
from gossamer.core.resources import Resource

SCHEMA = 1
_LOG = logging.getLogger(__name__)
_Row = tuple[str, str, str, str, bool]
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Stored:
    """A resource, and whether an Envoy of this sidecar has ever accepted it."""

    resource: Resource
    verified: bool


class Store:
    """One per host. Its methods write and read files: call them outside the event loop; they may run in any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._used: dict[str, frozenset[str]] | None = None
        self._folders: set[str] = set()
        self._written: set[str] = set()
        self._digests: WeakKeyDictionary[Resource, tuple[bytes, str]] = WeakKeyDictionary()
        self._shared: WeakValueDictionary[_Key, Resource] = WeakValueDictionary()

    def share(self, resource: Resource) -> Resource:
        """An equal resource, one object for all sidecars that hold it. Touches no file."""
        key = (resource.type_url, resource.name, resource.version)
        found = self._shared.get(key)
        if found is not None and found.body == resource.body:
            return found
        self._shared[key] = resource
        return resource

    def load(self, sidecar: str) -> list[Stored]:
        """What `save` kept, less what is damaged. StateError if a newer Gossamer wrote it."""
        with self._lock:
            found = []
            for type_url, name, version, digest, verified in self._rows(self._manifest(sidecar)):
                body = self._load_body(digest)
                if body is not None:
                    resource = Resource(type_url=type_url, name=name, version=version, body=body)
                    found.append(Stored(self.share(resource), verified))
            return found

    def save(self, sidecar: str, items: Iterable[Stored]) -> None:
        """Replace what is kept of a sidecar, at once. StateError if it cannot be written."""
        rows: list[_Row] = []
        with self._lock:
            for folder in (self._folder, self._folder / "manifests", self._folder / "bodies"):
                private_folder(folder)
            for item in items:
                resource = item.resource
                digest = self._digest(resource)
                self._save_body(digest, resource.body)
                rows.append((resource.type_url, resource.name, resource.version, digest, item.verified))
            write_private(self._manifest(sidecar), dump_document(SCHEMA, {"resources": rows}))
            self._replace_used(sidecar, frozenset(row[3] for row in rows))

    def forget(self, sidecar: str) -> None:
        """Keep nothing of a sidecar any more."""
        with self._lock:
            self._manifest(sidecar).unlink(missing_ok=True)
            self._replace_used(sidecar, frozenset())

    def sidecars(self) -> Sequence[str]:
        """Names of those of whom something is kept."""
        return sorted(path.stem for path in (self._folder / "manifests").glob("*.json"))

    def _manifest(self, sidecar: str) -> Path:
        if not sidecar or "/" in sidecar or sidecar.startswith("."):
            raise StateError(f"{sidecar!r} cannot be a file's name")
        return self._folder / "manifests" / f"{sidecar}.json"

    def _body(self, digest: str) -> Path:
        return self._folder / "bodies" / digest[:2] / digest

    def _rows(self, manifest: Path) -> list[_Row]:
        try:
            document = json.loads(manifest.read_bytes())
            if int(document["schema"]) > SCHEMA:
                raise StateError(f"{manifest} was written by a newer Gossamer; run that one, or move it away")
            return [(str(t), str(n), str(v), str(d), bool(ok)) for t, n, v, d, ok in document["content"]["resources"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            # It is a copy: the control plane has the original. Starting without it beats not starting.
            _LOG.warning("copy-damaged", extra={"file": str(manifest), "reason": str(error)})
            return []

    def _load_body(self, digest: str) -> bytes | None:
        path = self._body(digest)
        try:
            body = path.read_bytes()
        except OSError:
            body = b""
        if hashlib.sha256(body).hexdigest() == digest:
            return body
        _LOG.warning("copy-damaged", extra={"file": str(path), "reason": "it is not what its name says"})
        self._remove_body(digest)
        return None

    def _remove_body(self, digest: str) -> None:
        self._written.discard(digest)
        self._body(digest).unlink(missing_ok=True)

    def _digest(self, resource: Resource) -> str:
        body, digest = self._digests.get(resource, (b"", ""))
        if body is not resource.body or not digest:
            digest = hashlib.sha256(resource.body).hexdigest()
            self._digests[resource] = (resource.body, digest)
        return digest

    def _save_body(self, digest: str, body: bytes) -> None:
        path = self._body(digest)
        if digest in self._written or path.exists():
            self._written.add(digest)
            return
        if digest[:2] not in self._folders:
            private_folder(path.parent)
            self._folders.add(digest[:2])
        scratch = path.with_name(f".{digest}")
        # No fsync: after a crash of the machine a body that is not whole is noticed by its name, and fetched again.
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(body)
        scratch.replace(path)
        self._written.add(digest)

    def _replace_used(self, sidecar: str, digests: frozenset[str]) -> None:
        """Remove the bodies that only the manifest before this one used."""
        if self._used is None:
            self._used = self._collect(sidecar, digests)
            return
        before = self._used.get(sidecar, frozenset())
        self._used[sidecar] = digests
        for digest in before - digests:
            if not any(digest in used for used in self._used.values()):
                self._remove_body(digest)

    def _collect(self, sidecar: str, digests: frozenset[str]) -> dict[str, frozenset[str]]:
        """Read every manifest once, and remove bodies that none uses: what a crash left behind."""
        try:
            used = {name: frozenset(row[3] for row in self._rows(self._manifest(name))) for name in self.sidecars()}
        except StateError:  # a newer Gossamer's: what it needs is not known
            return {sidecar: digests}
        used[sidecar] = digests
        needed = frozenset().union(*used.values())
        for path in (self._folder / "bodies").glob("*/*"):
            if path.name not in needed:
                path.unlink(missing_ok=True)
        return used
