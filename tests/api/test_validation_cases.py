"""Resources of which it is known whether Istio takes them.

What this version does not support yet is refused although it is valid; nothing else is, and nothing invalid is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossamer.api.load import SourceFile, load
from gossamer.core.diagnostics import Diagnostic

Case = tuple[str, str, bool]


def _rows(folder: Path) -> Iterator[Case]:
    for row in json.loads((folder / "cases.json").read_text()):
        if not row.get("not_representable"):
            yield row["id"], json.dumps(row["resource"], indent=1), row["valid"]


def _documents(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*.yaml")):
        for index, document in enumerate(re.split(r"(?m)^---[ \t]*$", path.read_text())):
            if re.search(r"(?m)^kind:", document):
                text = re.sub(r"(?m)^_err:.*\n", "", document)
                yield f"{path.stem}[{index}]", text, text == document


def _errors(text: str) -> list[Diagnostic]:
    return [found for found in load([SourceFile(name="case.yaml", text=text)]).diagnostics if found.is_error]


@pytest.mark.parametrize("suite", ["validation", "crds", "dataset"])
def test_known_verdicts(cases: Path, suite: str) -> None:
    folder = cases / suite
    found = list(_rows(folder) if suite == "validation" else _documents(folder))
    assert len(found) > 30
    wrong = []
    for name, text, valid in found:
        errors = _errors(text)
        if valid and any(not error.code.startswith("unsupported-") for error in errors):
            wrong.append((name, "refused", errors))
        elif not valid and not errors:
            wrong.append((name, "taken", errors))
        assert all(error.position.line for error in errors)
    assert wrong == []


def test_the_upstream_bookinfo_is_taken_unchanged(cases: Path) -> None:
    files = [*(cases / "bookinfo" / "networking").glob("*.yaml"), *(cases / "bookinfo" / "platform").rglob("*.yaml")]
    assert len(files) > 15
    for path in files:
        loaded = load([SourceFile(name=path.name, text=path.read_text())])
        assert not loaded.has_errors, loaded.diagnostics


def test_benchmark_inputs_are_taken(cases: Path) -> None:
    for path in (cases / "benchmarks").glob("*.yaml"):
        loaded = load([SourceFile(name=path.name, text=path.read_text())])
        assert not [
            found
            for found in loaded.diagnostics
            if found.code not in ("unsupported-field", "unsupported-kind", "fails-closed", "denies-tcp")
        ]
