"""A security resource that cannot be used denies what it selects."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Rule
from gossamer.api.load import load
from gossamer.api.peer_authentication import MutualTLSMode
from gossamer.api.resource import Resource
from tests.api.documents import errors_of, file_of, load_one, resource

SELECTOR = {"matchLabels": {"app": "x"}}
RULES = [{"from": [{"source": {"namespaces": ["b"]}}]}]


def _policy(spec: Any, kind: str = "AuthorizationPolicy", **metadata: Any) -> Resource[AuthorizationPolicy]:
    loaded = load_one(resource(kind, spec, **metadata))
    (found,) = loaded.config.authorization_policies
    assert found.fail_closed
    assert any(diagnostic.code == "fails-closed" for diagnostic in loaded.diagnostics)
    return found


@pytest.mark.parametrize(
    "spec",
    [
        {"selector": SELECTOR, "rules": [{"from": []}]},
        {"selector": SELECTOR, "rules": "none"},
        {"selector": SELECTOR, "rules": RULES, "acton": "DENY"},
        {"selector": SELECTOR, "action": "AUDIT", "rules": []},
        {"selector": SELECTOR, "action": "CUSTOM", "rules": [{}]},
    ],
)
def test_bad_rules_deny_the_workloads_of_the_selector(spec: dict[str, Any]) -> None:
    found = _policy(spec)
    assert found.spec.action is Action.DENY
    assert found.spec.rules == (Rule(),)
    assert found.spec.selector is not None
    assert dict(found.spec.selector.match_labels) == {"app": "x"}


@pytest.mark.parametrize(
    "spec",
    [
        {"selector": {"matchLabels": {"app*": "x"}}, "rules": RULES},
        {"selector": {"matchLabels": {"app": 3}}, "rules": RULES},
        {"selector": {"matchLabel": {"app": "x"}}, "rules": RULES},
        {"selector": [], "rules": RULES},
        {"targetRefs": [{"kind": "Gateway", "group": "gateway.networking.k8s.io"}], "rules": RULES},
        {"selector": SELECTOR, "targetRef": {"kind": "Service", "name": "s"}, "rules": RULES},
        "nonsense",
    ],
)
def test_a_bad_selector_denies_the_namespace(spec: Any) -> None:
    found = _policy(spec)
    assert found.spec == AuthorizationPolicy(action=Action.DENY, rules=(Rule(),))
    assert found.namespace == "default"


def test_bad_metadata_denies_too() -> None:
    assert _policy({"selector": SELECTOR, "rules": RULES}, labels={"x": 3}).spec.action is Action.DENY


def test_the_last_good_version_of_a_policy_is_not_used() -> None:
    before = load([file_of(resource("AuthorizationPolicy", {"selector": SELECTOR, "rules": RULES}))])
    assert not before.config.authorization_policies[0].fail_closed
    after = load([file_of(resource("AuthorizationPolicy", {"selector": SELECTOR, "rules": 3}))], before.last_good)
    assert after.config.authorization_policies[0].fail_closed


@pytest.mark.parametrize(
    ("spec", "selects"),
    [
        ({"selector": SELECTOR, "mtls": {"mode": "LAX"}}, True),
        ({"selector": SELECTOR, "portLevelMtls": {"0": {"mode": "DISABLE"}}}, True),
        ({"mtls": {"mode": "DISABLE"}, "portLevelMtls": {"80": {"mode": "DISABLE"}}}, False),
        ({"selector": {"matchLabels": {"": "x"}}, "mtls": {"mode": "DISABLE"}}, False),
    ],
)
def test_an_invalid_peer_authentication_is_strict(spec: dict[str, Any], selects: bool) -> None:
    loaded = load_one(resource("PeerAuthentication", spec))
    (found,) = loaded.config.peer_authentications
    assert found.fail_closed
    assert found.spec.mtls is not None
    assert found.spec.mtls.mode is MutualTLSMode.STRICT
    assert not found.spec.port_level_mtls
    assert (found.spec.selector is not None) is selects


def test_a_request_authentication_without_rules_asks_nothing() -> None:
    loaded = load_one(resource("RequestAuthentication", {"selector": SELECTOR, "jwtRules": []}))
    assert loaded.config.authorization_policies == ()
    assert len(loaded.config.request_authentications) == 1


def test_an_invalid_request_authentication_denies() -> None:
    assert _policy({"selector": SELECTOR, "jwtRule": []}, "RequestAuthentication").spec.selector is not None
    assert _policy("nonsense", "RequestAuthentication").spec.selector is None


@pytest.mark.parametrize(
    "rule",
    [
        {"from": [{"source": {"requestPrincipals": ["*"]}}]},
        {"from": [{"source": {"notRequestPrincipals": ["*"]}}]},
        {"when": [{"key": "request.auth.claims[iss]", "values": ["x"]}]},
        {"when": [{"key": "experimental.envoy.filters.network.mysql_proxy[db.table]", "values": ["[update]"]}]},
    ],
)
def test_what_tokens_say_can_be_asked_for(rule: dict[str, Any]) -> None:
    loaded = load_one(resource("AuthorizationPolicy", {"action": "DENY", "rules": [rule]}))
    assert {found.code for found in loaded.diagnostics} <= {"denies-tcp"}
    assert not loaded.config.authorization_policies[0].fail_closed


def test_a_dry_run_that_is_not_valid_denies_nothing() -> None:
    spec = {"selector": SELECTOR, "action": "DENY", "rules": RULES}
    loaded = load_one(resource("AuthorizationPolicy", spec, annotations={"istio.io/dry-run": "true"}))
    assert loaded.diagnostics == ()
    assert len(loaded.config.authorization_policies) == 1
    broken = {**spec, "rules": 3}
    invalid = load_one(resource("AuthorizationPolicy", broken, annotations={"istio.io/dry-run": "true"}))
    assert errors_of(invalid)
    assert invalid.config.authorization_policies == ()
    enforced = load_one(resource("AuthorizationPolicy", spec, annotations={"istio.io/dry-run": "false"}))
    assert not errors_of(enforced)
    assert len(enforced.config.authorization_policies) == 1
