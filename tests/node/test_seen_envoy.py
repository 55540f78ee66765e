"""What a real Envoy tells its agent: who asked what, what was decided and by whom, and what a dry run says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from gossamer.api.authorization_policy import Action
from gossamer.ca.authority import Authority
from gossamer.compile.inbound import compile_inbound
from gossamer.core.memo import Memo
from gossamer.model.policy import MutualTls, PeerPolicy, ShadowPolicies, WorkloadPolicies
from gossamer.node.observing import observing_handler
from gossamer.node.seen_entries import Reader
from gossamer.sources.seen import Group, Observed
from tests.compile.sidecar import Client, admin, get, until
from tests.compile.test_inbound_envoy import Sidecar, authority, exchange, on_path, only, running, selected
from tests.compile.test_tokens_envoy import BOTH, ISSUER

pytestmark = pytest.mark.envoy
__all__ = ["authority"]
WEB, OTHER = "spiffe://cluster.local/ns/web/sa/frontend", "spiffe://cluster.local/ns/other/sa/batch"
PLAIN = "plaintext:127.0.0.1"


class Table:
    """What came, as a test reads it; `handlers` take it in."""

    def __init__(self) -> None:
        self.observed = Observed()
        self.ports: dict[int, int] = {}
        self.found: dict[tuple[Group, str], int] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        return observing_handler(Reader(ports=self.ports), self.observed)

    def take(self) -> dict[tuple[Group, str], int]:
        for row in self.observed.take()[0]:
            self.found[row.group, row.path] = self.found.get((row.group, row.path), 0) + row.tally.count
        return self.found

    def has(self, port: int, path: str, **parts: str) -> bool:
        """Whether there is a row with all of this."""
        return any(
            group.port == port and kept == path and all(getattr(group, name) == part for name, part in parts.items())
            for group, kept in self.take()
        )


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def sidecar(envoy: Path, tmp_path: Path, authority: Authority, table: Table) -> Iterator[Sidecar]:
    with running(envoy, tmp_path, authority, frozenset(), [table.handler()]) as found:
        yield found


def offer(sidecar: Sidecar, mode: MutualTls) -> None:
    policies = WorkloadPolicies(
        peer=PeerPolicy(default=mode),
        tokens=BOTH,
        deny=(selected("nope", Action.DENY, on_path("/nope")),),
        allow=(selected("web", Action.ALLOW, only(WEB.removeprefix("spiffe://"))),),
        shadow=ShadowPolicies(deny=(selected("dry", Action.DENY, on_path("/dry*")),)),
    )
    capture = replace(sidecar.view.proxy.capture, observed=True)
    view = replace(sidecar.view, policies=policies, proxy=replace(sidecar.view.proxy, capture=capture))
    sidecar.agent.publish(compile_inbound(view, Memo()))


def ask(sidecar: Sidecar, client: Client, path: str, **headers: str) -> int:
    connection = client.http(sidecar.http_port)
    try:
        return get(connection, path, **headers)[0]
    finally:
        connection.close()


def test_an_agent_knows_who_asked_what_and_who_decided(sidecar: Sidecar, table: Table) -> None:
    offer(sidecar, MutualTls.PERMISSIVE)
    web, port, tcp = sidecar.web, sidecar.view.inbound[0].number, sidecar.view.inbound[1].number
    table.ports |= {sidecar.http_port: port, sidecar.tcp_port: tcp}
    until(lambda: ask(sidecar, sidecar.other, "/") == 403, "the policies")
    assert ask(sidecar, web, "/ok?q=1", x_envoy_original_path="/forged") == 200
    assert ask(sidecar, web, "/dry/1") == 200
    assert ask(sidecar, web, "/*") == 200
    assert ask(sidecar, web, "/nope") == 403
    assert ask(sidecar, Client(sidecar.folder), "/plain") == 403
    assert ask(sidecar, web, "/ok", authorization=f"Bearer {ISSUER.token(aud='app', lifetime_s=-600)}") == 401
    assert exchange(web.over_tcp(), sidecar.tcp_port) == b""  # a DENY by path denies connections that have none
    offer(sidecar, MutualTls.STRICT)
    until(lambda: Client(sidecar.folder).refused(sidecar.http_port), "plaintext refused")
    web_rule, allowed = "ns[foo]-policy[web]-rule[0]", {"verdict": "allowed", "by": "ns[foo]-policy[web]-rule[0]"}
    wanted: list[tuple[int, str, dict[str, str]]] = [
        (port, "/", {"caller": OTHER, "verdict": "denied", "by": "none", "method": "GET", "would": ""}),
        (port, "/ok", {"caller": WEB, "would": "", "protocol": "http", **allowed}),
        (port, "/dry/1", {"caller": WEB, "would": "deny:ns[foo]-policy[dry]-rule[0]", **allowed}),
        (port, "?", {"caller": WEB, "by": web_rule}),
        (port, "/nope", {"verdict": "denied", "by": "ns[foo]-policy[nope]-rule[0]"}),
        (port, "/plain", {"caller": PLAIN, "verdict": "denied", "by": "none"}),
        (port, "/ok", {"caller": WEB, "verdict": "denied", "by": "token: Jwt is expired"}),
        (tcp, "", {"caller": WEB, "protocol": "tcp", "verdict": "denied", "by": "ns[foo]-policy[nope]-rule[0]"}),
        (port, "", {"caller": PLAIN, "verdict": "refused", "by": "no filter chain"}),
    ]
    for number, path, parts in wanted:
        until(lambda: table.has(number, path, **parts), f"{number} {path} {parts}: {table.found}")  # noqa: B023
    assert not [path for _, path in table.found if "forged" in path]


def test_what_an_envoy_could_not_say_is_counted_by_it(envoy: Path, tmp_path: Path, authority: Authority) -> None:
    with running(envoy, tmp_path, authority, frozenset()) as sidecar:  # nobody listens
        offer(sidecar, MutualTls.PERMISSIVE)
        until(lambda: ask(sidecar, sidecar.other, "/") == 403, "the policies")
        connection = sidecar.web.http(sidecar.http_port)
        path = "/" + "x" * 4000
        for _ in range(60):
            assert get(connection, path)[0] == 200
        connection.close()

        def written() -> int:
            text = admin(
                sidecar.folder, r"/stats?filter=^access_logs\.grpc_access_log\.(grpc_entries_flushed|logs_dropped)$"
            )
            return sum(int(line.rpartition(": ")[2]) for line in text.splitlines())

        until(lambda: written() >= 30, "what was written and never taken")
