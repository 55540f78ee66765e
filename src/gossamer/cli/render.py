"""How results look: diagnostics with the line they are about, tables, JSON and YAML.

Invariant: one result, several spellings; what a machine reads (`json`, `yaml`) never depends on the terminal. Colour
and frames appear only on a terminal, so a pipe gets plain text.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final, Protocol

from gossamer.core.diagnostics import Diagnostic, Position, Severity


class Output(StrEnum):
    """`-o`: how a list is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


_COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
_TOKEN: Final = re.compile(
    r"""-(?=\s)|"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,{}\[\]#:](?:[^,{}\[\]#:]|:(?=\S)|(?<=\S)\#)*?(?=\s*(?:[,}\]]|:\s|:?$|\s\#))|\S"""
)
"""A list's dash, a quoted scalar, or a plain key or value."""
_LONG_LINE: Final = 200
"""Characters of a source line that are shown before it is cut."""


def print_data(value: object, output: Output) -> None:
    """JSON or YAML on standard output."""
    if output is Output.JSON:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        import yaml  # noqa: PLC0415 - only those who ask for YAML wait for it

        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """A table: with rules and colour on a terminal, tab-free aligned columns elsewhere."""
    from rich import box  # noqa: PLC0415 - rich takes its time, and JSON needs none of it
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_literal(cell) for cell in row))
    console().print(table)


def console(file: IO[str] | None = None) -> Any:
    """A rich console on this stream (standard output by default); one that is no terminal is not wrapped."""
    from rich.console import Console  # noqa: PLC0415

    stream = file or sys.stdout
    return Console(
        file=stream, highlight=False, soft_wrap=not stream.isatty(), width=None if stream.isatty() else 10_000
    )


def _literal(text: str) -> Any:
    from rich.text import Text  # noqa: PLC0415

    return Text(text)


def print_diagnostics(
    diagnostics: Sequence[Diagnostic], texts: Mapping[str, str], *, file: IO[str] | None = None
) -> None:
    """Each with its place, the line itself and a caret under the mistake; the worst last, nearest to the prompt."""
    stream = file or sys.stdout
    paint, width = paint_for(stream), width_of(stream)
    order = [Severity.INFO, Severity.WARNING, Severity.ERROR]
    lines: dict[str, list[str]] = {}
    for diagnostic in sorted(diagnostics, key=lambda d: order.index(d.severity)):
        name = diagnostic.position.file
        if name not in lines:
            lines[name] = texts.get(name, "").splitlines()
        stream.write("\n".join(_describe(diagnostic, lines[name], paint, width)) + "\n\n")


def texts_of(diagnostics: Iterable[Diagnostic]) -> dict[str, str]:
    """The texts of the files that diagnostics are about, as far as they can be read."""
    texts: dict[str, str] = {}
    for name in {diagnostic.position.file for diagnostic in diagnostics if diagnostic.position.file}:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            texts[name] = Path(name).read_text(encoding="utf-8")
    return texts


def _describe(diagnostic: Diagnostic, lines: list[str], paint: Paint, width: int) -> list[str]:
    colour = _COLOURS[diagnostic.severity]
    place = diagnostic.position
    what = " ".join(filter(None, (_named(diagnostic), diagnostic.path)))
    label = f"{diagnostic.severity}[{diagnostic.code}]"
    found = wrapped(f"{label}: {diagnostic.message}", width, indent="  ")
    found[0] = paint(label, colour, bold=True) + found[0][len(label) :]
    margin = " " * len(str(place.line or ""))
    if place.file:
        arrow = paint("-->", "blue")
        found.append(f"{margin}{arrow} {where(place)}")
        if what:
            found.append(f"{margin}    in {what}")
        found += _excerpt(place, lines, paint, colour)
    elif what:
        found.append(f"  in {what}")
    if diagnostic.hint:
        help_lines = wrapped(diagnostic.hint, max(0, width - len(margin) - 9), indent="")
        found.append(f"{margin} {paint('=', 'blue')} {paint('help', 'cyan')}: {help_lines[0]}")
        found += [f"{margin}         {line}" for line in help_lines[1:]]
    return found


def width_of(stream: IO[str]) -> int:
    """Columns of a terminal; 0 for what is none, where nothing is wrapped."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def wrapped(text: str, width: int, *, indent: str) -> list[str]:
    """The text in lines of at most this width, words whole, all lines but the first indented; 0 leaves it alone."""
    if width <= 0 or len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def where(place: Position) -> str:
    """`file:line:column`, as editors open it."""
    return ":".join([place.file, *(str(number) for number in (place.line, place.column) if number)])


def _named(diagnostic: Diagnostic) -> str:
    if not (diagnostic.kind and diagnostic.name):
        return diagnostic.kind
    return str(diagnostic.resource)


def _excerpt(place: Position, lines: list[str], paint: Paint, colour: str) -> list[str]:
    """The line, and a caret under what is meant."""
    if not 0 < place.line <= len(lines):
        return []
    text = lines[place.line - 1]
    margin = " " * len(str(place.line))
    bar = paint("|", "blue")
    shown = text[:_LONG_LINE] + ("…" if len(text) > _LONG_LINE else "")
    found = [f"{margin} {bar}", f"{paint(str(place.line), 'blue')} {bar} {shown.expandtabs(1)}".rstrip()]
    if 0 < place.column <= min(len(text), _LONG_LINE):
        token = _TOKEN.match(text, place.column - 1)
        width = max(1, min(len(token[0].rstrip()), _LONG_LINE - place.column) if token else 1)
        found.append(f"{margin} {bar} {' ' * (place.column - 1)}{paint('^' * width, colour, bold=True)}")
    return found


class Paint(Protocol):
    """Gives text a colour."""

    def __call__(self, text: str, colour: str, *, bold: bool = False) -> str: ...


def paint_for(stream: IO[str]) -> Paint:
    """Colour on a terminal, unless NO_COLOR is set; plain text elsewhere."""
    return _paint if stream.isatty() and not os.environ.get("NO_COLOR") else _plain


def _plain(text: str, colour: str, *, bold: bool = False) -> str:
    return text


_ANSI: Final = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}


def _paint(text: str, colour: str, *, bold: bool = False) -> str:
    return f"\x1b[{'1;' if bold else ''}{_ANSI[colour]}m{text}\x1b[0m"


def summary(diagnostics: Sequence[Diagnostic], files: int, resources: int) -> str:
    """`2 errors, 1 warning in 3 files (14 resources)`."""
    counts = {severity: sum(d.severity is severity for d in diagnostics) for severity in Severity}
    said = [_count(counts[Severity.ERROR], "error"), _count(counts[Severity.WARNING], "warning")]
    said += [f"{counts[Severity.INFO]} info"] if counts[Severity.INFO] else []
    problems = ", ".join(filter(None, said)) or "no problems"
    return f"{problems} in {_count(files, 'file') or 'no files'} ({_count(resources, 'resource') or 'no resources'})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}" if number else ""
