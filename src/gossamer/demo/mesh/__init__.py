"""The example mesh: `gossamer.yaml`, the configuration that it names, and the edits of the tour.

Invariant: what ships is never edited. A mesh runs on a copy, and an edit of the tour, `tour/NAME/EDIT.yaml`, is a whole
new text for `config/NAME.yaml` of that copy, so that undoing it is writing the first text again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDER = Path(__file__).parent


def tour_edits() -> tuple[str, ...]:
    """The names of all edits, such as `reviews/canary-90-10`."""
    return tuple(sorted(f"{file.parent.name}/{file.stem}" for file in (FOLDER / "tour").glob("*/*.yaml")))


def write_mesh(folder: Path) -> Path:
    """Copy the example to `folder`, which is made if need be, and return the path of its `gossamer.yaml`."""
    # Contents alone: where the package is installed read-only, the copy must still be a person's to edit.
    shutil.copytree(FOLDER / "config", folder / "config", copy_function=shutil.copyfile, dirs_exist_ok=True)
    return Path(shutil.copyfile(FOLDER / "gossamer.yaml", folder / "gossamer.yaml"))


def apply_edit(folder: Path, edit: str) -> Path:
    """Make an edit of the tour in the copy at `folder`, at once and whole. Returns the path of the changed file."""
    text = (FOLDER / "tour" / f"{edit}.yaml").read_text(encoding="utf-8")
    return _replace(folder / "config" / f"{edit.partition('/')[0]}.yaml", text)


def undo_edit(folder: Path, edit: str) -> Path:
    """Give the file of `edit` its first text again, or remove it when the edit had added it. Returns its path."""
    name = f"{edit.partition('/')[0]}.yaml"
    changed = folder / "config" / name
    original = FOLDER / "config" / name
    if original.exists():
        return _replace(changed, original.read_text(encoding="utf-8"))
    changed.unlink(missing_ok=True)
    return changed


def _replace(file: Path, text: str) -> Path:
    # A watcher must never read half a file; a leading dot keeps it from reading the new one under its passing name.
    passing = file.with_name(f".{file.name}.new")
    passing.write_text(text, encoding="utf-8")
    passing.replace(file)
    return file
