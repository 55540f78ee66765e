"""A real Envoy's answers to name lookups, from what is compiled for a workload."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gossamer.model.proxy import Capture
from tests.compile.compiled import SIDECAR, compiled, istio, service, workload

pytestmark = pytest.mark.envoy

A, AAAA = 1, 28
NOERROR = 0
DOCUMENTS = (
    service("web", extra="clusterIP: 10.0.0.1"),
    service("db", "{name: tcp, port: 5432}", extra="clusterIP: None"),
    istio(
        "ServiceEntry",
        "wild",
        "  hosts: ['*.wild.com']\n  addresses: [10.0.0.7]\n  resolution: STATIC\n  endpoints: [{address: 10.9.9.9}]\n"
        "  ports: [{number: 80, name: http, protocol: HTTP}]",
    ),
    istio("ServiceEntry", "six", "  hosts: [six.com]\n  addresses: ['fd00::6']\n  ports: [{number: 1, name: t}]"),
)


@dataclass(frozen=True, slots=True)
class Resolver:
    """A DNS server on the loopback."""

    port: int

    def ask(self, name: str, kind: int) -> tuple[int, list[str]]:
        """The response code, and the addresses in the answer."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.sendto(query, ("127.0.0.1", self.port))
            reply = client.recv(4096)
        _, flags, _, count, _, _ = struct.unpack(">HHHHHH", reply[:12])
        found, rest, size = [], reply[len(query) :], 4 if kind == A else 16
        for _ in range(count):
            start = rest.index(struct.pack(">HH", kind, 1)) + 10
            found.append(str(ipaddress.ip_address(rest[start : start + size])))
            rest = rest[start + size :]
        return flags & 15, found


@pytest.fixture(scope="module")
def resolver(envoy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolver]:
    proxy = replace(SIDECAR, capture=Capture(dns=True))
    listener = compiled(*DOCUMENTS, proxy=proxy, registrations=(workload("db-0", app="db"),)).listener("dns")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listener["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": port}
    path = tmp_path_factory.mktemp("dns") / "envoy.json"
    path.write_text(json.dumps({"node": {"id": "a", "cluster": "a"}, "static_resources": {"listeners": [listener]}}))
    command = [str(envoy), "-c", str(path), "--use-dynamic-base-id", "-l", "error"]
    with subprocess.Popen(command) as process:
        try:
            found = Resolver(port)
            _wait(found)
            yield found
        finally:
            process.terminate()


def _wait(resolver: Resolver) -> None:
    for _ in range(100):
        try:
            resolver.ask("web.default.svc.cluster.local", A)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("Envoy answers no lookups")


def test_a_name_with_an_address_of_ipv4_exists_for_those_who_ask_for_ipv6(resolver: Resolver) -> None:
    for name in ("web", "web.default.svc.cluster.local"):
        assert resolver.ask(name, A) == (NOERROR, ["10.0.0.1"])
        assert resolver.ask(name, AAAA) == (NOERROR, [str(ipaddress.ip_address("::ffff:10.0.0.1"))])


def test_instances_of_a_headless_service(resolver: Resolver) -> None:
    code, (address,) = resolver.ask("db-0.db.default.svc.cluster.local", A)
    assert (code, address.startswith("240.240.")) == (NOERROR, True)
    assert resolver.ask("db", A) == (NOERROR, [address])


def test_names_under_a_wildcard(resolver: Resolver) -> None:
    assert resolver.ask("en.wild.com", A) == (NOERROR, ["10.0.0.7"])


def test_an_address_of_ipv6_stands_for_itself(resolver: Resolver) -> None:
    assert resolver.ask("six.com", AAAA) == (NOERROR, ["fd00::6"])
