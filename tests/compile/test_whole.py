"""Properties of the whole: order, memory and processes never change a byte, and what is shared is shared."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, TYPES, Resources
from gossamer.model.proxy import Proxy
from tests.compile.compiled import SIDECAR, build, compiled, istio, service, workload
from tests.compile.meshes import PROXIES, Mesh, meshes

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PROXY: st.SearchStrategy[Proxy] = st.sampled_from(PROXIES)


def contents(resources: Resources) -> dict[tuple[str, str], tuple[str, bytes]]:
    return {(r.type_url, r.name): (r.version, r.body) for type_url in TYPES for r in resources.all_of(type_url)}


@FEW
@given(mesh=meshes(), proxy=PROXY, data=st.data())
def test_order_of_input_changes_nothing(mesh: Mesh, proxy: Proxy, data: st.DataObject) -> None:
    documents = data.draw(st.permutations(mesh.documents))
    members = data.draw(st.permutations(mesh.registrations))
    one = compiled(*mesh.documents, proxy=proxy, registrations=mesh.registrations)
    other = compiled(*documents, proxy=proxy, registrations=tuple(members))
    assert contents(one.resources) == contents(other.resources)


@FEW
@given(history=st.lists(meshes(), min_size=2, max_size=4))
def test_what_is_remembered_changes_nothing(history: list[Mesh]) -> None:
    """One memo through many configurations and all proxies, against none."""
    memo = Memo()
    for mesh in history:
        for proxy in PROXIES:
            known = compiled(*mesh.documents, proxy=proxy, registrations=mesh.registrations, memo=memo)
            fresh = compiled(*mesh.documents, proxy=proxy, registrations=mesh.registrations, memo=Memo(enabled=False))
            assert contents(known.resources) == contents(fresh.resources)
        memo.next_generation()


@FEW
@given(mesh=meshes(), proxy=PROXY)
def test_every_reference_resolves_unless_users_name_what_is_not_there(mesh: Mesh, proxy: Proxy) -> None:
    found = compiled(*mesh.documents, proxy=proxy, registrations=mesh.registrations)
    there = {
        f"{port.number}|{subset}|{outbound.service.hostname}"
        for outbound in found.view.outbound.services
        for port in outbound.service.ports
        for subset in ("", *(subset.name for subset in outbound.destination.subsets))
    }
    for type_url in TYPES:
        for resource in found.resources.all_of(type_url):
            assert resource.references is not None, resource.name
            for reference in resource.references:
                if not found.resources.get(reference.type_url, reference.name):
                    assert reference.type_url == CLUSTER, f"{resource.name} names {reference}"
                    assert reference.name.removeprefix("outbound|") not in there


@FEW
@given(mesh=meshes(), proxy=PROXY)
def test_tables_of_a_type_have_no_name_in_common(mesh: Mesh, proxy: Proxy) -> None:
    resources = compiled(*mesh.documents, proxy=proxy, registrations=mesh.registrations).resources
    for type_url in TYPES:
        names = [name for table in resources.of_type(type_url) for name in table]
        assert len(names) == len(set(names))


DOCUMENTS = (
    service("reviews"),
    service("ratings", "{name: tcp, port: 82}"),
    service("far", namespace="other"),
    istio("DestinationRule", "r", "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}]"),
    istio(
        "VirtualService", "r", "  hosts: [reviews]\n  http: [{timeout: 1s, route: [{destination: {host: reviews}}]}]"
    ),
)
MEMBERS = tuple(workload(f"reviews-{n}", app="reviews", address=f"10.1.0.{n}") for n in range(1, 4))


def digests() -> str:
    """The digest of everything that all proxies are told, for comparison between processes."""
    lines = []
    for proxy in PROXIES:
        found = contents(compiled(*DOCUMENTS, proxy=proxy, registrations=MEMBERS).resources)
        lines += [f"{type_url} {name} {version}" for (type_url, name), (version, _) in sorted(found.items())]
    return "\n".join(lines)


def test_every_process_comes_to_the_same_bytes() -> None:
    program = "from tests.compile.test_whole import digests; print(digests())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "random")
    }
    assert len(outputs) == 1
    assert digests() in outputs.pop()


def test_proxies_that_see_the_same_hold_the_same_tables() -> None:
    memo = Memo()
    names = ("one", "two")
    one, two = (compiled(*DOCUMENTS, proxy=replace(SIDECAR, name=name), memo=memo).resources for name in names)
    for type_url in (CLUSTER, ENDPOINT, ROUTE, LISTENER):
        assert one.of_type(type_url)[0] is two.of_type(type_url)[0]


def test_replicas_hold_the_same_inbound_tables_too() -> None:
    memo = Memo()
    one, two, six = (
        compiled(*DOCUMENTS, proxy=replace(SIDECAR, name=name, addresses=(address,)), memo=memo).resources
        for name, address in (("one", "10.0.0.1"), ("two", "10.0.0.2"), ("six", "fd00::6"))
    )
    for type_url in (CLUSTER, LISTENER, EXTENSION):
        assert all(a is b for a, b in zip(one.of_type(type_url), two.of_type(type_url), strict=True))
    assert six.of_type(LISTENER)[-1] != one.of_type(LISTENER)[-1]  # another family of addresses


def test_an_endpoint_changes_endpoints_alone() -> None:
    memo = Memo()
    before = compiled(*DOCUMENTS, registrations=MEMBERS, memo=memo).resources
    after = compiled(*DOCUMENTS, registrations=MEMBERS[:-1], memo=memo).resources
    for type_url in (CLUSTER, ROUTE, LISTENER, EXTENSION):
        for old, new in zip(before.of_type(type_url), after.of_type(type_url), strict=True):
            assert old is new
    (old,), (new,) = before.of_type(ENDPOINT), after.of_type(ENDPOINT)
    delta = new.delta_from(old)
    assert {resource.name for resource in delta.changed} == {
        f"outbound|80|{subset}|reviews.default.svc.cluster.local" for subset in ("", "v1")
    }
    assert all(new[name] is old[name] for name in new if name not in {r.name for r in delta.changed})


def test_a_route_changes_routes_alone() -> None:
    memo = Memo()
    before = compiled(*DOCUMENTS, memo=memo).resources
    edited = (*DOCUMENTS[:-1], DOCUMENTS[-1].replace("1s", "2s"))
    after = compiled(*edited, memo=memo).resources
    for type_url in (CLUSTER, ENDPOINT, LISTENER, EXTENSION):
        for old, new in zip(before.of_type(type_url), after.of_type(type_url), strict=True):
            assert old is new
    (old,), (new,) = before.of_type(ROUTE), after.of_type(ROUTE)
    assert [resource.name for resource in new.delta_from(old).changed] == ["80"]


def test_moving_yaml_changes_no_byte() -> None:
    one = compiled(*DOCUMENTS, registrations=MEMBERS).resources
    moved = ("# a comment\n\n" + DOCUMENTS[1] + "\n---\n" + DOCUMENTS[0], *DOCUMENTS[2:])
    assert contents(one) == contents(compiled(*moved, registrations=MEMBERS).resources)


def test_a_view_holds_nothing_of_others() -> None:
    hidden = service("hidden", namespace="other").replace(
        "namespace: other}", "namespace: other, annotations: {networking.istio.io/exportTo: '.'}}"
    )
    built = compiled(*DOCUMENTS, hidden)
    assert not any("hidden" in name for type_url in TYPES for name in built.names(type_url))
    assert all("hidden" not in str(built.json()[kind]) for kind in ("listeners", "routes", "clusters", "endpoints"))
    assert build(hidden).mesh.services.all, "it is there, for those who may see it"
