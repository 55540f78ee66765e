"""The page that says what becomes of each field is whole, true as far as a program can tell, and up to date."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "feature_table.py"
FIELDS = ROOT / "tools" / "istio_fields.txt"
ROOMS = ("model", "compile", "simulate", "sources", "plane", "node", "cli")


def _table(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False, timeout=100
    )


def test_no_field_is_missing() -> None:
    done = _table("--check")
    assert "no row" not in done.stderr
    assert "no field" not in done.stderr


def test_the_page_is_up_to_date() -> None:
    if os.environ.get("GOSSAMER_REQUIRE") != "all":
        pytest.skip("the page is compared where all is required, so that it need not be written at every step")
    done = _table("--check")
    assert (done.returncode, done.stderr) == (0, "")


def _attributes_read() -> set[str]:
    """The attributes that anything but the reading and checking of configuration looks at."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / "src" / "gossamer" / room).rglob("*.py"):
            found |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    return found


def test_what_is_called_supported_is_looked_at() -> None:
    read = _attributes_read()
    rows = json.loads(_table("--json").stdout)
    assert len(rows) > 1000
    unread = [f"{kind} {path}" for kind, path, _, name, status in rows if status == "supported" and name not in read]
    assert unread == []


def test_the_list_of_fields_is_istios() -> None:
    reference = SHARED / "reference" / "istio-api-fields.md"
    if not reference.is_file():
        pytest.skip(f"no {reference}; set GOSSAMER_SHARED")
    text = reference.read_text().partition("# Schema/CEL validation")[0]
    found, kind, base = set(), "", ""
    for line in text.splitlines():
        if heading := re.match(r"## (\w+)", line):
            kind = base = heading[1]
        elif message := re.match(r"\*\*.*?\*\* \(`(.*)`\)", line):
            base = message[1]
        elif kind and (name := re.match(r"- `([^`]+)`", line)):
            found.add(f"{base}.{name[1]}")
    assert len(found) > 800
    assert found - set(FIELDS.read_text().splitlines()) == set()
