"""Identities are spelt one way, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from gossamer.ca.spiffe import HostId, SpiffeId, check_trust_domain, parse_workload, workload_id
from gossamer.core.errors import IdentityError
from gossamer.model.proxy import Proxy, ProxyType


def test_a_workload_has_the_names_that_the_registry_knows() -> None:
    workload = workload_id(trust_domain="td.example", namespace="prod", service_account="bookinfo", name="reviews-v1")
    proxy = Proxy(
        type=ProxyType.SIDECAR,
        namespace="prod",
        name="reviews-v1",
        service_account="bookinfo",
        trust_domain="td.example",
    )
    assert str(workload.spiffe_id) == proxy.spiffe_id == "spiffe://td.example/ns/prod/sa/bookinfo"
    assert workload.dns_name == proxy.dns_name == "reviews-v1.prod.workload.td.example"
    assert parse_workload(proxy.spiffe_id, proxy.dns_name) == workload


def test_a_host_is_named_too() -> None:
    host = HostId(trust_domain="cluster.local", host="vm-1.example")
    assert str(host) == "spiffe://cluster.local/gossamer/host/vm-1.example"
    assert HostId.parse(str(host)) == host


@pytest.mark.parametrize("name", ["cluster.local", "a", "my_mesh-1.example.com", "10.0.0.1"])
def test_trust_domains(name: str) -> None:
    assert check_trust_domain(name) == name


@pytest.mark.parametrize(
    "name", ["", "Cluster.local", "a/b", "a:443", "a..b", ".a", "a.", "a b", "a\n", "ä", "*", "a%2e", "x" * 256]
)
def test_other_trust_domains_are_refused(name: str) -> None:
    with pytest.raises(IdentityError, match="trust domain"):
        check_trust_domain(name)


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://cluster.local/ns/default/sa/",
        "spiffe://cluster.local/ns//sa/a",
        "spiffe://cluster.local/ns/default/sa/a/",
        "spiffe://cluster.local/ns/default/sa/a/b",
        "spiffe://cluster.local/ns/default/sa/a?x",
        "spiffe://cluster.local/ns/default/sa/a#x",
        "spiffe://cluster.local/ns/default/sa/%61",
        "spiffe://cluster.local/ns/de.fault/sa/a",
        "spiffe://cluster.local/ns/../sa/a",
        "spiffe://cluster.local/ns/*/sa/a",
        "spiffe://cluster.local//ns/default/sa/a",
        "spiffe://cluster.local/sa/a/ns/default",
        "spiffe://cluster.local",
        "spiffe://user@cluster.local/ns/default/sa/a",
        "spiffe://cluster.local:443/ns/default/sa/a",
        "spiffe:///ns/default/sa/a",
        "SPIFFE://cluster.local/ns/default/sa/a",
        "https://cluster.local/ns/default/sa/a",
        "cluster.local/ns/default/sa/a",
        " spiffe://cluster.local/ns/default/sa/a",
        "spiffe://cluster.local/gossamer/host/a",
        "",
    ],
)
def test_nothing_else_is_a_workload(uri: str) -> None:
    with pytest.raises(IdentityError):
        SpiffeId.parse(uri)


@pytest.mark.parametrize(
    "dns_name",
    [
        "reviews.other.workload.cluster.local",  # another namespace
        "reviews.default.workload.example.com",  # another mesh
        "reviews.default.cluster.local",
        ".default.workload.cluster.local",
        "*.default.workload.cluster.local",
        "Reviews.default.workload.cluster.local",
        "control-plane.gossamer-system.svc",
    ],
)
def test_names_that_disagree_are_no_workload(dns_name: str) -> None:
    with pytest.raises(IdentityError):
        parse_workload("spiffe://cluster.local/ns/default/sa/a", dns_name)


def test_a_dotted_workload_name_stays_in_its_namespace() -> None:
    workload = parse_workload("spiffe://cluster.local/ns/default/sa/a", "a.prod.default.workload.cluster.local")
    assert (workload.name, workload.spiffe_id.namespace) == ("a.prod", "default")


@pytest.mark.parametrize(
    ("namespace", "service_account", "name"),
    [("Default", "a", "w"), ("default", "a b", "w"), ("default", "a", "w/x"), ("", "a", "w"), ("x" * 64, "a", "w")],
)
def test_invalid_names_make_no_identity(namespace: str, service_account: str, name: str) -> None:
    with pytest.raises(IdentityError):
        workload_id(trust_domain="cluster.local", namespace=namespace, service_account=service_account, name=name)


def test_a_name_too_long_for_dns_is_refused() -> None:
    with pytest.raises(IdentityError, match="longer than a DNS name"):
        workload_id(trust_domain="cluster.local", namespace="d", service_account="a", name=".".join(["x" * 60] * 4))
