"""Every field does something or is spoken of: writing one that is called supported changes what somebody is told."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gossamer.api.kinds import KINDS
from tests.compile.every_field import Auditor, Row, read, rows

TOOL = Path(__file__).parents[2] / "tools" / "feature_table.py"
KUBERNETES = (("", "Service"), ("discovery.k8s.io", "EndpointSlice"), ("networking.k8s.io", "Ingress"))
"""Kinds that the table does not tell of, since they are not Istio's."""
ELSEWHERE = ("MeshConfig", "MeshNetworks")
"""What is no document of its own: its rows are tried, but need not be whole."""


def _table() -> ModuleType:
    found = importlib.util.spec_from_file_location("feature_table", TOOL)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["feature_table"] = module
    found.loader.exec_module(module)
    return module


def _supported() -> Iterator[tuple[str, str]]:
    table = _table()
    for row in table.rows():
        if row.status == "supported" and row.kind not in ELSEWHERE:
            yield row.kind, row.path
    for key in KUBERNETES:
        for row in table.fields_of(KINDS[key].identity, KINDS[key].spec, "", set()):
            yield row.kind, row.path


def _problem(auditor: Auditor, row: Row) -> str:
    without, changed = auditor.answers(row, row.without), auditor.answers(row, row.changed)
    if isinstance(without, str):
        return f"{row.label} is not valid before: {without}"
    if isinstance(changed, str):
        return f"{row.label} is not valid: {changed}"
    return f"{row.label} changes nothing" if without.shown() == changed.shown() else ""


@pytest.mark.parametrize("kind", sorted({row.kind.identity for row in rows()}))
def test_every_row_changes_what_somebody_is_told(kind: str) -> None:
    auditor = Auditor()
    problems = (_problem(auditor, row) for row in rows() if row.kind.identity == kind)
    assert list(filter(None, problems)) == []


def test_no_supported_field_is_without_a_row() -> None:
    tried = {(row.kind.identity, re.sub(r"\[\d+\]", "[]", row.path)) for row in rows()}
    known = tried | {(kind, path) for kind, reasons in read("excused.yaml").items() for path in reasons}
    untried = [
        f"{kind} {path}"
        for kind, path in _supported()
        if not any(of == kind and (one == path or one.startswith((f"{path}.", f"{path}["))) for of, one in known)
    ]
    assert untried == []


def test_nobody_is_excused_for_a_field_that_is_tried_or_is_none() -> None:
    tried = {(row.kind.identity, row.path) for row in rows()}
    fields = set(_supported())
    entries = {(kind, path) for kind, reasons in read("excused.yaml").items() for path in reasons}
    assert entries & tried == set()
    assert entries - fields == set()
