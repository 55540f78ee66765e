"""Real TLS clients, and clients without TLS, straight at a sidecar's door: who gets in, and as whom; and what a client
with a good certificate gets of the control plane."""

from __future__ import annotations

import json
import ssl
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from gossamer.ca.authority import Authority
from gossamer.ca.folder import open_authority
from gossamer.core.resources import CLUSTER, LISTENER, SECRET
from gossamer.xds.codec import METHOD
from tests.e2e.monitor.identities import (
    HTTP_ALPN,
    TCP_ALPN,
    another_authority,
    client,
    expired,
    issue,
    issued_by_a_leaf,
)
from tests.e2e.monitor.raw import Said, converse
from tests.e2e.monitor.world import DOOR, MALLORY, WEB, World

HELLO = b"GET /hello HTTP/1.1\r\nhost: web.default\r\nconnection: close\r\n\r\n"
ADMIN = b"GET /admin HTTP/1.1\r\nhost: web.default\r\nconnection: close\r\n\r\n"
SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture(scope="module")
def authority(world: World) -> Authority:
    """The mesh's own, whose key is on its host."""
    return open_authority(world.place.root / "plane" / "ca", "cluster.local", datetime.now(UTC))


def _door(world: World, workload: str = WEB) -> tuple[str, int]:
    row = world.place.row(workload)
    return row["mesh_address"], row["mesh_ports"]["8080"]


def _say(world: World, data: bytes, tls: ssl.SSLContext | None, workload: str = WEB) -> Said:
    """What comes of it; nothing, closed, for a handshake that fails."""
    host, port = _door(world, workload)
    try:
        return converse(port, data, host=host, tls=tls)
    except OSError:
        return Said(data=b"", closed=True)


def test_only_certificates_of_the_mesh_open_a_sidecar(world: World, authority: Authority) -> None:
    known = len(world.seen())
    mallory = issue(authority, "evil", "mallory")
    with another_authority() as stranger:
        forged = issue(stranger, "edge", "door")
    refused = {
        "no certificate": None,
        "another authority, with the door's name": forged,
        "an expired one": expired(authority, "edge", "door"),
        "another trust domain, signed by this authority": issue(authority, "edge", "door", trust_domain="evil.test"),
        "one that a workload has signed": issued_by_a_leaf(mallory, "edge", "door"),
    }
    for what, pair in refused.items():
        for alpn in (HTTP_ALPN, TCP_ALPN, ("h2", "http/1.1")):
            said = _say(world, HELLO, client(pair, alpn))
            assert (said.data, said.closed) == (b"", True), (what, alpn)
    assert _say(world, HELLO, client(issue(authority, "edge", "door"))).statuses == [200], "the counterpart"
    assert _say(world, HELLO, client(mallory)).statuses == [200]
    assert _say(world, HELLO, client(issue(authority, "evil", "nobody"))).statuses == [403], (
        "who is not let in by policy"
    )
    assert _say(world, ADMIN, client(mallory)).statuses == [403]
    assert len([one for one in world.seen()[known:] if "/hello" in one or "/admin" in one]) == 2


def test_nothing_is_said_in_plaintext_or_in_an_old_tls(world: World, authority: Authority) -> None:
    known = len(world.seen())
    for data in (
        HELLO,
        SETTINGS,
        b"\x16\x03\x01\x00\x05hello",
        b"\r\n" + HELLO,
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + HELLO,
    ):
        said = _say(world, data, None)
        assert (said.statuses, said.closed) == ([], True), data
    good = issue(authority, "edge", "door")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that these versions are old is the point
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            assert _say(world, HELLO, client(good, newest=version)).data == b""
    assert _say(world, HELLO, client(good, newest=ssl.TLSVersion.TLSv1_2)).statuses == [200]
    assert len([one for one in world.seen()[known:] if "/hello" in one]) == 1


def test_a_client_that_says_it_speaks_no_http_evades_no_rule_on_paths(world: World, authority: Authority) -> None:
    """On a port whose protocol is found out, by what the client says in its handshake, and on one of HTTP."""
    good = issue(authority, "edge", "door")
    requests = (ADMIN, b"\r\n" + ADMIN, b"GET  /admin HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /admin HTTP/0.9\r\n\r\n")
    protocols = (HTTP_ALPN, TCP_ALPN, ("istio",), ("h2",), ("http/1.1",), ("nothing",), ())
    asked = [*product((WEB, MALLORY), protocols, requests)]
    for workload in (WEB, MALLORY):
        assert _say(world, HELLO, client(good), workload).statuses == [200], "the counterpart"
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda one: _say(world, one[2], client(good, one[1]), one[0]), asked)
    for one, said in zip(asked, answers, strict=True):
        assert not {*said.statuses} - {400, 403, 426}, (one, said)
        assert b'"head"' not in said.data, (one, said)


