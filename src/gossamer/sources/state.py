"""Where a mesh keeps its state on a host, and how files are written there.

Two folders: state (keys, last good configuration, registrations; survives) and runtime (sockets; short paths, because
a UNIX socket's path holds 108 bytes). Everything in both belongs to one user: folders 0700, files 0600. A state file
carries the version of its schema: an older one is migrated by its reader, a newer one is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gossamer.core.errors import StateError

VARIABLE = "GOSSAMER_STATE"
_STATE = "state"
"""In a runtime folder: the path of the state folder that it belongs to."""


def state_folder(override: Path | None = None) -> Path:
    """The state folder, made if missing: `override`, `$GOSSAMER_STATE`, the XDG state folder, /var/lib for root."""
    if override is not None:
        chosen = override
    elif named := os.environ.get(VARIABLE):
        chosen = Path(named)
    else:
        chosen = _default_state()
    return private_folder(chosen.absolute())


def runtime_folder(state: Path) -> Path:
    """The folder of this mesh's sockets, made if missing; its name follows from the state folder's."""
    _forget_removed()
    mesh = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]
    folder = private_folder(private_folder(_runtime_base()) / mesh)
    if not (folder / _STATE).exists():
        write_private(folder / _STATE, str(state.resolve()).encode())
    return folder


def runtime_folders() -> list[Path]:
    """The runtime folders of all meshes that this user has had on this host since it started."""
    base = _runtime_base()
    return sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []


def _forget_removed() -> None:
    """Remove the runtime folders of meshes whose state somebody has removed: nothing can run there any more."""
    for folder in runtime_folders():
        with suppress(OSError):
            if not Path((folder / _STATE).read_text(encoding="utf-8")).exists():
                shutil.rmtree(folder)


def private_places() -> tuple[Path, ...]:
    """Where this user's meshes keep sockets and state: no places for an application to look into."""
    places = [_runtime_base(), _default_state()]
    places += [
        Path(file.read_text(encoding="utf-8")) for folder in runtime_folders() if (file := folder / _STATE).is_file()
    ]
    return tuple(dict.fromkeys(path for path in places if path.is_dir()))


def _runtime_base() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base is None or not os.access(base, os.W_OK):
        base = "/run" if os.geteuid() == 0 and os.access("/run", os.W_OK) else tempfile.gettempdir()
    return Path(base) / f"gossamer-{os.geteuid()}"


def _default_state() -> Path:
    if os.geteuid() == 0 and "XDG_STATE_HOME" not in os.environ:
        return Path("/var/lib/gossamer")
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "gossamer"


def private_folder(path: Path) -> Path:
    """Make the folder if missing, mode 0700, and return it. StateError if it is another user's, or open to others.

    A folder that is there already keeps its mode: what we put into it is private by itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat() if not path.is_symlink() else path.stat()
    except OSError as error:
        raise StateError(f"cannot use the folder {path}: {error.strerror}; set {VARIABLE}") from error
    if status.st_uid != os.geteuid():
        raise StateError(f"{path} belongs to another user (uid {status.st_uid}); choose another folder")
    if status.st_mode & 0o022:
        raise StateError(f"others may write to {path}; choose a folder that is yours alone, or chmod it")
    return path


@contextmanager
def lock(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock `what` of a folder. StateError, naming the holder, if another process has it."""
    path = folder / f"{what}.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StateError(
                f"another {what} (process {holder}) uses {folder}; stop it, or name another folder by {VARIABLE}"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_private(path: Path, content: bytes) -> None:
    """Replace the file at once and durably, mode 0600."""
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def save_document(path: Path, schema: int, content: Any) -> None:
    """Keep a JSON value under its schema version."""
    write_private(path, json.dumps({"schema": schema, "content": content}, sort_keys=True).encode())


def load_document(path: Path, schema: int) -> tuple[int, Any] | None:
    """The schema version and value kept, or None if there is none. StateError if damaged or newer than `schema`."""
    try:
        document = json.loads(path.read_bytes())
        found = int(document["schema"])
        content = document["content"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} is damaged ({error}); move it away to start without it") from error
    if found > schema:
        raise StateError(
            f"{path} was written by a newer Gossamer (schema {found}, this one knows {schema}); "
            "run that version, or move the file away"
        )
    return found, content
