"""The AuthorizationPolicies that the traffic seen needs, and no wider ones.

Invariant: a rule lets in a verified identity, to the ports, methods and paths that it was seen to use and was allowed;
callers without an identity get no rule, but at a gateway, where that is who comes. What was denied, refused or led
nowhere is not needed. What could not be seen is said; where too little was seen, nothing is concluded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gossamer.cli.authz_seen import Seen, SeenMesh, SeenWorkload, account_of, moment
from gossamer.sources.path_classes import UNSPELT
from gossamer.sources.seen import OUTSIDE, Verdict

_OTHER = "OTHER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What has to be seen of a service before anything is concluded."""

    requests: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One `to[].operation`; empty methods and paths for connections without HTTP."""

    port: int
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one rule stands on."""

    callers: tuple[tuple[str, int], ...]
    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntRule:
    """One rule. No `principals`: anyone may, as at a gateway."""

    principals: tuple[str, ...]
    operations: tuple[Operation, ...]
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntPolicy:
    """One policy of action ALLOW. `beside` are the ALLOW policies that it stands beside."""

    namespace: str
    name: str
    selector: Mapping[str, str]
    rules: tuple[LearntRule, ...]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What was concluded, what could not be seen, and (`missing`) why there is no conclusion about something."""

    policies: tuple[LearntPolicy, ...] = ()
    unseen: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    closing: str = ""
    """The namespace in which a policy that allows nothing closes what was learnt about."""


@dataclass(slots=True)
class _Target:
    """The workloads that one policy is for."""

    namespace: str
    name: str
    selector: Mapping[str, str]
    members: list[SeenWorkload] = field(default_factory=list)

    @property
    def needed(self) -> list[Seen]:
        return [row for member in self.members for row in member.rows if row.verdict == Verdict.ALLOWED]

    @property
    def words(self) -> str:
        return f"{self.namespace}/{self.name}"


def learn(mesh: SeenMesh, limits: Limits, namespace: str = "") -> Learnt:
    """The policies of one namespace's workloads, or of all."""
    targets = _targets(one for one in mesh.workloads if namespace in ("", one.namespace))
    policies: list[LearntPolicy] = []
    unseen: list[str] = []
    missing: list[str] = []
    for target in targets:
        unseen += _unseen(target, mesh.root_namespace)
        if problems := list(_problems(target, limits, mesh.now)):
            missing += problems
        elif rules := _rules(target):
            policies.append(_policy(target, rules))
    if not any(target.needed for target in targets):
        missing.append("no call was seen" + (f" in namespace {namespace}" if namespace else ""))
    return Learnt(
        policies=tuple(policies),
        unseen=tuple(unseen),
        missing=tuple(missing),
        closing=namespace or mesh.root_namespace,
    )


