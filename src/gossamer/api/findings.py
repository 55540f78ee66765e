"""What a rule says about a document, before it is known in which file and on which line that stands.

Rules speak through an `At`: a place in the document that collects what is said about it and what is below it.

Invariant: a finding depends on the document's text alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.api.positions import Path
from gossamer.core.diagnostics import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`on_key`: the mistake is the field's name, not its value."""

    severity: Severity
    code: str
    message: str
    path: Path = ()
    hint: str = ""
    on_key: bool = False


class At:
    """A place in a document. `at["http", 0]` is one below; all share one list of findings."""

    __slots__ = ("findings", "path")

    def __init__(self, path: Path = (), findings: list[Finding] | None = None) -> None:
        self.path = path
        self.findings: list[Finding] = [] if findings is None else findings

    def __getitem__(self, step: str | int | Path) -> At:
        return At(self.path + (step if isinstance(step, tuple) else (step,)), self.findings)

    def error(self, code: str, message: str, hint: str = "", *, on_key: bool = False) -> None:
        self._say(Severity.ERROR, code, message, hint, on_key)

    def warning(self, code: str, message: str, hint: str = "", *, on_key: bool = False) -> None:
        self._say(Severity.WARNING, code, message, hint, on_key)

    def info(self, code: str, message: str, hint: str = "") -> None:
        self._say(Severity.INFO, code, message, hint, False)

    def _say(self, severity: Severity, code: str, message: str, hint: str, on_key: bool) -> None:
        finding = Finding(severity=severity, code=code, message=message, path=self.path, hint=hint, on_key=on_key)
        self.findings.append(finding)

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)
