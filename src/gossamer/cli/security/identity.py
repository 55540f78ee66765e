"""Who is who: mutual TLS, certificates, roots.

Invariant: pure functions of the facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from gossamer.cli.security.facts import Facts, Member
from gossamer.cli.security.finding import Finding, counted, finding
from gossamer.model.policy import MutualTls

HOUR: Final = timedelta(hours=1)
MONTH: Final = timedelta(days=30)
_SLACK: Final = timedelta(minutes=1)
"""By which certificates begin before they are made, and clocks differ."""


def mutual_tls(facts: Facts) -> Finding:
    """The mode of every port, by namespace; and the connections that were counted."""
    problems = [text for member in facts.sidecars for text in _lax(facts, member)]
    evidence = [
        f"namespace {namespace}: {counted(member.policies.peer.default.value for member in members)}"
        for namespace, members in groupby(facts.sidecars, key=lambda member: member.proxy.namespace)
    ]
    way = ["`gossamer authz migrate` says who still speaks plaintext, and moves to STRICT"] if problems else []
    return finding(problems, (*evidence, *_seen(facts), *way), nobody=not facts.sidecars)


def _lax(facts: Facts, member: Member) -> Iterator[str]:
    peer = member.policies.peer
    by = f" by {facts.placed(peer.origins[-1])}" if peer.origins else ", as no PeerAuthentication says otherwise"
    if peer.default is not MutualTls.STRICT:
        yield f"{member.name} is {peer.default.value}{by}"
    for port, mode in peer.ports.items():
        if mode is not MutualTls.STRICT and mode is not peer.default:
            yield f"{member.name} port {port} is {mode.value}{by}"


def _seen(facts: Facts) -> Iterator[str]:
    if not facts.connections:
        yield "connections in plaintext: not counted on this host"
        return
    plain = {name: count.plain for name, count in facts.connections.items() if count.plain}
    refused = sum(count.refused for count in facts.connections.values())
    mutual = sum(count.mutual for count in facts.connections.values())
    told = ", ".join(f"{count} to {name}" for name, count in sorted(plain.items())) or "none"
    yield f"since the sidecars started: {mutual} connections over mutual TLS, in plaintext {told}, {refused} refused"


def short_certificates(facts: Facts) -> Finding:
    """What the authority signs, and what this host's workloads have."""
    problems = []
    if facts.lifetime > HOUR:
        problems.append(f"certificates are valid for {_long(facts.lifetime)} (gossamer control-plane --lifetime)")
    ends = {
        f"{row['namespace']}/{row['name']}": datetime.fromisoformat(row["certificate_ends"])
        for row in facts.workloads
        if row["certificate_ends"]
    }
    for name, end in sorted(ends.items()):
        if end <= facts.now:
            problems.append(f"{name}: its certificate ended at {end.isoformat()}")
        elif end - facts.now > HOUR + _SLACK:
            problems.append(f"{name}: its certificate ends at {end.isoformat()} only")
    soonest = min(ends.values(), default=None)
    evidence = [f"the authority signs for {_long(facts.lifetime)}"]
    evidence += [f"{len(ends)} certificates on this host, the next ends at {soonest.isoformat()}"] if soonest else []
    return finding(problems, evidence)


def _long(lifetime: timedelta) -> str:
    minutes = lifetime.total_seconds() / 60
    return f"{minutes / 60:g} h" if minutes >= 60 else f"{minutes:g} min"


def leaves_sign_nothing(_: Facts) -> Finding:
    """By construction: there is no way to ask for another kind."""
    return Finding(holds=True, evidence=("the authority makes certificates of workloads with CA:FALSE alone",))


def root(facts: Facts) -> Finding:
    """How long the root still lasts."""
    told = facts.plane.get("root") or {}
    if not told:
        return Finding(holds=None, evidence=("the control plane does not tell",))
    left = datetime.fromisoformat(told["ends"]) - facts.now
    text = f"root of {facts.settings.trust_domain}, SHA-256 {told['sha256'][:16]}…, ends {told['ends']}"
    return Finding(holds=left > MONTH, evidence=(text,))


def enterprise_root(facts: Facts) -> Finding:
    """Whether a CA was plugged in."""
    text = (
        "a CA was plugged in (--ca)" if facts.plugged else "the control plane made its root itself; plug one in by --ca"
    )
    return Finding(holds=facts.plugged, evidence=(text,))
