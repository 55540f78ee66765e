"""Known security advisories on Envoy, and which of them apply to a version.

Some are shipped, as of a date; `gossamer version --advisories --refresh` takes the newest. Invariant: what cannot be
understood of an advisory counts as applying; a list that is too large, or none, replaces nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, Final

from gossamer.core.errors import GossamerError

SHIPPED: Final = "envoy-advisories.json"
SCHEMA: Final = 1
MOST: Final = 2000
"""Advisories of a list."""
_LONGEST: Final = 2000
_VERSION: Final = re.compile(r"\d+\.\d+(?:\.\d+)?")
_BOUND: Final = re.compile(r"(<=|>=|<|>|=)\s*v?(\d+\.\d+(?:\.\d+)?)")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerable:
    """A range of versions as its author wrote it (empty: all before), and those in which it is mended."""

    range: str
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """`severity` is empty where nobody has said it; `id` is GitHub's, `cve` the other."""

    id: str
    cve: str
    severity: str
    summary: str
    published: str
    vulnerable: tuple[Vulnerable, ...]

    @property
    def name(self) -> str:
        return self.cve or self.id

    @property
    def fixed(self) -> tuple[str, ...]:
        return tuple(version for one in self.vulnerable for version in one.fixed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisories:
    """A list, and the day (ISO) up to which it knows."""

    as_of: str
    source: str
    advisories: tuple[Advisory, ...]


class OddError(GossamerError):
    """A list of advisories that is not what it should be."""


def load_advisories(kept: Path | None) -> Advisories:
    """The shipped list, or the one that was kept at a refresh if that is newer."""
    shipped = read_advisories(resources.files("gossamer.cli.data").joinpath(SHIPPED).read_text(encoding="utf-8"))
    if kept is None or not kept.exists():
        return shipped
    try:
        found = read_advisories(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OddError(f"{kept} cannot be read: {error}; refresh, or remove it") from error
    return max(shipped, found, key=lambda one: one.as_of)


def read_advisories(text: str) -> Advisories:
    """A list as we write it. OddError for anything else."""
    document = _json(text)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise OddError(f"this is no list of advisories of schema {SCHEMA}")
    rows = _list(document.get("advisories"), "advisories")
    as_of = _text(document, "as_of")
    if not _DATE.fullmatch(as_of):
        raise OddError(f"as_of is no date: {as_of!r}")
    return Advisories(as_of=as_of, source=_text(document, "source"), advisories=tuple(_own(row) for row in rows))


def write_advisories(found: Advisories) -> str:
    """What `read_advisories` reads."""
    return json.dumps({"schema": SCHEMA, **asdict(found)}, indent=1)


def read_github(pages: Iterable[str], source: str, today: date) -> Advisories:
    """GitHub's list of a repository's security advisories, page by page. OddError for anything else."""
    rows = [row for page in pages for row in _list(_json(page), "the answer")]
    found = [_of_github(row) for row in rows if _wanted(row)]
    if not found:
        raise OddError(f"{source} names no advisory at all: this replaces nothing")
    if len(found) > MOST:
        raise OddError(f"{source} names more than {MOST} advisories")
    found.sort(key=lambda one: (one.published, one.name), reverse=True)
    return Advisories(as_of=today.isoformat(), source=source, advisories=tuple(found))


def applying(found: Advisories, version: str) -> tuple[Advisory, ...]:
    """Those that a version (`1.40.0`) has."""
    return tuple(one for one in found.advisories if any(_applies(part, version) for part in one.vulnerable))


def _applies(part: Vulnerable, text: str) -> bool:
    version = _version(text)
    if version is None:
        return True
    bounds = [(sign, wanted) for sign, number in _BOUND.findall(part.range) if (wanted := _version(number))]
    lower = [wanted for sign, wanted in bounds if sign in (">=", ">", "=")]
    if lower and version < min(lower):
        return False
    fixed = [wanted for number in part.fixed if (wanted := _version(number))]
    if fixed:
        return not _is_mended(version, fixed)
    upper = [(sign, number) for sign, number in _BOUND.findall(part.range) if sign in ("<", "<=", "=")]
    return not upper or any(_is_below(version, sign, number) for sign, number in upper)


def _is_below(version: Version, sign: str, number: str) -> bool:
    """Whether a version is within an upper bound; `<= 1.31` means all of that line."""
    parts = tuple(map(int, number.split(".")))
    return version[: len(parts)] < parts or (sign != "<" and version[: len(parts)] == parts)


def _is_mended(version: Version, fixed: Iterable[Version]) -> bool:
    """Releases are mended line by line: by a later one of its line, or by being of a later line than any mended."""
    newest = max(fixed)
    return version[:2] > newest[:2] or any(version[:2] == one[:2] and version >= one for one in fixed)


def _version(text: str) -> Version | None:
    found = _VERSION.match(text.strip().removeprefix("v"))
    if found is None:
        return None
    major, minor, patch = (*map(int, found[0].split(".")), 0)[:3]
    return (major, minor, patch)


def _own(row: Any) -> Advisory:
    parts = _list(row.get("vulnerable") if isinstance(row, dict) else None, "vulnerable")
    return Advisory(
        **{name: _text(row, name) for name in ("id", "cve", "severity", "summary", "published")},
        vulnerable=tuple(
            Vulnerable(range=_text(part, "range"), fixed=tuple(map(_checked, _list(part.get("fixed"), "fixed"))))
            for part in parts
        ),
    )


def _wanted(row: Any) -> bool:
    return isinstance(row, dict) and row.get("state", "published") == "published" and not row.get("withdrawn_at")


def _of_github(row: dict[str, Any]) -> Advisory:
    parts = _list(row.get("vulnerabilities") or [], "vulnerabilities")
    return Advisory(
        id=_text(row, "ghsa_id"),
        cve=_text(row, "cve_id"),
        severity=_text(row, "severity"),
        summary=_text(row, "summary"),
        published=_text(row, "published_at")[:10],
        vulnerable=tuple(
            Vulnerable(
                range=_text(part, "vulnerable_version_range"),
                fixed=tuple(_VERSION.findall(_text(part, "patched_versions"))),
            )
            for part in parts
        )
        # it is said to be vulnerable, and not where: everywhere, then
        or (Vulnerable(range=""),),
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OddError(f"this is no JSON: {error}") from error


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST:
        raise OddError(f"{what} is no list of at most {MOST}")
    return value


def _text(row: Any, name: str) -> str:
    if not isinstance(row, dict):
        raise OddError(f"where {name} is expected there is no object")
    value = row.get(name)
    return "" if value is None else _checked(value)


def _checked(value: Any) -> str:
    """Text of a bounded length, without what could steer a terminal."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise OddError(f"{str(value)[:40]!r} is no text of at most {_LONGEST} characters")
    return "".join(letter for letter in value if letter.isprintable())
