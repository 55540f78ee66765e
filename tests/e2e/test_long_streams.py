"""What an edit does to a stream that lasts longer than Envoy drains: the table of `docs/live-changes.md`, as it is.

A response that drips and a TCP connection go from outside through the gateway to an instance of the mesh while the edit
is made, and are looked at when all that the edit replaced has drained.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from gossamer.node.envoy_settings import DRAIN_SECONDS
from tests.e2e.agreement.world import World, running

BASE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: long, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: [HOSTS]}
    - {port: {number: 31400, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: long, namespace: default}
spec:
  hosts: [long.test]
  gateways: [long]
  http: [{ROUTE}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: lines, namespace: default}
spec:
  hosts: ["*"]
  gateways: [long]
  tcp: [{match: [{port: 31400}], route: [{destination: {host: b.other.svc.cluster.local, port: {number: 9090}}}]}]
"""
FIRST = BASE.replace("HOSTS", "long.test").replace(
    "ROUTE", "route: [{destination: {host: b.other.svc.cluster.local, port: {number: 80}}}]"
)
ELSEWHERE = BASE.replace("HOSTS", "long.test").replace("ROUTE", "route: [{destination: {host: a, port: {number: 80}}}]")
MORE_HOSTS = FIRST.replace("hosts: [long.test]}", "hosts: [long.test, more.test]}")


def _istio(kind: str, spec: str, namespace: str = "other", group: str = "networking") -> str:
    return f"""---
apiVersion: {group}.istio.io/v1
kind: {kind}
metadata: {{name: edit, namespace: {namespace}}}
spec: {spec}
"""


def _policy(spec: str) -> str:
    return _istio("AuthorizationPolicy", spec, group="security")


KEPT: dict[str, str] = {
    "a route that goes elsewhere": ELSEWHERE,
    "a gateway's hosts": MORE_HOSTS,
    "a destination's load balancer": FIRST
    + _istio("DestinationRule", "{host: b, trafficPolicy: {loadBalancer: {simple: RANDOM}}}"),
    "a destination's subsets": FIRST
    + _istio("DestinationRule", "{host: b, subsets: [{name: v1, labels: {version: v1}}]}"),
    "a service that comes": FIRST
    + _istio(
        "ServiceEntry",
        "{hosts: [new.test], ports: [{number: 7000, name: tcp, protocol: TCP}], resolution: STATIC, "
        "endpoints: [{address: 127.0.0.1}]}",
    ),
}
CUT: dict[str, tuple[str, tuple[bool, bool]]] = {
    "the first ALLOW policy, or another": (
        FIRST + _policy("{rules: [{to: [{operation: {ports: ['8080', '9090']}}]}]}"),
        (True, False),
    ),
    "a DENY policy that may concern it": (
        FIRST + _policy("{action: DENY, rules: [{from: [{source: {namespaces: [x]}}]}]}"),
        (False, False),
    ),
    "another mode of mutual TLS": (
        FIRST + _istio("PeerAuthentication", "{mtls: {mode: STRICT}}", group="security"),
        (False, False),
    ),
}
"""What is left of the response and of the connection."""


@dataclass(slots=True, kw_only=True)
class Streams:
    """A response under way, and a TCP connection."""

    http: socket.socket
    tcp: socket.socket

    def alive(self) -> tuple[bool, bool]:
        """Whether each of them still is."""
        return _drips(self.http), _answers(self.tcp)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running() as found:
        yield found


def _open(world: World) -> Streams:
    http = socket.create_connection(("127.0.0.1", world.ports[80]), 5)
    http.sendall(b"GET /-/drip HTTP/1.1\r\nhost: long.test\r\n\r\n")
    assert http.recv(4096).startswith(b"HTTP/1.1 200")
    return Streams(http=http, tcp=socket.create_connection(("127.0.0.1", world.ports[31400]), 5))


def _drips(stream: socket.socket) -> bool:
    stream.setblocking(False)
    try:
        while stream.recv(65536):
            pass
    except BlockingIOError:
        stream.settimeout(1)
        return bool(stream.recv(1))
    except OSError:
        pass
    return False


def _answers(stream: socket.socket) -> bool:
    try:
        stream.sendall(b"hello\n")
        return stream.recv(100).endswith(b"hello\n")
    except OSError:
        return False


def test_edits_that_cut_nothing(world: World) -> None:
    world.apply(FIRST)
    time.sleep(0.5)
    streams = _open(world)
    with closing(streams.http), closing(streams.tcp):
        for edit, config in KEPT.items():
            world.apply(config)
            assert streams.alive() == (True, True), edit
        time.sleep(DRAIN_SECONDS + 2)
        assert streams.alive() == (True, True)


@pytest.mark.parametrize("edit", CUT)
def test_edits_that_cut_what_lasts_longer_than_the_drain(world: World, edit: str) -> None:
    config, left = CUT[edit]
    world.apply(FIRST)
    time.sleep(0.5)
    streams = _open(world)
    with closing(streams.http), closing(streams.tcp):
        assert streams.alive() == (True, True)
        world.apply(config)
        time.sleep(0.5)
        assert streams.alive() == (True, True)  # there is time to end
        time.sleep(DRAIN_SECONDS + 2)
        assert streams.alive() == left
