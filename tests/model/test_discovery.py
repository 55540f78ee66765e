"""Namespaces by label: what the mesh reads, and who sees whose ServiceEntries."""

from __future__ import annotations

import pytest

from tests.compile.compiled import SIDECAR, Compiled, build, compiled, istio, service

SELECTED = "discoverySelectors: [{matchLabels: {team: one}}, {matchExpressions: [{key: mesh, operator: Exists}]}]"


def namespace(name: str, labels: str) -> str:
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"


def entry(name: str, home: str) -> str:
    spec = f"  hosts: [{name}.com]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]"
    return istio("ServiceEntry", name, spec, namespace=home)


def hosts(found: Compiled) -> set[str]:
    return {outbound.service.hostname.partition(".")[0] for outbound in found.view.outbound.services}


def test_only_selected_namespaces_are_read_and_the_root_namespace() -> None:
    documents = (
        namespace("one", "team: one"),
        namespace("two", "mesh: ''"),
        namespace("three", "team: two"),
        *(service(f"s-{home}", namespace=home) for home in ("one", "two", "three", "four", "istio-system")),
    )
    found = compiled(*documents, mesh_config=SELECTED)
    assert hosts(found) == {"s-one", "s-two", "s-istio-system"}
    assert len(hosts(compiled(*documents))) == 5, "without a selector all are"


def test_a_name_is_a_label() -> None:
    mesh = "discoverySelectors: [{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [one]}]}]"
    found = compiled(service("a", namespace="one"), service("b", namespace="two"), mesh_config=mesh)
    assert hosts(found) == {"a"}


def test_security_holds_everywhere() -> None:
    strict = istio("PeerAuthentication", "p", "  mtls: {mode: STRICT}")
    found = compiled(strict, service("a"), mesh_config=SELECTED)
    assert found.view.policies.peer.on(80).value == "STRICT"


@pytest.mark.parametrize(
    ("expression", "read"),
    [
        ("{key: k, operator: In, values: [a]}", True),
        ("{key: k, operator: In, values: [b]}", False),
        ("{key: k, operator: NotIn, values: [a]}", False),
        ("{key: k, operator: Exists}", True),
        ("{key: k, operator: DoesNotExist}", False),
    ],
)
def test_expressions(expression: str, read: bool) -> None:
    mesh = f"discoverySelectors: [{{matchExpressions: [{expression}]}}]"
    found = compiled(namespace("default", "k: a"), service("a"), mesh_config=mesh)
    assert hosts(found) == ({"a"} if read else set())


VISIBLE = """
serviceEntryVisibility:
  applyToSidecars: true
  defaultVisibility: NONE
  policies:
  - {visibility: NAMESPACE, matchingRules: [{namespaceSelector: {matchLabels: {team: one}}}]}
  - {visibility: PUBLIC, matchingRules: [{namespaceSelector: {matchLabels: {team: two}}}]}
"""


def test_service_entries_are_seen_as_their_namespaces_may_be() -> None:
    documents = (
        namespace("default", "team: one"),
        namespace("two", "team: two"),
        *(entry(name, home) for name, home in (("a", "default"), ("b", "two"), ("c", "three"))),
    )
    assert hosts(compiled(*documents, mesh_config=VISIBLE)) == {"a", "b"}
    elsewhere = SIDECAR.__class__(type=SIDECAR.type, namespace="other", name="x")
    assert hosts(compiled(*documents, proxy=elsewhere, mesh_config=VISIBLE)) == {"b"}
    ambient = VISIBLE.replace("applyToSidecars: true", "applyToSidecars: false")
    assert hosts(compiled(*documents, mesh_config=ambient)) == {"a", "b", "c"}, "sidecars do not heed it unless told to"


def test_a_selector_that_cannot_be_read_is_refused() -> None:
    for wrong in ("{key: a, operator: Like}", "{key: a, operator: In}", "{key: a, operator: Exists, values: [b]}"):
        with pytest.raises(AssertionError, match="matchExpressions"):
            build(service("a"), mesh_config=f"discoverySelectors: [{{matchExpressions: [{wrong}]}}]")
