"""Whether what was decided is in force, kept, and seen.

Invariant: pure functions of the facts.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.cli.security.facts import Facts
from gossamer.cli.security.finding import Finding, counted, finding, some

OLDEST_KEYS_S: Final = 24 * 3600.0


def own_files(facts: Facts) -> Finding:
    """Whether sockets and secrets on this host are closed to others."""
    text = (
        f"looked at: {facts.sockets} sockets (Envoys' administration, agent, control plane), folders, keys of this host"
    )
    return finding(facts.loose, (text,))


def token_keys(facts: Facts) -> Finding:
    """The keys of issuers, as `gossamer security keys` lists them."""
    rows = facts.plane.get("keys", ())
    problems = [f"{row['url']}: {state}" for row in rows if (state := key_state(row)) not in ("fresh",)]
    evidence = [f"{row['url']}: fetched {row['age_s']:.0f} s ago" for row in rows if key_state(row) == "fresh"]
    return finding(problems, some(evidence) or ("no issuer's keys have to be fetched",))


def key_state(row: dict[str, Any]) -> str:
    """How the keys of one issuer are: fresh, old, or none (then its tokens are refused); and why."""
    why = f" ({row['error']})" if row["error"] else ""
    if row["age_s"] is None:
        return f"there are none, so its tokens are refused{why}"
    return f"{row['age_s'] / 3600:.0f} hours old{why}" if row["age_s"] > OLDEST_KEYS_S else "fresh"


def in_force(facts: Facts) -> Finding:
    """Whether proxies have what is declared, and all that is declared counts."""
    problems = [
        f"{row['name']} is {row['state']}" for row in facts.plane.get("proxies", ()) if row["state"] != "SYNCED"
    ]
    problems += [
        f"{row['name']} refused {rejection['name']}: {rejection['message']}"
        for row in facts.plane.get("proxies", ())
        for part in row["types"]
        for rejection in part["rejections"]
    ]
    problems += [
        f"{one['file']}:{one['line']}: {one['message']}"
        for one in facts.plane.get("diagnostics", ())
        if one["severity"] == "error"
    ]
    states = counted(row["state"] for row in facts.plane.get("proxies", ()))
    return finding(problems, (f"proxies: {states or 'none'}",))


def logged(facts: Facts) -> Finding:
    """Whether there is an access log."""
    where = facts.settings.access_log
    text = f"MeshConfig accessLogFile is {where}" if where else "MeshConfig has no accessLogFile"
    return Finding(holds=bool(where), evidence=(text,))
