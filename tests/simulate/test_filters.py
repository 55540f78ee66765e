"""Policies, faults, CORS and filters that nobody simulates, in the order of the chain."""

from __future__ import annotations

import pytest
from envoy.extensions.filters.http.lua.v3 import lua_pb2 as _lua  # noqa: F401 - ParseDict needs the type

from gossamer.core.ids import Origin, ResourceId
from gossamer.simulate.outcome import Fault, Verdict
from tests.simulate import build
from tests.simulate.build import (
    ask,
    chain,
    direct,
    host,
    listener,
    manager,
    policy,
    rbac,
    serving,
    table,
    to,
    typed,
)


class TestFilters:
    def test_policy_comes_by_ecds_and_names_itself(self) -> None:
        source = {"ads": {}, "resource_api_version": "V3"}
        denying = rbac({"policy-not-received": policy()})["typed_config"]
        slot = {
            "name": "policy.http.deny",
            "config_discovery": {
                "config_source": source,
                "default_config": denying,
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"],
            },
        }
        listeners = [listener(80, [chain([manager(table(host("h", ["*"], [direct("d")])), [slot])])])]
        waiting = ask(build.resources(listeners=listeners))
        assert (waiting.verdict, waiting.reason) == (Verdict.DENIED, "denied by policy-not-received")
        named = {
            "ns[shop]-policy[no-get]-rule[1]": policy({"header": {"name": ":method", "string_match": {"exact": "GET"}}})
        }
        extension = {"name": "policy.http.deny", "typed_config": rbac(named)["typed_config"]}
        denied = ask(build.resources(listeners=listeners, extensions=[extension]))
        blamed = Origin(
            resource=ResourceId(kind="AuthorizationPolicy", namespace="shop", name="no-get"), rule="spec.rules[1]"
        )
        assert (denied.status, denied.origins) == (403, (blamed,))
        assert denied.decided_by is not None
        assert denied.decided_by.policy == "ns[shop]-policy[no-get]-rule[1]"
        assert ask(build.resources(listeners=listeners, extensions=[extension]), method="POST").status == 200

    def test_no_allow_policy_matches(self) -> None:
        nobody = {
            f"ns[shop]-policy[{name}]-rule[0]": policy({"url_path": {"path": {"exact": f"/{name}"}}})
            for name in ("b", "a")
        }
        resources = serving(table(host("h", ["*"], [direct("d")])), [rbac(nobody, "ALLOW")])
        denied = ask(resources)
        assert [origin.resource.name for origin in denied.origins] == ["a", "b"]
        assert denied.reason == "no rule of AuthorizationPolicy shop/a, AuthorizationPolicy shop/b allows it"
        passed = ask(resources, "/a")
        assert [(d.policy, d.allowed) for d in passed.policies] == [("ns[shop]-policy[a]-rule[0]", True)]

    def test_shadow_rules_only_report(self) -> None:
        shadow = typed(
            "extensions.filters.http.rbac.v3.RBAC",
            shadow_rules={"action": "DENY", "policies": {"p": policy()}},
        )
        outcome = ask(serving(table(host("h", ["*"], [direct("d")])), [{"name": "rbac", "typed_config": shadow}]))
        assert outcome.status == 200
        assert [(d.allowed, d.shadow, d.policy) for d in outcome.policies] == [(False, True, "p")]
        assert outcome.decided_by is None

    def test_a_route_may_change_or_switch_off_a_filter(self) -> None:
        off = {"rbac": typed("config.route.v3.FilterConfig", disabled=True)}
        other = {"rbac": typed("extensions.filters.http.rbac.v3.RBACPerRoute", rbac={"rules": {"action": "DENY"}})}
        routes = [
            direct("off", {"prefix": "/off"}, typed_per_filter_config=off),
            direct("other", {"prefix": "/other"}, typed_per_filter_config=other),
            direct("rest"),
        ]
        resources = serving(table(host("h", ["*"], routes)), [rbac({"p": policy()})])
        assert [ask(resources, path).status for path in ("/off", "/other", "/")] == [200, 200, 403]

    @pytest.mark.parametrize(
        ("chance", "verdict", "status"),
        [(0.05, Verdict.FAULT, 418), (0.2, Verdict.SERVED, 0), (0.9, Verdict.SERVED, 0)],
    )
    def test_faults(self, chance: float, verdict: Verdict, status: int) -> None:
        fault = typed(
            "extensions.filters.http.fault.v3.HTTPFault",
            abort={"http_status": 418, "percentage": {"numerator": 10, "denominator": "HUNDRED"}},
            delay={"fixed_delay": "2.5s", "percentage": {"numerator": 50, "denominator": "HUNDRED"}},
            headers=[{"name": "end-user", "string_match": {"exact": "jason"}}],
        )
        routes = table(host("h", ["*"], [{**to("a"), "typed_per_filter_config": {"fault": fault}}]))
        filters = [{"name": "fault", "typed_config": typed("extensions.filters.http.fault.v3.HTTPFault")}]
        jason = ask(serving(routes, filters), headers=[("end-user", "jason")], chance=chance)
        assert (jason.verdict, jason.status) == (verdict, status)
        assert ("2.5 s" in jason.reason) == (chance < 0.5)
        assert jason.route is not None
        assert jason.route.fault == Fault(delay=2.5, delay_fraction=0.5, status=418, abort_fraction=0.1)
        spared = ask(serving(routes, filters), chance=chance)
        assert (spared.verdict, spared.route and spared.route.fault) == (Verdict.SERVED, None)

    def test_preflights(self) -> None:
        cors = typed(
            "extensions.filters.http.cors.v3.CorsPolicy",
            allow_origin_string_match=[{"suffix": ".friend.example"}],
        )
        routes = table(host("h", ["*"], [{**to("a"), "typed_per_filter_config": {"cors": cors}}]))
        filters = [{"name": "cors", "typed_config": typed("extensions.filters.http.cors.v3.Cors")}]

        def preflight(origin: str, method: str = "OPTIONS") -> Verdict:
            headers = [("origin", origin), ("access-control-request-method", "PUT")]
            return ask(serving(routes, filters), method=method, headers=headers).verdict

        assert preflight("https://a.friend.example") is Verdict.ANSWERED
        assert preflight("https://a.enemy.example") is Verdict.SERVED
        assert preflight("https://a.friend.example", "PUT") is Verdict.SERVED

    def test_filters_that_are_not_simulated_are_named(self) -> None:
        lua = typed("extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": ""})
        outcome = ask(serving(table(host("h", ["*"], [direct("d")])), [{"name": "script", "typed_config": lua}]))
        assert (outcome.status, outcome.notes) == (200, ("the filter script (Lua) was passed over",))

    def test_what_decides_and_is_not_simulated_is_unknown(self) -> None:
        odd = policy({"matcher": {"name": "m", "typed_config": typed("config.route.v3.FilterConfig")}})
        outcome = ask(serving(table(host("h", ["*"], [direct("d")])), [rbac({"p": odd})]))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "not simulated: RBAC permissions by matcher")
        pattern = {"prefix": "/", "headers": [{"name": "x", "string_match": {"safe_regex": {"regex": r"\pL"}}}]}
        resources = serving(table(host("h", ["*"], [direct("d", pattern)])))
        assert ask(resources, headers=[("x", "y")]).verdict is Verdict.UNKNOWN
