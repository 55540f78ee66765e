"""From plaintext to STRICT, one namespace at a time: who would be refused, and the next step, forward or back.

Invariant: a namespace is ready when everybody who runs there tells what comes in, has done so for long enough, and
nothing came in plaintext meanwhile. A step is a PeerAuthentication for the namespace, and touches no other resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gossamer.cli.authz_learn import span
from gossamer.cli.authz_seen import Peer, Seen, SeenMesh, SeenWorkload, moment
from gossamer.core.errors import GossamerError
from gossamer.sources.seen import Verdict

STRICT: Final = "STRICT"
PERMISSIVE: Final = "PERMISSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What came in plaintext (or was refused for that) from one address to one port of a workload."""

    caller: str
    destination: str
    port: int
    what: tuple[str, ...]
    count: int
    first: float
    last: float
    why: str
    """Why it has no identity, as far as that is known, and what to do."""

    def to_json(self) -> dict[str, Any]:
        return {
            "caller": self.caller,
            "destination": self.destination,
            "port": self.port,
            "what": list(self.what),
            "count": self.count,
            "first": moment(self.first),
            "last": moment(self.last),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a namespace stands. `problems`: why it is not ready; `notes`: what a step will not change."""

    namespace: str
    workloads: int
    modes: tuple[str, ...]
    plaintext: tuple[Call, ...]
    refused: tuple[Call, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def done(self) -> bool:
        return self.modes == (STRICT,)

    def to_json(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "workloads": self.workloads,
            "modes": list(self.modes),
            "done": self.done,
            "ready": not self.problems,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "plaintext": [call.to_json() for call in self.plaintext],
            "refused": [call.to_json() for call in self.refused],
        }


def standings(mesh: SeenMesh, seconds: float) -> tuple[Standing, ...]:
    """Every namespace with sidecars; `seconds` is how long nothing may have come in plaintext. Gateways are left out:
    what they take is a matter of their Gateways."""
    names = sorted({one.namespace for one in mesh.workloads if not one.gateway})
    return tuple(standing(mesh, name, seconds) for name in names)


def standing(mesh: SeenMesh, namespace: str, seconds: float) -> Standing:
    """How one namespace stands, or (the root namespace) the mesh. GossamerError when it has no sidecars."""
    whole = namespace == mesh.root_namespace
    members = [one for one in mesh.workloads if not one.gateway and (whole or one.namespace == namespace)]
    running = [one for one in members if one.running]
    if not members:
        raise GossamerError(f"no sidecar runs, or ran, in namespace {namespace}")
    plaintext = tuple(_calls(mesh, members, Verdict.ALLOWED))
    return Standing(
        namespace=namespace,
        workloads=len(running),
        modes=tuple(sorted({one.mode for one in running})),
        plaintext=plaintext,
        refused=tuple(_calls(mesh, members, Verdict.REFUSED)),
        problems=tuple(_problems(mesh, running, plaintext, seconds)),
        notes=tuple(_notes(mesh, namespace, members)),
    )


def _calls(mesh: SeenMesh, members: Iterable[SeenWorkload], verdict: Verdict) -> Iterator[Call]:
    found: dict[tuple[str, str, int], list[Seen]] = {}
    for member in members:
        for row in member.rows:
            # a port that takes plaintext by a rule of its own is not what a namespace's step is about
            own = verdict is Verdict.ALLOWED and member.port_modes.get(row.port) == "DISABLE"
            if row.plaintext and row.verdict == verdict and not own:
                found.setdefault((row.address, member.key, row.port), []).append(row)
    for (address, destination, port), rows in sorted(found.items()):
        caller, why = _caller(mesh, address)
        yield Call(
            caller=caller,
            destination=destination,
            port=port,
            what=tuple(sorted({row.what for row in rows})),
            count=sum(row.count for row in rows),
            first=min(row.first for row in rows),
            last=max(row.last for row in rows),
            why=why,
        )


def _caller(mesh: SeenMesh, address: str) -> tuple[str, str]:
    """Who is at an address, and why a call from there shows no identity."""
    there = [one for one in mesh.workloads if address in one.addresses]
    if len(there) == 1:
        return (
            f"{there[0].key} ({address})",
            "it has a sidecar, and goes round it or is told not to use TLS (a DestinationRule with tls.mode DISABLE)",
        )
    if there:
        hosts = ", ".join(sorted({one.host for one in there}))
        return f"a process on host {hosts} ({address})", "several workloads are there; give the caller a sidecar"
    return address, "no workload of the mesh has this address: give the caller a sidecar, or a port of its own"


def _problems(
    mesh: SeenMesh, running: Iterable[SeenWorkload], plaintext: Iterable[Call], seconds: float
) -> Iterator[str]:
    for one in running:
        if not one.observed:
            yield f"{one.key}: host {one.host} does not report what comes in there; update its agent"
        elif not one.reporting or one.since is None:
            yield f"{one.key}: host {one.host} has not reported for a minute"
        elif mesh.now - one.since < seconds:
            yield f"{one.key}: seen for {span(mesh.now - one.since)}, {span(seconds)} are wanted (--min-time)"
        if one.full_of_gaps:
            yield f"{one.key}: {one.gaps}; plaintext may be among them"
    for call in plaintext:
        if call.last >= mesh.now - seconds:
            yield (
                f"{call.caller} calls {call.destination} port {call.port} in plaintext "
                f"({call.count} times, last {moment(call.last)}): {call.why}"
            )


def _notes(mesh: SeenMesh, namespace: str, members: Iterable[SeenWorkload]) -> Iterator[str]:
    """What has a PeerAuthentication of its own, which a namespace's does not reach; what is not known."""
    for one in members:
        if one.gaps and not one.full_of_gaps:
            yield f"{one.key}: {one.gaps}"
    for peer in mesh.peers:
        if peer.namespace == namespace and peer.selector:
            ports = "".join(f", port {port} {mode}" for port, mode in sorted(peer.ports.items()))
            yield f"PeerAuthentication {_words(peer)} stays as it is: {peer.mode}{ports}"
    if namespace == mesh.root_namespace:
        for name in sorted({one.namespace for one in members}):
            if own := _whole(mesh, name) if name != namespace else ():
                yield f"namespace {name} has a PeerAuthentication of its own, which stays: {_words(own[0])}"


def _whole(mesh: SeenMesh, namespace: str) -> tuple[Peer, ...]:
    return tuple(peer for peer in mesh.peers if peer.namespace == namespace and not peer.selector)


def _words(peer: Peer) -> str:
    return f"{peer.namespace}/{peer.name}" + (f" ({peer.file}:{peer.line})" if peer.file else "")


def existing(mesh: SeenMesh, namespace: str) -> Peer | None:
    """The PeerAuthentication that speaks for a whole namespace. GossamerError when there are several."""
    found = _whole(mesh, namespace)
    if len(found) > 1:
        names = ", ".join(_words(peer) for peer in found)
        raise GossamerError(
            f"namespace {namespace} has several PeerAuthentications without a selector: {names}; keep one"
        )
    return found[0] if found else None


def marker(namespace: str) -> str:
    """The first line of a file that holds a step, and nothing else."""
    return f"# gossamer authz migrate: {namespace}"


def step_yaml(namespace: str, mode: str, name: str = "default") -> str:
    """The PeerAuthentication of a step."""
    return (
        f"{marker(namespace)}\n"
        "apiVersion: security.istio.io/v1\n"
        "kind: PeerAuthentication\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{mtls: {{mode: {mode}}}}}\n"
    )
