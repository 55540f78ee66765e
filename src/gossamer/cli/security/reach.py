"""How far a workload reaches, and whether anything goes round its sidecar.

Invariant: pure functions of the facts.
"""

from __future__ import annotations

from collections.abc import Iterator

from gossamer.api.gateway import Server
from gossamer.api.service_entry import Location
from gossamer.cli.security.facts import Facts, Member
from gossamer.cli.security.finding import Finding, counted, finding
from gossamer.core.ids import Origin
from gossamer.model.proxy import CaptureMode
from gossamer.model.settings import Unknown


def own_namespace(facts: Facts) -> Finding:
    """Whether the Sidecar of every workload names the namespaces that it sees."""
    problems = [text for member in facts.sidecars for text in _sees_all(facts, member)]
    crossing = {
        f"{member.proxy.namespace} reaches {host} by {facts.placed(member.sidecar.origin)}"
        for member in facts.sidecars
        if member.sidecar is not None
        for listener in member.sidecar.egress
        for host in listener.hosts
        if host.partition("/")[0] not in (".", "*", "~", member.proxy.namespace)
    }
    deciding = dict.fromkeys(m.sidecar.origin for m in facts.sidecars if m.sidecar is not None and m.sidecar.egress)
    return finding(problems, (*sorted(crossing), *map(facts.placed, deciding)), nobody=not facts.sidecars)


def _sees_all(facts: Facts, member: Member) -> Iterator[str]:
    sidecar = member.sidecar
    if sidecar is None or not sidecar.egress:
        yield f"{member.name} sees every namespace: no Sidecar says otherwise"
        return
    for listener in sidecar.egress:
        for host in listener.hosts:
            if host.partition("/")[0] == "*":
                yield f"{member.name} sees {host} by {facts.placed(sidecar.origin)}"


def no_way_out(facts: Facts) -> Finding:
    """Whether what nobody declared is refused; and what is declared."""
    problems = [
        f"{member.name} calls what nobody declared ({member.outbound.unknown.value})"
        for member in facts.sidecars
        if member.outbound.unknown is not Unknown.REGISTRY_ONLY
    ]
    declared = [
        f"{', '.join(entry.spec.hosts)} by ServiceEntry {entry.namespace}/{entry.name}"
        for entry in facts.config.service_entries
        if entry.spec.location is Location.MESH_EXTERNAL
    ]
    evidence = declared or ["no ServiceEntry names a host outside the mesh"]
    return finding(problems, evidence, nobody=not facts.sidecars)


def not_bypassable(facts: Facts) -> Finding:
    """How traffic is captured."""
    problems = [
        f"{member.name} is bypassable: explicit capture on host {member.proxy.node}"
        for member in facts.sidecars
        if member.proxy.capture.mode is CaptureMode.EXPLICIT
    ]
    ways = counted(member.proxy.capture.mode.value for member in facts.sidecars)
    return finding(problems, (f"captured: {ways}",), nobody=not facts.sidecars)


def gateway_tls(facts: Facts) -> Finding:
    """Whether some server of a Gateway serves plaintext, and does not send its clients to TLS."""
    problems = [
        f"{facts.placed(Origin(resource=gateway.id, rule=f'spec.servers[{index}]'))} takes plaintext"
        for gateway in facts.config.gateways
        for index, server in enumerate(gateway.spec.servers)
        if _takes_plaintext(server)
    ]
    return finding(problems, (f"{len(facts.config.gateways)} Gateways",))


def _takes_plaintext(server: Server) -> bool:
    if server.tls is not None and server.tls.https_redirect:
        return False
    return server.port.protocol.upper() in ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "MONGO", "MYSQL", "REDIS")
