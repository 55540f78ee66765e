"""What is learnt allows what was seen and nothing else, and says what it stands on; too little makes no conclusion."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.api.load import SourceFile, load
from gossamer.cli.authz_learn import Learnt, Limits, learn
from gossamer.cli.authz_seen import Seen, SeenMesh, SeenWorkload, ServicePort
from gossamer.cli.authz_yaml import policies_yaml
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.build_policies import build_policies
from gossamer.model.policy_match import Call, HttpCall, decide
from gossamer.model.settings import MeshSettings
from gossamer.sources.path_classes import is_class, spelt

WEB = "spiffe://cluster.local/ns/web/sa/front"
JOBS = "spiffe://cluster.local/ns/jobs/sa/batch"
NONE = Limits(requests=1, seconds=0)
NOW = 100_000.0


def seen(caller: str = WEB, path: str = "/", **other: object) -> Seen:
    base: dict[str, object] = {
        "port": 8080, "protocol": "http", "method": "GET", "verdict": "allowed", "by": "", "would": "",
        "count": 10, "first": 1000.0, "last": 2000.0,
    }  # fmt: skip
    return Seen(caller=caller, path=path, **(base | other))  # type: ignore[arg-type]


def cart(*rows: Seen, name: str = "cart-v1", **other: object) -> SeenWorkload:
    service = ServicePort(
        hostname="cart.shop.svc.cluster.local", namespace="shop", port=80, workload_port=8080, protocol="HTTP"
    )
    base: dict[str, object] = {
        "since": 0.0, "taken": 1000, "labels": {"app": "cart", "version": name[-2:]}, "selector": {"app": "cart"},
        "services": (service,),
    }  # fmt: skip
    return SeenWorkload(namespace="shop", name=name, rows=rows, **(base | other))  # type: ignore[arg-type]


def learnt(*workloads: SeenWorkload, limits: Limits = NONE, namespace: str = "") -> Learnt:
    return learn(SeenMesh(now=NOW, workloads=workloads), limits, namespace)


def allows(text: str, call: Call, labels: dict[str, str], namespace: str = "shop") -> bool:
    """Whether a mesh with these policies lets a call in at a workload with these labels."""
    loaded = load([SourceFile(name="learnt.yaml", text=text)])
    assert not loaded.diagnostics, loaded.diagnostics
    index = build_policies(MeshSettings(), loaded.config.authorization_policies, ())
    return decide(index.for_workload(namespace, FrozenMap(labels), Memo()), call).allowed


def call(caller: str, path: str, method: str = "GET", port: int = 8080) -> Call:
    http = HttpCall(method=method, path=path) if method else None
    return Call(principal=caller.removeprefix("spiffe://"), destination_port=port, http=http)


def test_rules_say_who_may_do_what_and_what_they_stand_on() -> None:
    found = learnt(
        cart(seen(path="/items"), seen(path="/items", method="HEAD"), seen(path="/add", method="POST", count=3)),
        cart(
            seen(path="/items", first=500.0),
            seen(JOBS, "/items/*"),
            seen(JOBS, "/no", verdict="denied"),
            name="cart-v2",
        ),
    )
    text = policies_yaml(found, NOW, deny_by_default=True)
    assert text.splitlines()[-5:] == [
        "# Whatever no policy allows is denied.",
        "apiVersion: security.istio.io/v1",
        "kind: AuthorizationPolicy",
        'metadata: {name: allow-nothing, namespace: "istio-system"}',
        "spec: {}",
    ]
    assert "    # 33 times, 1970-01-01T00:08:20Z to 1970-01-01T00:33:20Z, by web/front (33)" in text
    assert "paths of jobs/batch are too many to tell apart: /items/* is allowed whole" in text
    both = ({"app": "cart", "version": "v1"}, {"app": "cart", "version": "v9"})
    for labels in both:
        assert allows(text, call(WEB, "/items"), labels)
        assert allows(text, call(WEB, "/items", "HEAD"), labels)
        assert allows(text, call(WEB, "/add", "POST"), labels)
        assert not allows(text, call(WEB, "/add"), labels), "the method that was not seen with it"
        assert not allows(text, call(WEB, "/items", port=9090), labels)
        assert not allows(text, call(JOBS, "/items"), labels)
        assert allows(text, call(JOBS, "/items/7"), labels)
        assert not allows(text, call(JOBS, "/no"), labels), "what was denied is not needed"
        assert not allows(text, call("", "/items"), labels)
    assert not allows(text, call(WEB, "/items"), {"app": "other"}), "deny by default"


def test_connections_without_http_get_a_rule_of_their_own() -> None:
    found = learnt(cart(seen(path="", protocol="tcp", method="", port=5432), seen(path="/items")))
    text = policies_yaml(found, NOW, deny_by_default=False)
    labels = {"app": "cart"}
    assert allows(text, call(WEB, "", "", 5432), labels)
    assert not allows(text, call(WEB, "", "", 8080), labels)
    assert not allows(text, call(JOBS, "", "", 5432), labels)
    assert "shop/cart: what connections to port 5432 carry was not read: they are allowed whole" in found.unseen
    assert "--deny-by-default closes them" in text


def test_callers_without_identity_get_a_rule_at_gateways_alone() -> None:
    plain = seen("plaintext:10.0.0.7", "/health")
    found = learnt(cart(plain, seen()))
    assert [rule.principals for policy in found.policies for rule in policy.rules] == [
        ("cluster.local/ns/web/sa/front",)
    ]
    assert "shop/cart: 10 calls, plaintext from 10.0.0.7, to port 8080 have no identity to allow, and get no rule" in (
        found.unseen
    )
    door = SeenWorkload(
        namespace="edge", name="door", gateway=True, since=0.0, labels={"app": "door"}, selector={"app": "door"},
        rows=(seen("outside", "/shop", port=80), seen("outside", "/wp-admin", port=80, verdict="unrouted")),
    )  # fmt: skip
    text = policies_yaml(learnt(door), NOW, deny_by_default=False)
    assert allows(text, call("", "/shop", port=80), {"app": "door"}, "edge")
    assert not allows(text, call("", "/wp-admin", port=80), {"app": "door"}, "edge"), "it led nowhere"


def test_what_could_not_be_seen_is_said() -> None:
    found = learnt(
        cart(seen(path="?"), seen(), seen(method="OTHER"), tokens=True, unrecorded=4, missed=3, allow=("shop/old",)),
        SeenWorkload(namespace="shop", name="idle", since=0.0, labels={"app": "idle"}),
    )
    said = "\n".join(found.unseen)
    for words in (
        "10 requests by web/front (GET ?) no policy can spell",
        "10 requests by web/front (OTHER /) no policy can spell",
        "shop/cart-v1: 3 of 1003 entries got lost, and 4 were of too many kinds to record",
        "rules ask for no token",
        "shop/idle: no call was seen; under deny by default nobody can call it",
    ):
        assert words in said
    text = policies_yaml(found, NOW, deny_by_default=False)
    assert "# Beside it stand shop/old: what those allow, they go on allowing." in text
    assert all(f"# - {line}" in text for line in found.unseen)


@pytest.mark.parametrize(
    ("workload", "limits", "why"),
    [
        (cart(seen()), Limits(requests=11, seconds=0), "10 requests were seen, 11 are wanted"),
        (cart(seen(), since=NOW - 600), Limits(requests=1, seconds=3600), "seen for 10 min, 1 h are wanted"),
        (cart(seen(), observed=False, host="h"), NONE, "host h does not report what comes in there"),
        (cart(seen(), reporting=False, host="h"), NONE, "host h has not reported for a minute"),
        (cart(seen(), missed=500), NONE, "500 of 1500 entries got lost"),
        (cart(seen(), labels={}, selector={}), NONE, "no labels by which a policy could mean it"),
        (cart(), NONE, "no call was seen"),
    ],
)
def test_nothing_is_concluded_from_too_little(workload: SeenWorkload, limits: Limits, why: str) -> None:
    found = learnt(workload, limits=limits)
    assert not found.policies
    assert why in "\n".join(found.missing)


def test_a_workload_that_has_ended_counts_with_its_successors() -> None:
    ended = cart(seen(JOBS), name="a-v0", services=(), running=False, observed=False, reporting=False)
    found = learnt(ended, cart(seen()))
    assert [(policy.name, len(policy.rules[0].principals)) for policy in found.policies] == [("learnt-cart", 2)]
    assert not found.missing


def test_one_namespace_is_learnt_by_itself() -> None:
    other = replace(cart(seen(JOBS)), namespace="other")
    found = learnt(cart(seen()), other, namespace="other")
    assert [(policy.namespace, policy.name) for policy in found.policies] == [("other", "learnt-cart")]
    assert found.closing == "other"


TEXTS = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/a/*", "/a/b/*", "/*", "?", "/é", '/x"y', "/ # z"])
ROWS = st.builds(
    seen,
    st.sampled_from([WEB, JOBS, "plaintext:10.0.0.7"]),
    TEXTS,
    method=st.sampled_from(["GET", "POST", "OTHER"]),
    port=st.sampled_from([8080, 9090]),
    verdict=st.sampled_from(["allowed", "allowed", "denied"]),
)


@given(st.lists(ROWS, max_size=12), ROWS)
def test_what_was_seen_is_allowed_and_what_was_not_is_not(rows: list[Seen], other: Seen) -> None:
    found = learnt(cart(*rows))
    text = policies_yaml(found, NOW, deny_by_default=True)
    for row in (*rows, other):
        if not row.identity or row.path == "?" or row.method == "OTHER":
            continue
        path = row.path[:-1] + "z" if row.path.endswith("*") else row.path
        needed = any(
            one.verdict == "allowed"
            and (one.caller, one.method, one.port) == (row.caller, row.method, row.port)
            and (one.path == path or (one.path.endswith("/*") and path.startswith(one.path[:-1])))
            for one in rows
        )
        assert allows(text, call(row.caller, path, row.method, row.port), {"app": "cart"}) == needed


@given(st.text(max_size=30))
def test_no_path_that_a_caller_sends_opens_more_than_itself(path: str) -> None:
    kept = spelt(f"/{path}")
    assert is_class(kept)
    text = policies_yaml(learnt(cart(seen(path=kept))), NOW, deny_by_default=True)
    assert not allows(text, call(WEB, "/another/path"), {"app": "cart"}) or kept == "/another/path"
