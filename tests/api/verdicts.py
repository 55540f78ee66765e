"""Short documents and what validation says of them, as tests read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gossamer.api.gateway_api.common import GATEWAY_API
from gossamer.api.kinds import KINDS
from gossamer.api.load import SourceFile, load
from gossamer.core.diagnostics import Severity

FILE = Path(__file__).parent / "verdicts.txt"
GROUPS = {name: group for group, name in KINDS if group != GATEWAY_API}


def cases() -> Iterator[tuple[str, str, str]]:
    """Kind, verdict and spec (YAML) of every line."""
    for line in FILE.read_text().splitlines():
        if line and not line.startswith("#"):
            kind, wanted, spec = line.split(" ", 2)
            yield kind, wanted, spec


def verdict(kind: str, spec: Any) -> str:
    """What becomes of a resource with this spec: accepted, warned or refused."""
    found = KINDS[(GROUPS[kind], kind)]
    document = {
        "apiVersion": f"{found.group}/{found.versions[0]}",
        "kind": kind,
        "metadata": {"name": "a", "namespace": "default"},
        "spec": spec,
    }
    diagnostics = load([SourceFile(name="a.yaml", text=json.dumps(document))]).diagnostics
    if any(one.is_error for one in diagnostics):
        return "refused"
    return "warned" if any(one.severity is Severity.WARNING for one in diagnostics) else "accepted"


def parsed(spec: str) -> Any:
    """The spec of a line."""
    return yaml.load(spec, yaml.CSafeLoader)
