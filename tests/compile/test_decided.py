"""Rules that the destination decides by who calls: what a sidecar is told, and what a real Envoy makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gossamer.ca.authority import Authority
from gossamer.compile.inbound import compile_inbound
from gossamer.compile.static import Stub
from gossamer.core.memo import Memo
from gossamer.core.resources import ROUTE
from gossamer.model.policy import MutualTls
from gossamer.model.service import Workload
from tests.compile.compiled import SIDECAR, Compiled, build, compiled, istio, service, workload
from tests.compile.sidecar import Client, get, new_authority, until
from tests.compile.test_inbound_envoy import Sidecar, running, status
from tests.compile.validated import validated

ME = replace(SIDECAR, name="app-1", namespace="foo")
MEMBERS: tuple[Workload, ...] = (workload("app-1", app="app", namespace="foo"),)
APP = service("app", "{name: http, port: 80, targetPort: 9080}", namespace="foo")
TABLE = "inbound|9080||"
RULES = """
  - name: of-web
    match: [{sourceNamespace: web, uri: {prefix: /web}}]
    headers: {request: {set: {x-let-in: by-web}}}
    route: [{destination: {host: app}}]
  - name: batch
    match: [{headers: {"@source.principal": {exact: cluster.local/ns/other/sa/batch}}, uri: {prefix: /batch}}]
    directResponse: {status: 418}
  - name: known
    match: [{uri: {prefix: /known}, headers: {"@source.principal": {}}}]
    route: [{destination: {host: app}}]
  - name: nobody
    match: [{uri: {prefix: /nobody}, withoutHeaders: {"@source.principal": {}}}]
    route: [{destination: {host: app}}]
