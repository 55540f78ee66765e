"""What commands read: files of configuration, labels, a MeshConfig.

Invariant: what cannot be read is a UsageError that names it; nothing given is passed over in silence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from gossamer.api.config import Config
from gossamer.api.load import Loaded, SourceFile, load
from gossamer.api.profile import Profile, profile_texts
from gossamer.api.source_index import placed
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.errors import UsageError
from gossamer.core.memo import Memo
from gossamer.model.checks import check_resources
from gossamer.sources.files import SUFFIXES, FileSource

STDIN: Final = "<stdin>"

FileOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="A file or folder of YAML or JSON, or - for standard input; may be repeated.",
    ),
]
MoreFiles = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="The same as -f.", show_default=False)
]
MeshConfigOption = Annotated[
    Path | None, typer.Option("--mesh-config", metavar="FILE", help="A bare MeshConfig for the whole mesh.")
]


ProfileOption = Annotated[
    Profile, typer.Option("--profile", help="Configuration that lies under what is given: nist.", show_default=False)
]


def given_files(*groups: list[Path] | None) -> list[Path]:
    """All files that a command was given. UsageError for none."""
    found = [path for group in groups for path in group or ()]
    if not found:
        raise UsageError("which files? give -f FILE or -f FOLDER (or - for standard input)")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The configuration of one run: the texts by file, what they say, and what is wrong with either."""

    texts: dict[str, str]
    loaded: Loaded
    diagnostics: Diagnostics


def load_inputs(
    paths: Sequence[Path],
    mesh_config: Path | None = None,
    memo: Memo | None = None,
    *,
    key: str = "",
    profile: Profile = Profile.NONE,
) -> Inputs:
    """Read and load files, folders (every .yaml, .yml and .json in and below them) and `-` for standard input.

    `mesh_config` is a file with a MeshConfig, by itself or under `key`; `profile` lies under all that is read.
    """
    texts: dict[str, str] = {}
    if Path("-") in paths:
        texts[STDIN] = sys.stdin.read()
    on_disk = [path for path in paths if path != Path("-")]
    found = FileSource(on_disk).read()
    texts |= found.texts
    for folder in (path for path in on_disk if path.is_dir()):
        if not any(Path(name).is_relative_to(folder) for name in (*texts, *_files(found.diagnostics))):
            raise UsageError(f"there is no file in {folder} whose name ends in {', '.join(SUFFIXES)}")
    mesh = _mesh_config(mesh_config)
    sources = [SourceFile(name=name, text=text) for name, text in texts.items() if not mesh or name != mesh.name]
    memo = memo or Memo()
    loaded = load(sources, mesh_config=mesh, mesh_config_key=key, profile=profile, memo=memo)
    checked = _checked(loaded, memo)
    if mesh:
        texts[mesh.name] = mesh.text
    texts |= profile_texts(profile, loaded.config.mesh.root_namespace)
    return Inputs(texts=texts, loaded=loaded, diagnostics=(*found.diagnostics, *loaded.diagnostics, *checked))


def patches_envoy(config: Config) -> bool:
    """Whether a configuration holds what only Envoy's own types and Envoy itself can judge."""
    return bool(config.envoy_filters or config.wasm_plugins or config.traffic_extensions)


def _checked(loaded: Loaded, memo: Memo) -> Diagnostics:
    found = check_resources(loaded.config, memo)
    if patches_envoy(loaded.config):
        # few need them, and Envoy's types take long to import
        from gossamer.compile.check import check_config  # noqa: PLC0415

        found = (*found, *check_config(loaded.config, memo))
    return placed(found, loaded.index)


def _files(diagnostics: Diagnostics) -> list[str]:
    return [diagnostic.position.file for diagnostic in diagnostics]


def _mesh_config(path: Path | None) -> SourceFile | None:
    if path is None:
        return None
    try:
        return SourceFile(name=str(path), text=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--mesh-config {path} cannot be read: {error}") from error


def load_labels(text: str) -> dict[str, str]:
    """`app=reviews,version=v1` as a map. UsageError for anything else."""
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UsageError(f"{part!r} is no label: write name=value, and several with commas between them")
        labels[name.strip()] = value.strip()
    return labels
