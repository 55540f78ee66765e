"""Services out of Kubernetes Services and ServiceEntries: protocols, addresses, who sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossamer.core.memo import Memo
from gossamer.model.protocols import declared_protocol, kubernetes_protocol
from gossamer.model.service import Protocol, Resolution
from tests.compile.compiled import SIDECAR, build, compiled, istio, service


@pytest.mark.parametrize(
    ("number", "name", "app_protocol", "transport", "expected"),
    [
        (80, "http", "", "TCP", Protocol.HTTP),
        (80, "http2-foo", "", "TCP", Protocol.HTTP2),
        (80, "grpc-web-x", "", "TCP", Protocol.GRPC_WEB),
        (80, "grpc-x", "", "TCP", Protocol.GRPC),
        (80, "web", "", "TCP", Protocol.AUTO),
        (80, "", "", "TCP", Protocol.AUTO),
        (80, "tcp-web", "http", "TCP", Protocol.HTTP),
        (80, "http", "https", "TCP", Protocol.HTTPS),
        (80, "", "kubernetes.io/h2c", "TCP", Protocol.HTTP2),
        (80, "http", "example.com/custom", "TCP", Protocol.AUTO),
        (53, "http", "", "UDP", Protocol.UDP),
        (3306, "", "", "TCP", Protocol.TCP),
        (3306, "http", "", "TCP", Protocol.HTTP),
    ],
)
def test_protocol_of_a_kubernetes_port(
    number: int, name: str, app_protocol: str, transport: str, expected: Protocol
) -> None:
    assert kubernetes_protocol(number, name, app_protocol, transport) is expected


def test_protocol_of_a_declared_port() -> None:
    assert declared_protocol("http2") is Protocol.HTTP2
    assert declared_protocol("GRPC-Web") is Protocol.GRPC_WEB
    assert declared_protocol("") is Protocol.AUTO


def entry(name: str, host: str, more: str = "", **metadata: str) -> str:
    created = f', creationTimestamp: "{metadata["created"]}"' if "created" in metadata else ""
    more += "" if "endpoints" in more else "\n  endpoints: [{address: 10.9.9.9}]"
    spec = f"  hosts: [{host}]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n{more}"
    return istio("ServiceEntry", name, spec, namespace=metadata.get("namespace", "default"), metadata=created)


def test_addresses_are_given_by_hostname_alone() -> None:
    one = build(entry("a", "a.com"), entry("b", "b.com")).mesh.services
    other = build(
        entry("s3", "b.com"), entry("s2", "a.com"), entry("s1", "c.com", "  addresses: [10.0.0.1]")
    ).mesh.services
    found = {s.hostname: s.allocated for s in one.all}
    again = {s.hostname: s.allocated for s in other.all}
    assert found["a.com"] == again["a.com"]
    assert found["b.com"] == again["b.com"]
    assert found["a.com"].startswith("240.240.")
    assert found["a.com"] != found["b.com"]
    assert again["c.com"] == "", "one that has an address is given none"


def test_colliding_addresses_move_on_and_declared_ones_are_kept_free() -> None:
    many = [entry(f"s{number}", f"s{number}.com") for number in range(2000)]
    first = build(*many).mesh.services.all
    addresses = [s.allocated for s in first]
    assert len(set(addresses)) == 2000
    declared = build(*many, entry("fixed", "fixed.com", f"  addresses: [{addresses[0]}]")).mesh.services.all
    assert addresses[0] not in [s.allocated for s in declared]


def test_what_never_gets_an_address() -> None:
    found = build(
        istio(
            "ServiceEntry",
            "none",
            "  hosts: [none.com]\n  resolution: NONE\n  ports: [{number: 1, name: t, protocol: TCP}]",
        ),
        istio("ServiceEntry", "w", "  hosts: ['*.w.com']\n  ports: [{number: 1, name: t, protocol: TCP}]"),
        service("alias", extra="type: ExternalName\n  externalName: none.com"),
    ).mesh.services.all
    assert [s.allocated for s in found] == ["", "", ""]


def test_declarations_of_one_host_in_one_namespace_are_one_service() -> None:
    found = build(
        entry("younger", "a.com", "  addresses: [10.0.0.2]", created="2021-01-01T00:00:00Z"),
        entry("older", "a.com", "  addresses: [10.0.0.1]", created="2020-01-01T00:00:00Z"),
    ).mesh.services.all
    assert [(s.hostname, s.name, s.addresses) for s in found] == [("a.com", "older", ("10.0.0.1", "10.0.0.2"))]


def test_networks_are_spelt_one_way() -> None:
    spec = "  hosts: [a.com]\n  addresses: ['1234:1f1:123:123::2287/32', 10.1.2.3/32]\n  ports: [{number: 1, name: t}]"
    (found,) = build(istio("ServiceEntry", "a", spec)).mesh.services.all
    assert found.addresses == ("1234:1f1::/32", "10.1.2.3")


def test_an_external_name_is_an_alias() -> None:
    (found,) = build(service("alias", extra="type: ExternalName\n  externalName: Real.com.")).mesh.services.all
    assert (found.resolution, found.alias_of) == (Resolution.ALIAS, "real.com")


def test_unchanged_services_are_the_same_objects() -> None:
    memo = Memo()
    before = build(service("a"), service("b"), memo=memo).mesh
    after = build(service("a"), service("b"), service("c"), memo=memo).mesh
    assert after.services.all[0] is before.services.all[0]
    assert after.destinations is before.destinations


def test_endpoints_are_no_part_of_the_mesh() -> None:
    memo = Memo()
    one = build(entry("a", "a.com", "  endpoints: [{address: 10.0.0.1}]"), memo=memo)
    other = build(entry("a", "a.com", "  endpoints: [{address: 10.0.0.2}]"), memo=memo)
    assert one.mesh is other.mesh
    assert one.endpoints is not other.endpoints


@pytest.mark.parametrize("registered", [False, True])
def test_a_proxy_of_a_host_calls_no_unix_socket(registered: bool) -> None:
    entry = istio(
        "ServiceEntry",
        "db",
        """
  hosts: [db.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: "unix:///run/agent.sock"}, {address: 10.0.0.1}]
""",
    )
    found = compiled(entry, proxy=replace(SIDECAR, binds_paths=not registered))
    assert ("/run/agent.sock" in str(found.json())) is not registered
    assert "10.0.0.1" in str(found.json())


def test_a_service_that_is_exported_elsewhere_alone_is_not_seen_at_home() -> None:
    lent = istio(
        "ServiceEntry", "lent", "  hosts: [lent.com]\n  ports: [{number: 80, name: http}]\n  exportTo: [other]"
    )
    seen = {
        namespace: [one.service.hostname for one in compiled(lent, proxy=proxy).view.outbound.services]
        for namespace, proxy in (("default", SIDECAR), ("other", replace(SIDECAR, namespace="other")))
    }
    assert seen == {"default": [], "other": ["lent.com"]}
