"""A user's mistake as a value.

Nobody raises for what a user wrote: rooms collect `Diagnostic`s and the edges show them. One shape serves the command
line, the console, resource status and JSON output, so its fields only ever grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gossamer.core.ids import ResourceId


class Severity(StrEnum):
    ERROR = "error"
    """The resource, or the part of it that `path` names, is not used as written."""
    WARNING = "warning"
    """The resource is used; something about it is likely not what its author meant."""
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a file: `line` and `column` count from 1; 0 means unknown."""

    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """What is wrong, where, and what to do about it.

    `code` is a stable kebab-case word for scripts (`unknown-field`), `path` the field as its author spells it
    (`spec.http[0].route[1].weight`), `hint` the next step, empty when the message already says it.
    """

    severity: Severity
    code: str
    message: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    position: Position = field(default_factory=Position)
    hint: str = ""

    @property
    def resource(self) -> ResourceId:
        return ResourceId(kind=self.kind, namespace=self.namespace, name=self.name)

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def to_json(self) -> dict[str, str | int]:
        """The published JSON object: severity, code, kind, namespace, name, path, message, file, line, column, hint."""
        return {
            "severity": self.severity.value,
            "code": self.code,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "path": self.path,
            "message": self.message,
            "file": self.position.file,
            "line": self.position.line,
            "column": self.position.column,
            "hint": self.hint,
        }

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Diagnostic:
        """What `to_json` published."""
        return cls(
            severity=Severity(value["severity"]),
            code=value["code"],
            message=value["message"],
            kind=value["kind"],
            namespace=value["namespace"],
            name=value["name"],
            path=value["path"],
            position=Position(file=value["file"], line=value["line"], column=value["column"]),
            hint=value["hint"],
        )


Diagnostics = tuple[Diagnostic, ...]


def diagnostic_about(
    resource: ResourceId,
    code: str,
    path: str,
    message: str,
    hint: str = "",
    severity: Severity = Severity.WARNING,
) -> Diagnostic:
    """What is wrong with a resource, where nobody knows yet where it stands."""
    return Diagnostic(
        severity=severity,
        code=code,
        message=message,
        kind=resource.kind,
        namespace=resource.namespace,
        name=resource.name,
        path=path,
        hint=hint,
    )
