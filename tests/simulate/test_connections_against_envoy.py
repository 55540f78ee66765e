"""Filter chains, handshakes and network policies: the simulator beside the Envoy that ships with the project."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gossamer.ca.authority import Authority
from gossamer.ca.folder import open_authority
from gossamer.ca.issue import issue
from gossamer.ca.spiffe import workload_id
from gossamer.simulate.outcome import Outcome
from gossamer.simulate.request import Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.simulator import Simulator
from tests.simulate import build, real_envoy
from tests.simulate.build import Json, chain, direct, host, manager, policy, rbac, table, typed

pytestmark = pytest.mark.envoy

NAMES = ("names", "transport", "demands", "asks", "plain", "network", "identity", "server-alpn")
FRIEND, STRANGER = "friend", "stranger"
"""Workloads with a certificate of the authority that the listeners trust, and with one of another."""


@dataclass(frozen=True, slots=True)
class World:
    """The listeners in Envoy and in the simulator, and what clients show."""

    ports: dict[str, int]
    simulator: Simulator
    folder: Path

    def real(self, name: str, tls: Tls | None, who: str = "", path: str = "/") -> str:
        """What Envoy answers: the name of the route, `403`, or nothing for a connection that fails."""
        answer = real_envoy.get(
            self.ports[name],
            path,
            tls=self._context(tls, who) if tls is not None else None,
            server_name=tls.server_name if tls is not None else "",
        )
        return answer.body if answer.status == 200 else str(answer.status or "")

    def said(self, name: str, tls: Tls | None, path: str = "/") -> str:
        """The same of the simulator."""
        outcome = self.outcome(name, tls, path)
        if outcome.transport == "tls passthrough":
            return ""  # an answer in plaintext is none to a client that waits for a handshake
        if outcome.status == 200 and outcome.route is not None:
            return outcome.route.name
        return str(outcome.status or "")

    def outcome(self, name: str, tls: Tls | None, path: str = "/") -> Outcome:
        request = Request(
            arrival=Arrival.DIRECT,
            destination=Address(ip="127.0.0.1", port=self.ports[name]),
            tls=tls,
            http=HttpRequest(authority="a.example", path=path),
        )
        return self.simulator.simulate(request)

    def _context(self, tls: Tls, who: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if tls.alpn:
            context.set_alpn_protocols(list(tls.alpn))
        if who:
            context.load_cert_chain(self.folder / who / "cert.pem", self.folder / who / "key.pem")
        return context


def _tls(folder: Path, *, require: bool | None, alpn: list[str] | None = None, sans: list[Json] | None = None) -> Json:
    """A transport socket; `require` None asks for no certificate."""
    server = folder / "server"
    common: Json = {
        "alpn_protocols": alpn or [],
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(server / "cert.pem")},
                "private_key": {"filename": str(server / "key.pem")},
            }
        ],
    }
    if require is not None:
        roots = {"trusted_ca": {"filename": str(server / "root.pem")}}
        common["validation_context"] = {**roots, "match_typed_subject_alt_names": sans or []}
    kind = "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    config = typed(kind, common_tls_context=common, require_client_certificate=bool(require))
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _named(name: str) -> list[Json]:
    return [manager(table(host("all", ["*"], [direct(name)])))]


def _listeners(ports: dict[str, int], folder: Path) -> list[Json]:
    open_tls: Json = {"transport_socket": _tls(folder, require=None, alpn=["h2", "http/1.1"])}
    wishes: dict[str, Json] = {
        "exact": {"server_names": ["a.example"]},
        "wild": {"server_names": ["*.example"]},
        "deep": {"server_names": ["*.deep.example"]},
        "mixed": {"server_names": ["Upper.example", "b.example"], "transport_protocol": "tls"},
        "alpn-of-c": {"server_names": ["c.example"], "application_protocols": ["one", "two"]},
        "any-of-c": {"server_names": ["c.example"]},
    }
    by_name = [chain(_named(name), match, **open_tls) for name, match in wishes.items()]
    by_transport = [
        chain(_named("tls-mesh"), {"transport_protocol": "tls", "application_protocols": ["istio"]}, **open_tls),
        chain(_named("tls-any"), {"transport_protocol": "tls"}, **open_tls),
        chain(_named("http"), {"application_protocols": ["http/1.1"], "transport_protocol": "raw_buffer"}),
        chain(_named("raw"), {"transport_protocol": "raw_buffer"}),
    ]
    san = [{"san_type": "URI", "matcher": {"prefix": "spiffe://mesh.example/ns/default/"}}]
    demands = _tls(folder, require=True, sans=san)
    identity = rbac(_identities(), "ALLOW")
    routes = table(host("all", ["*"], [direct("in")]))
    chains = {
        "names": by_name,
        "transport": by_transport,
        "demands": [chain(_named("in"), transport_socket=demands)],
        "asks": [chain([manager(routes, [identity])], transport_socket=_tls(folder, require=False))],
        "plain": [chain([manager(routes, [identity])])],
        "network": [chain([_network_rbac(), *_named("in")], transport_socket=_tls(folder, require=True))],
        "identity": [chain([manager(routes, [identity])], transport_socket=_tls(folder, require=True))],
        "server-alpn": [chain(_named("in"), transport_socket=_tls(folder, require=None, alpn=["http/1.1"]))],
    }
    filters = [build.inspector("tls"), build.inspector("http")]
    return [
        build.listener(
            ports[name],
            found,
            name=name,
            listener_filters=filters,
            default_filter_chain=chain(_named("default")) if name == "names" else None,
        )
        for name, found in chains.items()
    ]


def _identities() -> Json:
    """Who is let in at which path."""

    def at(path: str, principal: Json) -> Json:
        return policy({"url_path": {"path": {"exact": path}}}, principal)

    named = {"authenticated": {"principal_name": {"exact": "spiffe://mesh.example/ns/default/sa/friend"}}}
    return {
        "anyone": at("/anyone", {"any": True}),
        "authenticated": at("/authenticated", {"authenticated": {}}),
        "dns": at("/dns", {"authenticated": {"principal_name": {"exact": "friend.default.workload.mesh.example"}}}),
        "friend": at("/friend", named),
        "not-friend": at("/not-friend", {"not_id": named}),
        "nobody": at("/nobody", {"authenticated": {"principal_name": {"exact": ""}}}),
        "sni": policy({"requested_server_name": {"exact": "sni.example"}}),
    }


def _network_rbac() -> Json:
    named = {"authenticated": {"principal_name": {"suffix": "/sa/friend"}}}
    kind = "extensions.filters.network.rbac.v3.RBAC"
    rules = {"action": "ALLOW", "policies": {"friends": policy(None, named)}}
    return {"name": "rbac", "typed_config": typed(kind, stat_prefix="t.", rules=rules)}


def _issue(authority: Authority, folder: Path, account: str) -> None:
    identity = workload_id(trust_domain="mesh.example", namespace="default", service_account=account, name=account)
    issue(authority, identity, folder, now=datetime.now(UTC), lifetime=timedelta(hours=1))


@pytest.fixture(scope="module")
def world(envoy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("envoy")
    now = datetime.now(UTC)
    authority = open_authority(folder / "ca", "mesh.example", now)
    for account in ("server", FRIEND, "other"):
        _issue(authority, folder / account, account)
    _issue(open_authority(folder / "other-ca", "mesh.example", now), folder / STRANGER, FRIEND)
    ports = dict(zip(NAMES, real_envoy.free_ports(len(NAMES)), strict=True))
    listeners = _listeners(ports, folder)
    with real_envoy.serving(envoy, folder, listeners):
        yield World(ports, Simulator(build.resources(listeners=listeners)), folder)


def shown(account: str, *, trusted: bool = True) -> Certificate:
    return Certificate(
        uris=(f"spiffe://mesh.example/ns/default/sa/{account}",),
        dns_names=(f"{account}.default.workload.mesh.example",),
        trusted=trusted,
    )


CLIENTS: dict[str, tuple[str, Certificate | None]] = {
    "nobody": ("", None),
    FRIEND: (FRIEND, shown(FRIEND)),
    "other": ("other", shown("other")),
    STRANGER: (STRANGER, shown(FRIEND, trusted=False)),
}


def test_chains_by_server_name(world: World) -> None:
    names = ("a.example", "x.example", "x.y.example", "x.deep.example", "deep.example", "example", "b.example")
    for name in (*names, "upper.example", "Upper.example", "A.EXAMPLE", "c.example", "d.test"):
        for alpn in ((), ("two",), ("zero", "two", "one"), ("zero",)):
            tls = Tls(server_name=name, alpn=alpn)
            assert world.said("names", tls) == world.real("names", tls), (name, alpn)
    assert world.said("names", None) == world.real("names", None) == "default"


def test_chains_by_what_is_spoken(world: World) -> None:
    for alpn in ((), ("istio",), ("http/1.1",), ("h9", "istio"), ("istio", "h9")):
        tls = Tls(server_name="a.example", alpn=alpn)
        assert world.said("transport", tls) == world.real("transport", tls), alpn
    assert world.said("transport", None) == world.real("transport", None) == "http"


@pytest.mark.parametrize("listener", ["demands", "asks", "plain", "network", "identity", "server-alpn"])
@pytest.mark.parametrize("client", CLIENTS)
def test_who_is_let_in(world: World, listener: str, client: str) -> None:
    who, certificate = CLIENTS[client]
    paths = ("/anyone", "/authenticated", "/dns", "/friend", "/not-friend", "/nobody", "/sni")
    tls = Tls(server_name="sni.example", certificate=certificate)
    for path in paths:
        assert world.said(listener, tls, path) == world.real(listener, tls, who, path), path
        if client == "nobody":
            assert world.said(listener, None, path) == world.real(listener, None, "", path), path
