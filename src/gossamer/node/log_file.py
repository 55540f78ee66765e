"""Log files of children, kept from growing without end.

The writers hold the files open for appending and are never asked to reopen them, so a full file is copied and cut; the
few lines written between the two are lost. Invariant: never more than `keep` + 1 files of about `limit` bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

LIMIT = 10 << 20


def rotate_log(path: Path, *, limit: int = LIMIT, keep: int = 2) -> bool:
    """Cut the file if it is larger than `limit` bytes, its content moving to `.1`; returns whether it was."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size <= limit:
            return False
        for number in range(keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                _numbered(path, number).replace(_numbered(path, number + 1))
        shutil.copyfile(path, _numbered(path, 1))
        _numbered(path, 1).chmod(0o600)
        os.truncate(path, 0)
        return True
    return False


def read_tail(path: Path, *, size: int = 4096) -> str:
    """The last whole lines of a log, at most `size` bytes; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            start = max(0, file.tell() - size)
            file.seek(start)
            text = file.read(size).decode(errors="replace")
    except FileNotFoundError:
        return ""
    return text.partition("\n")[2] if start else text


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
