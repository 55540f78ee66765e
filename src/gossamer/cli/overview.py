"""A running mesh at a glance, section by section, from what its processes on this host say of themselves.

Invariant: a section is a pure function of one `Told`, and says what it does not know; the table shows nothing that the
JSON does not. A new section is a function and its place in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gossamer.cli.words import rounded, some

_SHOWN: Final = 5
"""Names of a kind in a table before the rest are only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of one mesh: the answers of its control plane and agent on this host (empty: not here, or away),
    and the rows of `gossamer proxy list`."""

    folder: str
    plane: Mapping[str, Any]
    agent: Mapping[str, Any]
    proxies: Sequence[Mapping[str, Any]]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`data` for machines; `lines` for people; `worry` where somebody ought to look."""

    data: dict[str, Any]
    lines: tuple[str, ...]
    worry: bool = False
    more: tuple[str, ...] = field(default=())
    """Lines that only matter because of the worry."""


def control_plane(told: Told) -> Section:
    """Whether it serves, and since when."""
    plane = told.plane
    if not plane:
        address = told.agent.get("control_plane", "")
        reached = [row for row in told.agent.get("workloads", ()) if row["control_plane"] == "connected"]
        state = "elsewhere" if reached else "away"
        lines = (f"not on this host; agents here use {address}" if reached else f"away ({address or 'unknown'})",)
        more = () if reached else ("traffic goes on as it was last configured; nothing new is taken in",)
        return Section(data={"state": state, "address": address}, lines=lines, worry=not reached, more=more)
    since = datetime.fromisoformat(plane["since"])
    data = {
        "state": "ready" if plane["ready"] else "not ready",
        "version": plane["version"],
        "since": plane["since"],
        "address": plane["xds"],
        "generation": plane["generation"],
    }
    line = f"{data['state']} at {plane['xds']} since {plane['since']} ({_lasting(told.now, since)}), {plane['version']}"
    more = () if plane["ready"] else ("a resource has no valid version to fall back to: see the configuration below",)
    return Section(data=data, lines=(line,), worry=not plane["ready"], more=more)


def configuration(told: Told) -> Section:
    """Whether all of it was accepted."""
    if not told.plane:
        return Section(data={"accepted": None}, lines=("its control plane knows",))
    found = told.plane["diagnostics"]
    counts = {kind: sum(one["severity"] == kind for one in found) for kind in ("error", "warning", "info")}
    errors = [f"{_where(one)}: {one['message']}" for one in found if one["severity"] == "error"]
    line = f"{'accepted' if not errors else 'not all accepted'}: " + ", ".join(
        f"{count} {kind}{'s' if count != 1 and kind != 'info' else ''}" for kind, count in counts.items()
    )
    return Section(
        data={"accepted": not errors, **{f"{kind}s": count for kind, count in counts.items()}, "diagnostics": found},
        lines=(line,),
        worry=bool(errors),
        more=some(errors, _SHOWN),
    )


def proxies(told: Told) -> Section:
    """Who is connected and has accepted what it was sent; all others by name."""
    rows = told.proxies
    by_state: dict[str, list[str]] = {}
    for row in rows:
        by_state.setdefault(row["configuration"] or "UNKNOWN", []).append(row["name"])
    behind = {state: names for state, names in by_state.items() if state not in ("SYNCED", "UNKNOWN")}
    connected = [row["name"] for row in rows if row["configuration"] not in ("", "NOT CONNECTED")]
    ill = {row["name"]: row["problem"] for row in rows if row["problem"]}
    envoys = _count(row["envoy_version"] for row in rows)
    data = {
        "known": len(rows),
        "connected": len(connected),
        "in_sync": len(by_state.get("SYNCED", ())),
        "behind": behind,
        "problems": ill,
        "envoys": envoys,
    }
    line = f"{len(rows)} known, {len(connected)} connected, {data['in_sync']} in sync"
    if not told.plane:
        line = f"{len(rows)} on this host; whether they are in sync its control plane knows"
    versions = ", ".join(f"{version} ({count})" for version, count in envoys.items())
    lines = (line, *((f"Envoy {versions}",) if versions else ()))
    more = [f"{state.lower()}: {', '.join(some(names, _SHOWN))}" for state, names in sorted(behind.items())]
    more += some([f"{name}: {problem}" for name, problem in ill.items()], _SHOWN)
    return Section(data=data, lines=lines, worry=bool(behind or ill), more=tuple(more))


def capture(told: Told) -> Section:
    """How traffic reaches sidecars, and which applications could go round theirs."""
    sidecars = [row for row in told.proxies if row["type"] == "sidecar"]
    bypassable = [row["name"] for row in sidecars if row["bypassable"]]
    ways = _count(row["capture"] for row in sidecars)
    data = {"ways": ways, "bypassable": bypassable, "host": told.agent.get("capture", "")}
    words = ", ".join(f"{way} ({count})" for way, count in ways.items()) or "nothing is captured"
    named = ", ".join(some(bypassable, _SHOWN))
    more = (f"bypassable: {named}: these hosts keep no application from going round its sidecar",)
    return Section(data=data, lines=(words,), worry=bool(bypassable), more=more if bypassable else ())


def certificates(told: Told) -> Section:
    """Which ends first, of the workloads of this host; and the root."""
    ends = sorted((row["certificate_ends"], row["name"]) for row in told.proxies if row["certificate_ends"])
    root = told.plane.get("root", {})
    data = {
        "next_to_end": {"name": ends[0][1], "ends": ends[0][0]} if ends else None,
        "trust_domain": told.plane.get("trust_domain", ""),
        "root": dict(root) or None,
    }
    lines = []
    late = False
    if ends:
        left = datetime.fromisoformat(ends[0][0])
        late = left <= told.now
        lines.append(f"the next to end is {ends[0][1]}'s, {_until(told.now, left)}")
    if root:
        lines.append(f"root of {data['trust_domain']}: SHA-256 {root['sha256'][:16]}…, ends {root['ends'][:10]}")
    more = ("a certificate has ended: its proxy cannot be reached by others until it is renewed",) if late else ()
    return Section(data=data, lines=tuple(lines) or ("none on this host",), worry=late, more=more)


SECTIONS: Final[tuple[tuple[str, Callable[[Told], Section]], ...]] = (
    ("control_plane", control_plane),
    ("configuration", configuration),
    ("proxies", proxies),
    ("capture", capture),
    ("certificates", certificates),
)


def overview(told: Told) -> dict[str, Section]:
    """All sections of one mesh, by name, in order."""
    return {name: build(told) for name, build in SECTIONS}


def _count(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        if word:
            counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))


def _where(diagnostic: Mapping[str, Any]) -> str:
    named = "/".join(str(diagnostic.get(key, "")) for key in ("kind", "namespace", "name") if diagnostic.get(key))
    return f"{diagnostic['file']}:{diagnostic['line']}" if diagnostic["file"] else named or diagnostic["code"]


def _lasting(now: datetime, since: datetime) -> str:
    return f"for {rounded((now - since).total_seconds())}"


def _until(now: datetime, end: datetime) -> str:
    seconds = (end - now).total_seconds()
    return f"in {rounded(seconds)}" if seconds > 0 else f"it ended {rounded(-seconds)} ago"