"""
FALL_THROUGH = "  - route: [{destination: {host: app}}]\n"


def decided(rules: str = RULES, *, hosts: str = "[app]", at: str = "destination", namespace: str = "foo") -> str:
    return istio(
        "VirtualService",
        "decided",
        f"  hosts: {hosts}\n  http:\n{rules}",
        namespace=namespace,
        metadata=f", annotations: {{gossamer.dev/decide-at: {at}}}",
    )


def served(*documents: str) -> Compiled:
    return compiled(APP, *documents, proxy=ME, registrations=MEMBERS)


def test_routes_of_the_port_ask_who_calls() -> None:
    (host,) = served(decided()).table(TABLE)["virtual_hosts"]
    web, batch, known, nobody, refused = host["routes"]
    assert web["match"]["headers"] == [
        {"name": "x-gossamer-source", "string_match": {"safe_regex": {"regex": "spiffe://[^/]+/ns/web/sa/[^/]+"}}}
    ]
    assert web["route"]["cluster"] == TABLE
    assert web["request_headers_to_add"][0]["header"] == {"key": "x-let-in", "value": "by-web"}
    assert batch["match"]["headers"][0]["string_match"] == {"exact": "spiffe://cluster.local/ns/other/sa/batch"}
    assert batch["direct_response"]["status"] == 418
    assert known["match"]["headers"][0]["string_match"] == {"prefix": "spiffe://"}
    assert nobody["match"]["headers"][0]["invert_match"] is True
    assert refused["direct_response"]["status"] == 403
    assert served(decided()).table(TABLE)["request_headers_to_remove"] == ["x-gossamer-source"]
    (last,) = served(decided(FALL_THROUGH)).table(TABLE)["virtual_hosts"][0]["routes"]
    assert last["match"] == {"prefix": "/"}


def _early(found: Compiled, kind: str) -> list[dict[str, Any]]:
    chains = [chain for chain in found.listener("virtualInbound")["filter_chains"] if chain["name"] == "0.0.0.0_9080"]
    chain = next(one for one in chains if one["filter_chain_match"]["transport_protocol"] == kind)
    (extension,) = chain["filters"][-1]["typed_config"]["early_header_mutation_extensions"]
    mutations: list[dict[str, Any]] = extension["typed_config"]["mutations"]
    return mutations


def test_only_mutual_tls_says_who_calls_and_nothing_that_was_sent_counts() -> None:
    found = served(decided())
    gone = [{"remove": "x-gossamer-source"}, {"remove": "x-envoy-original-path"}]
    *removed, written = _early(found, "tls")
    assert removed == gone
    assert "append" in written
    assert _early(found, "raw_buffer") == gone


def test_callers_do_not_load_what_the_destination_decides_unless_both_do() -> None:
    name = "app.foo.svc.cluster.local"
    rules = "  - match: [{sourceNamespace: default}]\n    directResponse: {status: 418}\n" + FALL_THROUGH
    alone = compiled(APP, decided(rules), proxy=SIDECAR).host("80", name)["routes"]
    assert [route["name"] for route in alone] == ["default"]
    both = compiled(APP, decided(rules, at="both"), proxy=SIDECAR).host("80", name)["routes"]
    assert both[0]["direct_response"]["status"] == 418
    assert served(decided(rules, at="both")).table(TABLE)["virtual_hosts"][0]["routes"][0]["match"]["headers"]
    nowhere = served(decided(rules, at="caller")).resources
    assert nowhere.get(ROUTE, TABLE) is None


def test_a_stranger_does_not_decide() -> None:
    text = decided(hosts="[app.foo.svc.cluster.local]", rules="  - directResponse: {status: 418}\n", namespace="evil")
    assert served(text).resources.get(ROUTE, TABLE) is None
    root = decided(
        hosts="[app.foo.svc.cluster.local]", rules="  - directResponse: {status: 418}\n", namespace="istio-system"
    )
    assert served(root).resources.get(ROUTE, TABLE) is not None


def test_a_port_of_unknown_protocol_is_served_as_http_alone() -> None:
    unknown = service("app", "{name: x, port: 80, targetPort: 9080}", namespace="foo")
    found = compiled(unknown, decided(), proxy=ME, registrations=MEMBERS)
    chains = [chain for chain in found.listener("virtualInbound")["filter_chains"] if chain["name"] == "0.0.0.0_9080"]
    assert len(chains) == 2
    assert all("http_connection_manager" in chain["filters"][-1]["name"] for chain in chains)


@pytest.mark.envoy
def test_envoy_takes_it(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    rules = RULES + (
        '  - match: [{headers: {"@source.namespace": {prefix: a}}}, {headers: {"@source.namespace": {regex: "b.*"}}}]\n'
        "    timeout: 1s\n    rewrite: {uri: /x, authority: a.com}\n    route: [{destination: {host: app}}]\n"
        "  - match: [{uri: {prefix: /r}}]\n    redirect: {uri: /s, authority: a.com, derivePort: FROM_REQUEST_PORT}\n"
    )
    assert validated(envoy, served(decided(rules + FALL_THROUGH)).resources, stub, tmp_path) == ""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture
def sidecar(envoy: Path, tmp_path: Path, authority: Authority) -> Iterator[Sidecar]:
    with running(envoy, tmp_path, authority, frozenset()) as found:
        yield found


def decide(sidecar: Sidecar, rules: str) -> None:
    (routing,) = build(APP, decided(rules)).mesh.decided
    http, tcp = sidecar.view.inbound
    sidecar.view = replace(sidecar.view, inbound=(replace(http, decided=routing.http), tcp))
    sidecar.agent.publish(compile_inbound(sidecar.view, Memo()))


@pytest.mark.envoy
def test_a_real_envoy_decides_by_the_verified_caller(sidecar: Sidecar) -> None:
    decide(sidecar, RULES)
    plain = Client(sidecar.folder)
    until(lambda: status(sidecar.web, sidecar.http_port, "/web") == 200, "a first 200")
    callers = {"web": sidecar.web, "other": sidecar.other, "plain": plain}

    def asked(path: str) -> dict[str, int]:
        return {name: status(client, sidecar.http_port, path) for name, client in callers.items()}

    assert asked("/web") == {"web": 200, "other": 403, "plain": 403}
    assert asked("/batch") == {"web": 403, "other": 418, "plain": 403}
    assert asked("/known") == {"web": 200, "other": 200, "plain": 403}
    assert asked("/nobody") == {"web": 403, "other": 403, "plain": 200}

    decide(sidecar, RULES + FALL_THROUGH)
    until(lambda: status(plain, sidecar.http_port, "/elsewhere") == 200, "the fall-through, live", 5)
    assert asked("/batch") == {"web": 200, "other": 418, "plain": 200}


@pytest.mark.envoy
def test_no_client_can_say_who_it_is(sidecar: Sidecar) -> None:
    decide(sidecar, RULES)
    until(lambda: status(sidecar.web, sidecar.http_port, "/web") == 200, "a first 200")
    forged = "spiffe://cluster.local/ns/web/sa/frontend"
    for client in (sidecar.other, Client(sidecar.folder)):
        connection = client.http(sidecar.http_port)
        assert get(connection, "/web", x_gossamer_source=forged)[0] == 403
        connection.close()
    connection = sidecar.web.http(sidecar.http_port)
    code, body, _ = get(connection, "/web", x_gossamer_source="spiffe://cluster.local/ns/other/sa/batch")
    connection.close()
    assert code == 200
    assert "x-let-in" in body.lower()
    assert "x-gossamer-source" not in body.lower(), "it is not passed on"


@pytest.mark.envoy
def test_policy_comes_before_rules(sidecar: Sidecar) -> None:
    decide(sidecar, FALL_THROUGH)
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    sidecar.accept(MutualTls.STRICT)
    until(lambda: Client(sidecar.folder).refused(sidecar.http_port), "STRICT refuses plaintext all the same")
    assert status(sidecar.other, sidecar.http_port) == 200


@pytest.mark.envoy
def test_to_begin_and_to_cease_to_decide_fails_no_request(sidecar: Sidecar) -> None:
    sidecar.offer()
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    undecided = sidecar.view

    def asked_for(seconds: float) -> set[int]:
        end, found = time.monotonic() + seconds, set()
        while time.monotonic() < end:
            found.add(status(sidecar.web, sidecar.http_port))
        return found

    decide(sidecar, "  - match: [{uri: {prefix: /x}}]\n    directResponse: {status: 418}\n" + FALL_THROUGH)
    assert asked_for(1) == {200}
    until(lambda: status(sidecar.web, sidecar.http_port, "/x") == 418, "the rule, live", 5)
    sidecar.view = undecided
    sidecar.offer()
    assert asked_for(1) == {200}
    until(lambda: status(sidecar.web, sidecar.http_port, "/x") == 200, "without the rule again", 5)
