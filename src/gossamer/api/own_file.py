"""Files of ours that people write (`gossamer.yaml`, attestors): one document each, read by the rules of all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from gossamer.api.document import diagnose
from gossamer.api.findings import At
from gossamer.api.reader import UnreadableError, read_value
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Position, Severity

T = TypeVar("T")


def read_own_file(text: str, name: str, build: Callable[[Any, At], T | None]) -> tuple[T | None, Diagnostics]:
    """What `build` makes of the file's value, and what is wrong with it, with file and line; None where it cannot be
    read at all. Never raises for what the file holds."""
    try:
        value = read_value(text)
    except UnreadableError as error:
        problem = Diagnostic(
            severity=Severity.ERROR,
            code="invalid-yaml",
            message=f"this file cannot be read: {error.message}",
            position=Position(file=name, line=error.line, column=error.column),
        )
        return None, (problem,)
    at = At()
    built = build(value, at)
    found = diagnose(text, [(None, finding) for finding in at.findings])
    return built, tuple(replace(one, position=replace(one.position, file=name)) for one in found)
