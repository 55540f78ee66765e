"""The JSON that `gossamer compile` prints: what comes by ECDS stands inline, and is what comes by ECDS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gossamer.core.resources import EXTENSION, LISTENER
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled, istio, service, workload

DENY = istio(
    "AuthorizationPolicy", "deny", "  action: DENY\n  rules: [{to: [{operation: {methods: [POST], ports: ['80']}}]}]"
)
ALLOW = istio(
    "AuthorizationPolicy",
    "allow",
    "  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/a]}}]}]",
    namespace="istio-system",
)
GATEWAY_RULE = istio(
    "Gateway",
    "gw",
    "  selector: {istio: ingressgateway}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
)


def everything() -> Iterator[Compiled]:
    documents = (service("app"), service("db", "{name: tcp, port: 82}"), DENY, ALLOW, GATEWAY_RULE)
    members = (workload("app", app="app", address="1.1.1.1"),)
    for proxy in (SIDECAR, GATEWAY):
        yield compiled(*documents, proxy=proxy, registrations=members)


def filters(value: Any) -> Iterator[dict[str, Any]]:
    """Every filter in a listener, wherever it stands."""
    if isinstance(value, list):
        for item in value:
            yield from filters(item)
    elif isinstance(value, dict):
        if "name" in value and ("typed_config" in value or "config_discovery" in value):
            yield value
        for item in value.values():
            yield from filters(item)


def test_inline_and_delivered_policies_are_equal() -> None:
    compared = 0
    for found in everything():
        slots = {name: found.one(EXTENSION, name)["typed_config"] for name in found.names(EXTENSION)}
        assert any("policies" in config.get("rules", {}) for config in slots.values()), "there is something to compare"
        printed = {listener["name"]: listener for listener in found.json()["listeners"]}
        assert list(printed) == found.names(LISTENER)
        for name, listener in printed.items():
            delivered = list(filters(found.listener(name)))
            inline = list(filters(listener))
            assert len(delivered) == len(inline)
            for one, other in zip(delivered, inline, strict=True):
                if "config_discovery" in one:
                    assert other == {"name": one["name"], "typed_config": slots[one["name"]]}
                    compared += 1
    assert compared > 8


def test_nothing_is_left_to_be_fetched_but_secrets() -> None:
    for found in everything():
        assert "config_discovery" not in str(found.json()["listeners"])


def test_every_kind_is_sorted_by_name_and_original_field_names_are_kept() -> None:
    for found in everything():
        printed = found.json()
        assert list(printed) == ["listeners", "routes", "clusters", "endpoints"]
        for kind, name in (
            ("listeners", "name"),
            ("routes", "name"),
            ("clusters", "name"),
            ("endpoints", "cluster_name"),
        ):
            names = [entry[name] for entry in printed[kind]]
            assert names == sorted(names)
