"""Files that hold keys and grants: written whole or not at all, for their owner's eyes alone.

After a return from here a crash loses nothing: content and name are both on disk.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.core.errors import StateError


def private_folder(path: Path) -> Path:
    """Make the folder (and its parents) if missing, mode 0700, and return it. StateError if it is another user's."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise StateError(f"{path} belongs to another user (uid {status.st_uid}); choose another folder")
        if status.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise StateError(f"cannot use the folder {path}: {error.strerror}") from error
    return path


def write_private(path: Path, content: bytes) -> None:
    """Replace the file at once and durably, mode 0600. StateError if it cannot be written."""
    try:
        scratch = _scratch(path, content)
        try:
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error


def create_private(path: Path, content: bytes) -> bool:
    """Write the file, mode 0600, unless there is one; returns whether it was written. One of several writers wins."""
    try:
        scratch = _scratch(path, content)
        try:
            path.hardlink_to(scratch)
        except FileExistsError:
            return False
        finally:
            scratch.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from error
    return True


def dump_document(schema: int, content: Mapping[str, Any]) -> bytes:
    """A JSON object under its schema version, for `load_document`."""
    return json.dumps({"schema": schema, "content": content}, sort_keys=True).encode()


def load_document(path: Path, schema: int) -> dict[str, Any] | None:
    """The object kept in a file, or None if there is none. StateError if it is damaged or newer than `schema`."""
    try:
        document = json.loads(path.read_bytes())
        found, content = int(document["schema"]), dict(document["content"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} is damaged ({error}); move it away") from error
    if found > schema:
        raise StateError(f"{path} was written by a newer Gossamer (schema {found}; this one knows {schema}); run that")
    return content


def sync_folder(folder: Path) -> None:
    """Return when the names in the folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _scratch(path: Path, content: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)
