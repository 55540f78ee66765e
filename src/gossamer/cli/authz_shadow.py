"""What policies in a dry run would have done to the traffic that was seen.

Invariant: only policies that are in a dry run now are told of; what they would have denied was let in, and counts as
often as it was seen since.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from gossamer.cli.authz_seen import Seen, SeenMesh, SeenWorkload, moment

_RULE: Final = re.compile(r"ns\[(.+?)\]-\w+\[(.+?)\]-rule\[(\d+)\]")
_NONE: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What would have become of calls: `denied` or `allowed`, by `policy` (`namespace/name rule N`)."""

    would: str
    policy: str
    caller: str
    destination: str
    port: int
    what: str
    count: int
    first: float
    last: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"first": moment(self.first), "last": moment(self.last)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A policy in a dry run: how many calls came in at its workloads since they are seen, and of how many it would have
    said otherwise."""

    policy: str
    seen: int
    hits: int


def shadows(mesh: SeenMesh, namespace: str = "", since: float = 0.0) -> tuple[Shadow, ...]:
    """What dry runs would have denied or let in, the most frequent first, if it was seen after `since`."""
    found = [
        shadow
        for workload in mesh.workloads
        if namespace in ("", workload.namespace)
        for row in workload.rows
        if row.would and row.last >= since and (shadow := _shadow(workload, row)) is not None
    ]
    return tuple(sorted(found, key=lambda one: (one.would != "denied", -one.count, one.policy, one.caller, one.what)))


def tried(mesh: SeenMesh, namespace: str = "") -> tuple[Tried, ...]:
    """Every policy that is in a dry run now."""
    found = shadows(mesh, namespace)
    names: dict[str, int] = {}
    for workload in mesh.workloads:
        if namespace in ("", workload.namespace):
            for name in workload.dry_run:
                names[name] = names.get(name, 0) + sum(row.count for row in workload.rows)
    return tuple(
        Tried(policy=name, seen=seen, hits=sum(one.count for one in found if name in _names(one.policy)))
        for name, seen in sorted(names.items())
    )


def _names(policy: str) -> Iterator[str]:
    return (part.strip().partition(" ")[0] for part in policy.removeprefix("none of ").split(","))


def _shadow(workload: SeenWorkload, row: Seen) -> Shadow | None:
    kind, _, rule = row.would.partition(":")
    policy = _policy(rule, workload)
    if policy is None:
        return None
    return Shadow(
        would="denied" if kind == "deny" else "allowed",
        policy=policy,
        caller=row.who,
        destination=workload.key,
        port=row.port,
        what=row.what,
        count=row.count,
        first=row.first,
        last=row.last,
    )


def _policy(rule: str, workload: SeenWorkload) -> str | None:
    """The policy in words; None when it is in no dry run any more."""
    if rule == _NONE:
        return f"none of {', '.join(workload.dry_run_allow)}" if workload.dry_run_allow and not workload.allow else None
    found = _RULE.fullmatch(rule)
    if found is None or f"{found[1]}/{found[2]}" not in workload.dry_run:
        return None
    return f"{found[1]}/{found[2]} rule {found[3]}"
