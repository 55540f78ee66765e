"""Headless services: the name is its instances, each of which has a name and an address of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.compile.static import Stub
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import LISTENER
from gossamer.model.proxy import Capture
from gossamer.model.service import Health, Workload
from gossamer.simulate.request import Address
from tests.compile.compiled import SIDECAR, Compiled, build, compiled, istio, service, workload
from tests.compile.test_sidecars import call
from tests.compile.validated import validated

HOST = "db.default.svc.cluster.local"
DB = service("db", "{name: tcp, port: 5432}, {name: http, port: 80}", extra="clusterIP: None")
KNOWING = replace(SIDECAR, capture=Capture(dns=True))


def member(number: int) -> Workload:
    """One behind its host's address, as an agent registers it."""
    return replace(
        workload(f"db-{number}", app="db", address="192.168.7.7"),
        ports=FrozenMap({5432: 20000 + number, 80: 20100 + number}),
    )


MEMBERS = (member(0), member(1))


def names(found: Compiled) -> dict[str, list[str]]:
    table = found.listener("dns")["listener_filters"][0]["typed_config"]["server_config"]["inline_dns_table"]
    return {domain["name"]: domain["endpoint"]["address_list"]["address"] for domain in table["virtual_domains"]}


def test_every_instance_has_a_name_and_the_services_name_is_all_of_them() -> None:
    answers = names(compiled(DB, proxy=KNOWING, registrations=MEMBERS))
    one, two = answers[f"db-0.{HOST}"][0], answers[f"db-1.{HOST}"][0]
    assert one.startswith("240.240.")
    assert one != two
    assert answers["db-0.db"] == answers["db-0.db.default"] == answers[f"db-0.{HOST}"]
    assert answers["db"][:2] == [one, two]


def test_a_connection_to_an_instance_goes_to_that_one() -> None:
    found = compiled(DB, proxy=KNOWING, registrations=MEMBERS)
    for number in (0, 1):
        address = names(found)[f"db-{number}.{HOST}"][0]
        outcome = call(found, "", 5432, to=address, http=False)
        assert [endpoint.address for endpoint in outcome.endpoints] == [Address(ip="192.168.7.7", port=20000 + number)]
        assert outcome.endpoints[0].tls is not None
    by_name = call(found, f"db-1.{HOST}", 80)
    assert [endpoint.address.port for endpoint in by_name.endpoints] == [20101]
    assert len(call(found, "db", 80).endpoints) == 2


def test_instances_that_callers_can_dial_keep_their_addresses() -> None:
    pods = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-x, namespace: default, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: tcp, port: 5433}, {name: http, port: 80}]
endpoints:
- {addresses: [10.3.0.1], hostname: db-0}
- {addresses: [10.3.0.2], hostname: db-1, conditions: {ready: false}}
"""
    found = compiled(DB, pods, proxy=KNOWING)
    assert names(found)["db"][0] == names(found)["db-0.db"][0] == "10.3.0.1"
    assert f"db-1.{HOST}" not in names(found), "it is not ready"
    outcome = call(found, "", 5432, to="10.3.0.1", http=False)
    assert [endpoint.address for endpoint in outcome.endpoints] == [Address(ip="10.3.0.1", port=5433)]
    published = DB.replace("clusterIP: None", "clusterIP: None\n  publishNotReadyAddresses: true")
    assert names(compiled(published, pods, proxy=KNOWING))["db-1.db"][0] == "10.3.0.2"


def test_instances_have_their_services_policy_unless_they_have_their_own() -> None:
    rule = istio(
        "DestinationRule", "d", f"  host: {HOST}\n  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 7}}}}}}"
    )
    own = istio(
        "DestinationRule",
        "e",
        f"  host: db-1.{HOST}\n  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 9}}}}}}",
    )
    found = compiled(DB, rule, own, registrations=MEMBERS)
    limits = [
        found.cluster(f"outbound|5432||db-{number}.{HOST}")["circuit_breakers"]["thresholds"][0]["max_connections"]
        for number in (0, 1)
    ]
    assert limits == [7, 9]


def test_who_lets_a_service_in_lets_its_instances_in() -> None:
    sidecar = istio("Sidecar", "s", f"  egress: [{{hosts: [default/{HOST}]}}]")
    assert f"outbound|80||db-0.{HOST}" in compiled(DB, sidecar, registrations=MEMBERS).names(
        "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    )


def test_an_instance_that_fails_its_check_stays_itself() -> None:
    memo = Memo()
    before = compiled(DB, proxy=KNOWING, registrations=MEMBERS, memo=memo).resources
    ill = (replace(MEMBERS[0], health=Health.UNHEALTHY), MEMBERS[1])
    after = compiled(DB, proxy=KNOWING, registrations=ill, memo=memo).resources
    assert all(a is b for a, b in zip(before.of_type(LISTENER), after.of_type(LISTENER), strict=True))


def test_an_instance_that_goes_takes_its_own_listeners_along_and_no_other() -> None:
    """Connections to the others go on: nobody's listener drains for it."""
    memo = Memo()
    before = compiled(DB, proxy=KNOWING, registrations=MEMBERS, memo=memo)
    after = compiled(DB, proxy=KNOWING, registrations=MEMBERS[:1], memo=memo)
    gone = names(before)[f"db-1.{HOST}"][0]
    known = {one.name: one.version for one in before.resources.all_of(LISTENER)}
    left = {one.name: one.version for one in after.resources.all_of(LISTENER)}
    assert known.keys() - left.keys() == {f"{gone}_5432"}
    assert left.keys() <= known.keys()
    assert [name for name in left if left[name] != known[name]] == ["dns"]


def test_other_services_are_no_instances_of_anything() -> None:
    plain = service("web", "{name: http, port: 80}")
    members = (workload("web-0", app="web"),)
    assert build(plain, registrations=members).endpoints.instances == ()


@pytest.mark.envoy
def test_envoy_takes_it(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    assert validated(envoy, compiled(DB, proxy=KNOWING, registrations=MEMBERS).resources, stub, tmp_path) == ""
