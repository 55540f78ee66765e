"""Who a proxy is, and what it is told when something changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, Resource, Resources, Table
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.plane.proxies import REGISTERS, Proxies, Subscription
from gossamer.sources.registry import Registration, registration_of
from gossamer.xds.codec import Node
from gossamer.xds.service import Peer
from tests.plane.running import TRUST_DOMAIN, reviews

URI = "spiffe://cluster.local/ns/default/sa/reviews"
DNS = "reviews-v1.default.workload.cluster.local"
KEY = ("default", "reviews-v1")
LIAR = "router~10.9.9.9~liar.other~other"
"""A node id that claims to be somebody else: it must not matter."""


def named(version: str) -> Resources:
    resource = Resource(type_url=CLUSTER, name="a", version=version, body=b"")
    return Resources(tables=FrozenMap({CLUSTER: (Table(CLUSTER, [resource]),)}))


class Plane:
    """Proxies, with a registry and a compiler that tests set."""

    def __init__(self) -> None:
        self.registrations: FrozenMap[tuple[str, str], Registration] = FrozenMap()
        self.compiled: list[Proxy] = []
        self.give: Callable[[Proxy], Resources | None] = lambda _: named("1")
        self.proxies = Proxies(TRUST_DOMAIN, lambda: self.registrations, self._compile)

    def _compile(self, proxy: Proxy) -> Resources | None:
        self.compiled.append(proxy)
        return self.give(proxy)

    def register(self, **fields: object) -> Registration:
        registration = registration_of("host-a", reviews(**fields), TRUST_DOMAIN)  # type: ignore[arg-type]
        self.registrations = FrozenMap({KEY: registration})
        return registration

    def connect(
        self, *, uris: tuple[str, ...] = (URI,), dns_names: tuple[str, ...] = (DNS,), node: str = LIAR
    ) -> Subscription:
        peer = Peer(address="ipv4:127.0.0.1:1", uris=uris, dns_names=dns_names)
        return asyncio.run(self.proxies.authorize(peer, Node(id=node, cluster="liar")))


def test_a_workload_that_is_not_registered_is_known_by_its_certificate_alone() -> None:
    plane = Plane()
    assert plane.connect().name == "default/reviews-v1"
    (proxy,) = plane.compiled
    assert (proxy.type, proxy.namespace, proxy.name) == (ProxyType.SIDECAR, "default", "reviews-v1")
    assert (proxy.spiffe_id, proxy.labels, proxy.addresses) == (URI, FrozenMap(), ())


def test_a_registered_one_is_what_its_host_said_of_it() -> None:
    plane = Plane()
    registration = plane.register(type=2)
    assert plane.connect().proxy == registration.proxy
    assert plane.compiled[0].type is ProxyType.ROUTER
    assert plane.compiled[0].labels == {"app": "reviews"}


@pytest.mark.parametrize(
    ("uris", "dns_names", "reason"),
    [
        ((), (), "needs a workload's certificate"),
        ((URI,), (), "needs a workload's certificate"),
        ((URI, URI.replace("reviews", "ratings")), (DNS,), "needs a workload's certificate"),
        ((URI,), (DNS, DNS.replace("v1", "v2")), "needs a workload's certificate"),
        ((URI,), ("reviews-v1.other.workload.cluster.local",), "does not name a workload of"),
        ((URI,), ("reviews.example.com",), "does not name a workload of"),
        (("spiffe://cluster.local/gossamer/host/host-a",), (DNS,), "is not a workload's identity"),
        (("https://cluster.local/ns/default/sa/reviews",), (DNS,), "is not a SPIFFE ID"),
        (
            ("spiffe://elsewhere/ns/default/sa/reviews",),
            ("reviews-v1.default.workload.elsewhere",),
            "not of this mesh's trust domain",
        ),
    ],
)
def test_whoever_is_not_exactly_one_workload_of_this_mesh_gets_nothing(
    uris: tuple[str, ...], dns_names: tuple[str, ...], reason: str
) -> None:
    plane = Plane()
    with pytest.raises(IdentityError, match=reason):
        plane.connect(uris=uris, dns_names=dns_names)
    assert plane.compiled == []


def test_nobody_takes_the_name_of_a_workload_with_another_account() -> None:
    plane = Plane()
    plane.register()
    with pytest.raises(IdentityError, match="is registered as"):
        plane.connect(uris=(URI.replace("sa/reviews", "sa/ratings"),))
    assert plane.compiled == []


def test_without_configuration_a_proxy_is_asked_to_come_again() -> None:
    plane = Plane()
    plane.give = lambda _: None
    with pytest.raises(UnavailableError):
        plane.connect()
    plane.give = lambda _: named("1")
    assert asyncio.run(plane.proxies.refresh()).changed == 0  # it is not remembered either
    assert plane.connect().latest.value == named("1")


def test_whose_agent_registers_it_is_told_nothing_before() -> None:
    plane = Plane()
    with pytest.raises(UnavailableError, match="is not registered yet"):
        plane.connect(node=f"{REGISTERS}reviews-v1")
    registration = plane.register()
    assert plane.connect(node=f"{REGISTERS}reviews-v1").proxy == registration.proxy


def test_a_proxy_that_cannot_be_compiled_for_is_its_own_trouble(caplog: pytest.LogCaptureFixture) -> None:
    plane = Plane()
    first = plane.connect()
    second = plane.connect(uris=(URI.replace("reviews", "ratings"),), dns_names=(DNS.replace("reviews", "ratings"),))

    def give(proxy: Proxy) -> Resources:
        if proxy.name == "reviews-v1":
            raise ZeroDivisionError
        return named("2")

    plane.give = give
    assert asyncio.run(plane.proxies.refresh()).changed == 1
    assert (first.latest.value, second.latest.value) == (named("1"), named("2"))
    assert [record.getMessage() for record in caplog.records] == ["compile-failed"]
    with pytest.raises(UnavailableError):
        plane.connect()


def test_a_refresh_tells_those_for_whom_something_differs() -> None:
    plane = Plane()
    first = plane.connect()
    second = plane.connect(uris=(URI.replace("reviews", "ratings"),), dns_names=(DNS.replace("reviews", "ratings"),))
    plane.give = lambda proxy: named("2" if proxy.name == "reviews-v1" else "1")
    assert asyncio.run(plane.proxies.refresh()).changed == 1
    assert (first.latest.value, second.latest.value) == (named("2"), named("1"))


def test_who_has_gone_is_not_compiled_for() -> None:
    plane = Plane()
    plane.connect().close()
    plane.compiled.clear()
    asyncio.run(plane.proxies.refresh())
    assert plane.compiled == []


def test_what_one_had_stays_while_there_is_nothing_to_give() -> None:
    plane = Plane()
    subscription = plane.connect()
    plane.give = lambda _: None
    assert asyncio.run(plane.proxies.refresh()).changed == 0
    assert subscription.latest.value == named("1")


def test_a_registration_that_comes_later_counts_from_the_next_refresh() -> None:
    plane = Plane()
    subscription = plane.connect()
    registration = plane.register()
    asyncio.run(plane.proxies.refresh())
    assert subscription.proxy == registration.proxy


def test_a_registration_of_another_identity_does_not() -> None:
    plane = Plane()
    subscription = plane.connect()
    plane.register(service_account="ratings", labels={"app": "secret"})
    asyncio.run(plane.proxies.refresh())
    assert subscription.proxy.spiffe_id == URI
    assert subscription.proxy.labels == {}


def test_what_is_prepared_is_what_will_be_asked_for() -> None:
    plane = Plane()
    registration = plane.register()
    asyncio.run(plane.proxies.prepare(["default", "other"]))
    registered, stranger = plane.compiled
    assert registered == registration.proxy
    assert stranger == replace(stranger, namespace="other", type=ProxyType.SIDECAR, labels=FrozenMap())
