"""Who answers for a service: inline endpoints, selectors over registered and declared workloads, slices."""

from __future__ import annotations

from dataclasses import replace

from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.service import Endpoint, Health, Workload
from tests.compile.compiled import Built, build, istio, service, workload

HOST = "reviews.default.svc.cluster.local"
DISABLED = istio("PeerAuthentication", "p", "  mtls: {mode: DISABLE}")


def answering(built: Built, host: str = HOST, port: int = 80, namespace: str = "default") -> tuple[Endpoint, ...]:
    return built.endpoints.by_service[(host, namespace)].by_port[port]


def places(*args: str, **kwargs: object) -> list[tuple[str, int]]:
    built = build(*args, **kwargs)  # type: ignore[arg-type]
    return [(e.address, e.port) for e in answering(built)]


def test_a_selector_finds_registered_workloads_of_its_namespace() -> None:
    found = places(
        service("reviews"),
        registrations=(
            workload("r1", app="reviews", address="10.0.0.2"),
            workload("r2", app="reviews", address="10.0.0.1"),
            workload("other", app="ratings", address="10.0.0.3"),
            workload("far", app="reviews", namespace="elsewhere", address="10.0.0.4"),
        ),
    )
    assert found == [("10.0.0.1", 80), ("10.0.0.2", 80)]


def test_all_labels_of_a_selector_count() -> None:
    text = service("reviews").replace("app: reviews", "app: reviews, version: v2")
    one, two = (workload(f"r{v}", app="reviews", version=f"v{v}", address=f"10.0.0.{v}") for v in (1, 2))
    assert places(text, registrations=(one, two)) == [("10.0.0.2", 80)]


def test_target_ports_by_number_and_by_name_and_the_port_that_callers_dial() -> None:
    ports = (
        "{name: http, port: 80, targetPort: web}, {name: b, port: 81, targetPort: 9080}, "
        "{name: c, port: 82, targetPort: none}"
    )
    member = replace(
        workload("r1", app="reviews"), named_ports=FrozenMap({"web": 9080}), ports=FrozenMap({9080: 31000})
    )
    built = build(service("reviews", ports), registrations=(member,))
    assert [(e.port, e.workload_port) for e in answering(built, port=80)] == [(31000, 9080)]
    assert [(e.port, e.workload_port) for e in answering(built, port=81)] == [(31000, 9080)]
    assert answering(built, port=82) == (), "a name that the workload does not have is no port"


def test_workload_entries_are_selected_too() -> None:
    member = istio(
        "WorkloadEntry",
        "vm",
        "  address: 10.9.9.9\n  labels: {app: reviews}\n  ports: {http: 7000}\n  serviceAccount: vm",
    )
    (found,) = answering(build(service("reviews"), member))
    assert (found.address, found.port, found.tls, found.service_account) == ("10.9.9.9", 7000, True, "vm")


def test_service_entries_with_inline_endpoints() -> None:
    spec = """
  hosts: [a.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints:
  - {address: 10.0.0.1, ports: {http: 9000}, labels: {security.istio.io/tlsMode: istio}}
  - {address: 10.0.0.2, weight: 3, locality: r/z/s, serviceAccount: a}
  - {address: "unix:///run/a.sock"}
"""
    found = answering(build(istio("ServiceEntry", "a", spec)), "a.com")
    assert [(e.address, e.port, e.tls) for e in found] == [
        ("/run/a.sock", 0, False),
        ("10.0.0.1", 9000, True),
        ("10.0.0.2", 8080, True),
    ]
    assert (found[2].weight, found[2].locality) == (3, "r/z/s")


def test_a_service_found_by_dns_is_its_own_endpoint() -> None:
    spec = "  hosts: [a.com]\n  resolution: DNS\n  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]"
    (found,) = answering(build(istio("ServiceEntry", "a", spec)), "a.com", 443)
    assert (found.address, found.port) == ("a.com", 8443)


SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, namespace: default, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 9080}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.0.2], conditions: {ready: false}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.4]}
"""


def test_slices() -> None:
    found = answering(build(service("reviews").replace("selector: {app: reviews}", "selector: {}"), SLICE))
    assert [(e.address, e.port, e.health) for e in found] == [
        ("10.0.0.1", 9080, Health.HEALTHY),
        ("10.0.0.3", 9080, Health.DRAINING),
        ("10.0.0.4", 9080, Health.HEALTHY),
    ]


def test_accounts_are_those_of_mutual_tls() -> None:
    plain = replace(workload("r3", app="reviews", address="10.0.0.3"), tls=False, service_account="plain")
    members = (workload("r1", app="reviews"), workload("r2", app="reviews", address="10.0.0.2"), plain)
    built = build(service("reviews"), registrations=members)
    assert built.endpoints.accounts[(HOST, "default")] == ("ns/default/sa/reviews",)


def test_a_workload_whose_policy_takes_no_mutual_tls_is_called_without() -> None:
    member = workload("r1", app="reviews")
    (found,) = answering(build(service("reviews"), DISABLED, registrations=(member,)))
    assert not found.tls
    elsewhere = DISABLED.replace("namespace: default", "namespace: other")
    (found,) = answering(build(service("reviews"), elsewhere, registrations=(member,)))
    assert found.tls


def test_churn_touches_only_the_service_it_is_about() -> None:
    memo = Memo()
    members = [workload(f"{app}-{n}", app=app, address=f"10.{n}.0.1") for n in (1, 2) for app in ("a", "b")]
    documents = (service("a"), service("b"))

    def snapshot(registrations: list[Workload]) -> Built:
        return build(*documents, registrations=tuple(registrations), memo=memo)

    before, after = snapshot(members), snapshot(members[:-1])
    assert before.mesh is after.mesh
    keys = [(f"{name}.default.svc.cluster.local", "default") for name in ("a", "b")]
    assert before.endpoints.by_service[keys[0]] is after.endpoints.by_service[keys[0]]
    assert len(after.endpoints.by_service[keys[1]].by_port[80]) == 1
    assert before.endpoints.accounts is after.endpoints.accounts


def test_a_gateway_is_dialled_at_the_port_opened_for_a_services_and_is_known_by_name() -> None:
    gateway = replace(workload("r1", app="reviews"), tls=False, router=True, service_numbers=FrozenMap({80: 18080}))
    built = build(service("reviews", "{name: http, port: 80, targetPort: 8080}"), registrations=(gateway,))
    (endpoint,) = built.endpoints.by_service[(HOST, "default")].by_port[80]
    assert (endpoint.port, endpoint.tls) == (18080, False)
    assert built.endpoints.accounts[(HOST, "default")] == ("ns/default/sa/reviews",)
