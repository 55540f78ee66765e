"""Which rules of RequestAuthentications a workload is under, and where their keys come from."""

from __future__ import annotations

from datetime import timedelta

from gossamer.api.common import PolicyTargetReference, WorkloadSelector
from gossamer.api.request_authentication import JWTRule, RequestAuthentication
from gossamer.api.resource import Resource
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from gossamer.model.build_policies import GATEWAY_NAME, build_policies
from gossamer.model.settings import MeshSettings
from gossamer.model.tokens import KeySource, Tokens, key_source, key_sources


def policy(namespace: str, issuer: str, **labels: str) -> Resource[RequestAuthentication]:
    identity = ResourceId(kind="RequestAuthentication", namespace=namespace, name=issuer)
    selector = WorkloadSelector(match_labels=FrozenMap(labels)) if labels else None
    return Resource(id=identity, spec=RequestAuthentication(selector=selector, jwt_rules=(JWTRule(issuer=issuer),)))


def issuers(*found: Resource[RequestAuthentication], **labels: str) -> list[str]:
    index = build_policies(MeshSettings(), (), (), tokens=Tokens(resources=found))
    return [one.rule.issuer for one in index.for_workload("foo", FrozenMap(labels), Memo()).tokens]


def test_the_rules_of_all_scopes_are_joined() -> None:
    found = (
        policy("istio-system", "mesh"),
        policy("istio-system", "everywhere", app="x"),
        policy("foo", "namespace"),
        policy("foo", "workload", app="x"),
        policy("bar", "elsewhere"),
    )
    assert issuers(*found, app="x") == ["everywhere", "mesh", "namespace", "workload"]
    assert issuers(*found, app="y") == ["mesh", "namespace"]


def test_a_target_is_a_gateway() -> None:
    reference = PolicyTargetReference(group="gateway.networking.k8s.io", kind="Gateway", name="public")
    identity = ResourceId(kind="RequestAuthentication", namespace="foo", name="p")
    spec = RequestAuthentication(target_refs=(reference,), jwt_rules=(JWTRule(issuer="i"),))
    found = Resource(id=identity, spec=spec)
    assert issuers(found, **{GATEWAY_NAME: "public"}) == ["i"]
    assert issuers(found, app="x") == []


def test_where_keys_come_from() -> None:
    assert key_source(JWTRule(issuer="https://a", jwks='{"keys":[]}')) is None
    assert key_source(JWTRule(issuer="https://a", jwks_uri="https://b/keys")) == KeySource(url="https://b/keys")
    assert key_source(JWTRule(issuer="https://a")) == KeySource(url="https://a", discovered=True)
    assert key_source(JWTRule(issuer="accounts@example.com")) is None


def test_the_most_patient_rule_says_how_long_keys_may_take() -> None:
    identity = ResourceId(kind="RequestAuthentication", namespace="foo", name="p")
    rules = (
        JWTRule(issuer="a", jwks_uri="https://b/keys"),
        JWTRule(issuer="b", jwks_uri="https://b/keys", timeout=timedelta(seconds=9)),
    )
    spec = RequestAuthentication(jwt_rules=rules)
    found = key_sources([Resource(id=identity, spec=spec)])
    assert found == {KeySource(url="https://b/keys"): timedelta(seconds=9)}


def test_fetched_keys_reach_the_rules_that_ask_for_them() -> None:
    keys = FrozenMap({KeySource(url="https://a", discovered=True): "its keys"})
    tokens = Tokens(resources=(policy("foo", "https://a"), policy("foo", "https://b")), keys=keys)
    index = build_policies(MeshSettings(), (), (), tokens=tokens)
    assert [one.keys for one in index.for_workload("foo", FrozenMap(), Memo()).tokens] == ["its keys", ""]