def test_a_client_is_who_its_certificate_says_whatever_its_headers_say(world: World, authority: Authority) -> None:
    claim = (
        'By=spiffe://cluster.local/ns/default/sa/web;Hash=00;Subject="";URI=spiffe://cluster.local/ns/edge/sa/door;'
        "DNS=door.edge.workload.cluster.local"
    )
    forged = {
        "x-forwarded-client-cert": claim,
        "X-Forwarded-Client-Cert": claim,
        "x-envoy-internal": "true",
        "x-envoy-original-dst-host": "127.0.0.1:1",
        "x-envoy-original-path": "/admin",
        "x-envoy-peer-metadata-id": "door",
        "x-original-url": "/admin",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in forged.items()).encode()
    mine = "URI=spiffe://cluster.local/ns/evil/sa/mallory"
    said = _say(world, HELLO[:-2] + lines + b"\r\n", client(issue(authority, "evil", "mallory")))
    head = json.loads(said.data.partition(b"\r\n\r\n")[2])["head"]
    # who holds a workload's key may claim what it likes of those before it, and nothing of itself: the last is true
    assert _certificates(head)[-1] == mine, "straight at the sidecar"
    through = world.get("/hello", forged)
    assert _certificates(json.loads(through.body)["head"]) == ["URI=spiffe://cluster.local/ns/edge/sa/door"], (
        "by the door"
    )
    code = "import urllib.request as u; print(u.urlopen(u.Request(url, headers=forged)).read().decode())"
    assert _certificates(json.loads(world.mallory(code, forged=forged, url="http://web.default/hello"))["head"]) == [
        mine
    ], "by its own sidecar"
    for header in ("x-envoy-original-path", "x-original-url"):
        assert world.get("/admin", {header: "/hello"}).status == 403


def _certificates(head: str) -> list[str]:
    """The callers that an application is told of."""
    lines = [line for line in head.split("\r\n") if line.lower().startswith("x-forwarded-client-cert:")]
    return [part for line in lines for part in line.partition(": ")[2].split(";") if part.startswith("URI=")]


def test_a_good_certificate_gets_its_own_configuration_and_nobody_elses(world: World, authority: Authority) -> None:
    """Whatever node it says that it is, and whatever names it asks for."""
    names = {LISTENER: "*", CLUSTER: "*", SECRET: "*"}
    door, web = (
        _ask(world, issue(authority, "edge", "door"), names),
        _ask(world, issue(authority, "default", "web"), names),
    )
    assert any("door" in name for name in door[SECRET]), door
    assert not web[SECRET]
    pair = issue(authority, "evil", "mallory")
    own = _ask(world, pair, names)
    assert own[LISTENER] != web[LISTENER]
    for node in (DOOR, WEB):
        told = _ask(world, pair, names, node=node)
        assert told == own, node
    wanted = {SECRET: [*door[SECRET]], LISTENER: [*door[LISTENER], *web[LISTENER]]}
    named = _ask(world, pair, wanted, node=DOOR)
    assert not any(b"PRIVATE KEY" in value for kind in named.values() for value in kind.values())
    assert not [name for name, value in named[SECRET].items() if value]
    ours = {name: value for name, value in named[LISTENER].items() if value}
    assert ours.items() <= own[LISTENER].items(), "of what has the same name it gets its own"


def test_without_a_good_certificate_there_is_no_configuration(world: World, authority: Authority) -> None:
    with another_authority() as stranger:
        forged = issue(stranger, "edge", "door")
    bad = (
        forged,
        expired(authority, "edge", "door"),
        issue(authority, "edge", "door", trust_domain="evil.test"),
        issued_by_a_leaf(issue(authority, "evil", "mallory"), "edge", "door"),
        None,
    )
    for number, pair in enumerate(bad):
        assert not any(_ask(world, pair, {LISTENER: "*", SECRET: "*"}, seconds=1.5).values()), number
    # good, and of nobody whom a host has registered: a client of its namespace, who serves nothing
    unknown = _ask(world, issue(authority, "edge", "nobody"), {LISTENER: "*", SECRET: "*"})
    assert not unknown[SECRET]
    assert b"inbound|8080" not in b"".join(unknown[LISTENER].values())


def _ask(
    world: World,
    pair: tuple[bytes, bytes] | None,
    wanted: Mapping[str, str | list[str]],
    *,
    node: str = MALLORY,
    seconds: float = 3.0,
) -> dict[str, dict[str, bytes]]:
    """What the control plane sends of these types (names, or all) to a client that calls itself `node`."""
    found: dict[str, dict[str, bytes]] = {kind: {} for kind in wanted}
    roots = (world.place.root / "plane" / "ca" / "root-cert.pem").read_bytes()
    chain, key = pair or (None, None)
    credentials = grpc.ssl_channel_credentials(roots, key, chain)
    requests = []
    for kind, names in wanted.items():
        request = DeltaDiscoveryRequest(type_url=kind, resource_names_subscribe=["*"] if names == "*" else names)
        namespace, _, name = node.partition("/")
        request.node.id = f"sidecar~127.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local"
        request.node.cluster = f"{name}.{namespace}"
        request.node.metadata.update({"NAMESPACE": namespace, "NAME": name, "WORKLOAD_NAME": name})
        requests.append(request)
    with grpc.secure_channel(f"127.0.0.1:{world.plane.xds}", credentials) as channel:
        for request in requests:
            call = channel.stream_stream(
                METHOD,
                request_serializer=DeltaDiscoveryRequest.SerializeToString,
                response_deserializer=DeltaDiscoveryResponse.FromString,
            )(iter([request]), timeout=seconds)
            try:
                for response in call:
                    found[request.type_url].update(
                        {one.name: one.resource.SerializeToString(deterministic=True) for one in response.resources}
                    )
            except grpc.RpcError as error:
                print(node, error)
    return found