def _targets(workloads: Iterable[SeenWorkload]) -> list[_Target]:
    """Workloads that a policy cannot or should not tell apart: those that the same labels select."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], _Target] = {}
    for workload in workloads:
        selector = workload.selector or workload.labels
        key = (workload.namespace, tuple(sorted(selector.items())) or (("", workload.name),))
        target = found.setdefault(
            key, _Target(namespace=workload.namespace, name=_name(workload), selector=dict(sorted(selector.items())))
        )
        target.members.append(workload)
        if workload.services:  # one that has ended has none
            target.name = _name(workload)
    return [found[key] for key in sorted(found)]


def _name(workload: SeenWorkload) -> str:
    own = sorted(service.hostname.partition(".")[0] for service in workload.services)
    return own[0] if own else workload.name


def _problems(target: _Target, limits: Limits, now: float) -> Iterable[str]:
    """Why nothing is concluded about a target: who is not seen, and whether enough was."""
    for member in target.members:
        if member.running and not member.observed:
            yield f"{member.key}: host {member.host} does not report what comes in there; update its agent"
        elif member.running and not member.reporting:
            yield f"{member.key}: host {member.host} has not reported for a minute"
        if member.full_of_gaps:
            yield f"{member.key}: {member.gaps}, so something that is needed may not have been seen"
    count = sum(row.count for row in target.needed)
    if not target.needed:
        return
    if not target.selector:
        yield f"{target.words}: it has no labels by which a policy could mean it"
    if count < limits.requests:
        yield f"{target.words}: {count} requests were seen, {limits.requests} are wanted (--min-requests)"
    since = min((member.since for member in target.members if member.since is not None), default=now)
    if now - since < limits.seconds:
        yield f"{target.words}: seen for {span(now - since)}, {span(limits.seconds)} are wanted (--min-time)"


def _unseen(target: _Target, root_namespace: str) -> Iterable[str]:
    """What these policies say nothing about, though it may be needed."""
    said = f"{target.words}: "
    if not target.needed:
        yield f"{said}no call was seen; under deny by default nobody can call it"
    elif target.namespace == root_namespace:
        yield f"{said}a policy in {root_namespace} counts for workloads with these labels in every namespace"
    yield from map(said.__add__, _unspoken(target.needed))
    for member in target.members:
        if member.gaps and not member.full_of_gaps:
            yield f"{member.key}: {member.gaps}"
    if any(member.tokens for member in target.members):
        yield f"{said}who the user behind a token is was not seen: rules ask for no token"
    if any(member.gateway for member in target.members):
        yield f"{said}callers from outside have no identity, and hosts are not told apart: routes do that"


def _unspoken(rows: Sequence[Seen]) -> Iterable[str]:
    """What of these calls no rule is as narrow as, or none is about."""
    nameless = Counter[tuple[str, int]]()
    for row in rows:
        if not row.identity and row.caller != OUTSIDE:
            nameless[row.who, row.port] += row.count
        if not _spellable(row):
            yield f"{row.count} requests by {row.who} ({row.what}) no policy can spell; they get no rule"
        elif row.path.endswith("/*"):
            yield f"paths of {row.who} are too many to tell apart: {row.path} is allowed whole"
    for (who, port), count in sorted(nameless.items()):
        yield f"{count} calls, {who}, to port {port} have no identity to allow, and get no rule"
    for port in sorted({row.port for row in rows if row.protocol == "tcp"}):
        yield f"what connections to port {port} carry was not read: they are allowed whole"


def _rules(target: _Target) -> tuple[LearntRule, ...]:
    """Rules for callers who do the same together."""
    by_caller: dict[str, list[Seen]] = {}
    for row in target.needed:
        if (row.identity and "*" not in row.identity) or row.caller == OUTSIDE:
            by_caller.setdefault(row.identity, []).append(row)
    alike: dict[tuple[bool, tuple[Operation, ...]], dict[str, list[Seen]]] = {}
    for identity, rows in sorted(by_caller.items()):
        for protocol in ("http", "tcp"):  # a rule that speaks of HTTP never matches a connection without it
            if own := [row for row in rows if row.protocol == protocol and _spellable(row)]:
                alike.setdefault((bool(identity), _operations(own)), {})[identity] = own
    return tuple(_rule(operations, callers) for (_, operations), callers in alike.items())


def _spellable(row: Seen) -> bool:
    """Whether a policy can say what was asked. Only a CONNECT has no path."""
    if row.protocol != "http":
        return True
    return row.path != UNSPELT and row.method != _OTHER and bool(row.path or row.method == "CONNECT")


def _rule(operations: tuple[Operation, ...], callers: Mapping[str, list[Seen]]) -> LearntRule:
    rows = [row for own in callers.values() for row in own]
    return LearntRule(
        principals=tuple(identity for identity in callers if identity),
        operations=operations,
        evidence=Evidence(
            callers=tuple(
                (account_of(identity) if identity else "callers from outside", sum(row.count for row in own))
                for identity, own in callers.items()
            ),
            count=sum(row.count for row in rows),
            first=min(row.first for row in rows),
            last=max(row.last for row in rows),
        ),
    )


def _operations(rows: Iterable[Seen]) -> tuple[Operation, ...]:
    """Each port and method with its paths; methods of equal paths together."""
    paths: dict[tuple[int, str], set[str]] = {}
    for row in rows:
        paths.setdefault((row.port, row.method), set()).add(row.path)
    methods: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for (port, method), found in sorted(paths.items()):
        methods.setdefault((port, tuple(sorted(path for path in found if path))), []).append(method)
    return tuple(
        Operation(port=port, methods=tuple(filter(None, names)), paths=own)
        for (port, own), names in sorted(methods.items())
    )


def _policy(target: _Target, rules: tuple[LearntRule, ...]) -> LearntPolicy:
    beside = sorted({name for member in target.members for name in member.allow})
    return LearntPolicy(
        namespace=target.namespace,
        name=f"learnt-{target.name}"[:253],
        selector=target.selector,
        rules=rules,
        beside=tuple(beside),
    )


def span(seconds: float) -> str:
    """`45 s`, `12 min`, `5 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}" if seconds % size == 0 else f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def evidence_words(evidence: Evidence) -> str:
    """One line for people."""
    callers = ", ".join(f"{who} ({count})" for who, count in evidence.callers)
    return f"{evidence.count} times, {moment(evidence.first)} to {moment(evidence.last)}, by {callers}"
