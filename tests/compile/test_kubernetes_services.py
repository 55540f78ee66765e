"""What a Kubernetes Service says of its addresses and of whom its callers reach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import ENDPOINT
from gossamer.model.proxy import DEFAULT_CLUSTER, Capture
from gossamer.simulate.request import Address
from tests.compile.compiled import SIDECAR, compiled, istio, service, workload
from tests.compile.test_sidecars import call

HOST = "web.default.svc.cluster.local"
TCP = "{name: tcp, port: 82}"
WEB = workload("web-0", app="web", address="10.1.0.1")


def test_both_families_and_external_addresses_are_called() -> None:
    spec = "clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1, 'fd00::1']\n  externalIPs: [192.0.2.7]"
    found = compiled(service("web", f"{TCP}, {{name: http, port: 80}}", extra=spec), registrations=(WEB,))
    for address in ("10.0.0.1", "fd00::1", "192.0.2.7"):
        assert call(found, "", 82, to=address, http=False).cluster == f"outbound|82||{HOST}"
    assert call(found, "192.0.2.7").cluster == f"outbound|80||{HOST}"
    table = compiled(service("web", TCP, extra=spec), proxy=replace(SIDECAR, capture=Capture(dns=True))).listener("dns")
    assert "192.0.2.7" not in str(table), "no name resolves to an external address"


def test_callers_reach_their_own_node_alone() -> None:
    document = service("web", "{name: http, port: 80}", extra="internalTrafficPolicy: Local")
    members = (replace(WEB, node="n1"), replace(WEB, name="web-1", address="10.1.0.2", node="n2"))
    memo = Memo()

    def places(node: str) -> list[str]:
        proxy = replace(SIDECAR, name=f"caller-{node}", node=node)
        found = compiled(document, proxy=proxy, registrations=members, memo=memo)
        return [endpoint.address.ip for endpoint in call(found, "web").endpoints]

    assert places("n1") == ["10.1.0.1"]
    assert places("n2") == ["10.1.0.2"]
    assert places("n3") == places("") == [], "none is near: nobody is called"
    everywhere = compiled(document.replace("Local", "Cluster"), registrations=members, memo=memo)
    assert len(call(everywhere, "web").endpoints) == 2


def test_proxies_of_one_node_share_their_endpoints() -> None:
    documents = (service("web", extra="internalTrafficPolicy: Local"), service("other"))
    members = (replace(WEB, node="n1"),)
    memo = Memo()
    one, two = (
        compiled(
            *documents, proxy=replace(SIDECAR, name=name, node="n1"), registrations=members, memo=memo
        ).resources.of_type(ENDPOINT)[0]
        for name in ("one", "two")
    )
    assert one is two


GROUP = istio(
    "WorkloadGroup",
    "vms",
    "  metadata: {labels: {app: web, version: v9}}\n"
    "  template: {serviceAccount: web, ports: {http: 8080}, locality: r/z, weight: 3}",
)


@pytest.mark.parametrize(("account", "joined"), [("web", True), ("other", False)])
def test_a_workload_has_what_its_group_says(account: str, joined: bool) -> None:
    vm = replace(
        workload("vm-1", address="10.1.0.9"),
        service_account=account,
        labels=FrozenMap({"version": "v1"}),
        group="vms",
        ports=FrozenMap({8080: 20080}),
    )
    found = compiled(service("web"), GROUP, registrations=(vm,))
    endpoints = call(found, "web").endpoints
    if not joined:
        assert endpoints == (), "another account's group is not its own"
        return
    (endpoint,) = endpoints
    assert (endpoint.address, endpoint.locality, endpoint.weight) == (Address(ip="10.1.0.9", port=20080), "r/z", 3)
    (member,) = found.view.endpoints[0].by_port[80]
    assert member.labels == {"app": "web", "version": "v1"}, "what it says of itself stands"


def test_a_groups_labels_select_its_workloads_proxy() -> None:
    proxy = replace(SIDECAR, service_account="web", group="vms")
    sidecar = istio("Sidecar", "s", "  workloadSelector: {labels: {version: v9}}\n  egress: [{hosts: ['~/*']}]")
    assert compiled(service("web"), GROUP, sidecar, proxy=proxy).view.outbound.services == ()
    assert compiled(service("web"), GROUP, sidecar).view.outbound.services != ()


ANNOTATED = ", annotations: {networking.istio.io/traffic-distribution: %s}"


@pytest.mark.parametrize(
    ("of_service", "of_namespace", "field", "expected"),
    [
        ("", "", "", [0, 0, 0]),
        ("PreferClose", "", "", [0, 1, 2]),
        ("", "PreferSameZone", "", [0, 1, 2]),
        ("Any", "PreferSameZone", "", [0, 0, 0]),
        ("PreferSameZone", "", "PreferSameNode", [1, 0, 1]),
    ],
)
def test_whom_callers_prefer(of_service: str, of_namespace: str, field: str, expected: list[int]) -> None:
    """The field before the annotation, the service's before its namespace's."""
    document = service("web", extra=f"trafficDistribution: {field}" if field else "").replace(
        "namespace: default", "namespace: default" + (ANNOTATED % of_service if of_service else "")
    )
    home = ANNOTATED % of_namespace if of_namespace else ""
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: default{home}}}\n"
    members = tuple(
        replace(WEB, name=f"web-{number}", address=f"10.1.0.{number}", locality=locality, node=node)
        for number, (locality, node) in enumerate((("r/z", "n1"), ("r/y", "n2"), ("q/x", "n3")), start=1)
    )
    proxy = replace(SIDECAR, locality="r/z", node="n2")
    found = compiled(document, namespace, proxy=proxy, registrations=members)
    priorities = {
        member["endpoint"]["address"]["socket_address"]["address"]: group.get("priority", 0)
        for group in found.assignment(f"outbound|80||{HOST}")["endpoints"]
        for member in group["lb_endpoints"]
    }
    assert [priorities[f"10.1.0.{number}"] for number in (1, 2, 3)] == expected


LOCAL = "serviceSettings: [{settings: {clusterLocal: true}, hosts: ['*.default.svc.cluster.local']}]"
EXCEPT = f"{LOCAL[:-1]}, {{settings: {{clusterLocal: false}}, hosts: [{HOST}]}}]"


def test_callers_reach_their_own_cluster_alone_where_the_mesh_asks_for_it() -> None:
    members = (
        replace(WEB, cluster="one"),
        replace(WEB, name="web-1", address="10.1.0.2", cluster="two"),
        replace(WEB, name="web-2", address="10.1.0.3"),
    )
    memo = Memo()

    def places(cluster: str, mesh: str, host: str = "web") -> list[str]:
        proxy = replace(SIDECAR, name=f"caller-{cluster}", cluster=cluster)
        document = service("web", "{name: http, port: 80}")
        found = compiled(document, proxy=proxy, registrations=members, mesh_config=mesh, memo=memo)
        return [endpoint.address.ip for endpoint in call(found, host).endpoints]

    assert places("one", LOCAL) == ["10.1.0.1"]
    assert places("two", LOCAL) == ["10.1.0.2"]
    assert places(DEFAULT_CLUSTER, LOCAL) == ["10.1.0.3"], "who says nothing is of the cluster of who says nothing"
    assert places("three", LOCAL) == []
    assert len(places("one", EXCEPT)) == 3, "the most specific host decides"
    assert len(places("one", "")) == 3
