"""Virtual hosts, routes and what they say of themselves."""

from __future__ import annotations

import json

import pytest
from envoy.extensions.filters.http.lua.v3 import lua_pb2 as _lua  # noqa: F401 - ParseDict needs the type

from gossamer.core.ids import Origin, ResourceId
from gossamer.simulate.outcome import Verdict
from gossamer.simulate.request import Arrival, Tls
from gossamer.simulate.simulator import Simulator, simulate
from tests.simulate import build
from tests.simulate.build import (
    Json,
    ask,
    captured,
    chain,
    direct,
    host,
    listener,
    manager,
    serving,
    table,
    to,
)

ORIGIN = Origin(resource=ResourceId(kind="VirtualService", namespace="shop", name="cart"), rule="spec.http[0]")
METADATA: Json = {"filter_metadata": {"gossamer": {"origins": [str(ORIGIN)]}}}


class TestRoutes:
    def test_every_station_and_origin_is_named(self) -> None:
        routes = table(host("shop:80", ["a.example"], [{**to("a", name="first"), "metadata": METADATA}]))
        outcome = ask(serving(routes))
        assert outcome.verdict is Verdict.SERVED
        assert (outcome.listener, outcome.route_configuration, outcome.virtual_host) == (
            "127.0.0.1_80",
            "table",
            "shop:80",
        )
        assert outcome.route is not None
        assert (outcome.route.name, outcome.route.origins, outcome.origins) == ("first", (ORIGIN,), (ORIGIN,))
        assert [str(endpoint.address) for endpoint in outcome.endpoints] == ["10.0.0.1:80"]
        assert json.loads(json.dumps(outcome.to_json()))["route"]["origins"][0]["name"] == "cart"

    def test_routes_that_were_not_delivered(self) -> None:
        resources = build.resources(listeners=[listener(80, [chain([manager("80")])])])
        outcome = ask(resources)
        assert (outcome.verdict, outcome.status) == (Verdict.NOT_FOUND, 404)
        assert "80 has not been delivered" in outcome.reason
        resources = build.resources(
            listeners=[listener(80, [chain([manager("80")])])],
            routes=[table(host("h", ["*"], [direct("d")]), name="80")],
        )
        assert ask(resources).status == 200

    @pytest.mark.parametrize(("chance", "cluster"), [(0.0, "a"), (0.29, "a"), (0.3, "b"), (0.99, "b"), (0.999999, "b")])
    def test_weights(self, chance: float, cluster: str) -> None:
        weights = {"weighted_clusters": {"clusters": [{"name": "a", "weight": 3}, {"name": "b", "weight": 7}]}}
        route = {"match": {"prefix": "/"}, "route": weights}
        outcome = ask(serving(table(host("h", ["*"], [route]))), chance=chance)
        assert outcome.cluster == cluster
        assert [(part.name, part.weight) for part in outcome.clusters] == [("a", 0.3), ("b", 0.7)]

    def test_fractions_grpc_and_metadata(self) -> None:
        def match(**more: object) -> Json:
            return {"prefix": "/", **more}

        half = {"default_value": {"numerator": 50, "denominator": "HUNDRED"}}
        claim = {"filter": "jwt", "path": [{"key": "group"}], "value": {"string_match": {"exact": "admin"}}}
        routes = [
            direct("claim", match(dynamic_metadata=[claim])),
            direct("grpc", match(grpc={})),
            direct("half", match(runtime_fraction=half)),
            direct("rest"),
        ]
        resources = serving(table(host("h", ["*"], routes)))
        asked: dict[str, Json] = {
            "rest": {"chance": 0.5},
            "half": {"chance": 0.49},
            "grpc": {"headers": [("Content-Type", "application/grpc+proto")]},
            "claim": {"metadata": {"jwt": {"group": "admin"}}},
        }
        for name, more in asked.items():
            found = ask(resources, **more).route
            assert found is not None
            assert found.name == name

    def test_details_of_a_route(self) -> None:
        action: Json = {
            "timeout": "1.5s",
            "retry_policy": {"retry_on": "5xx", "num_retries": 3, "per_try_timeout": "0.2s"},
            "request_mirror_policies": [
                {"cluster": "b", "runtime_fraction": {"default_value": {"numerator": 10, "denominator": "HUNDRED"}}}
            ],
        }
        route = ask(serving(table(host("h", ["*"], [to("a", **action), to("b")])))).route
        assert route is not None
        assert route.retries is not None
        assert (route.timeout, route.retries.attempts, route.retries.per_try_timeout) == (1.5, 3, 0.2)
        assert [(mirror.name, mirror.weight) for mirror in route.mirrors] == [("b", 0.1)]
        plain = ask(serving(table(host("h", ["*"], [to("a", timeout="0s")])))).route
        assert plain is not None
        assert (plain.timeout, plain.retries) == (None, None)

    def test_what_is_no_http_on_an_http_chain(self) -> None:
        resources = serving(table(host("h", ["*"], [direct("d")])))
        for more in ({"http": None}, {"tls": Tls(server_name="a.example")}):
            request = captured(80, "127.0.0.1", Arrival.DIRECT, **more)
            assert simulate(resources, request).verdict is Verdict.BAD_REQUEST
        only = build.resources(
            listeners=[
                listener(80, [chain([manager(table(host("h", ["*"], [direct("d")])), codec_type="HTTP2")])]),
                listener(81, [chain([manager(table(host("h", ["*"], [direct("d")])), codec_type="HTTP1")])]),
            ]
        )
        assert ask(only).verdict is Verdict.BAD_REQUEST
        assert ask(only, http2=True).status == 200
        assert simulate(only, build.get(81, http2=True)).verdict is Verdict.BAD_REQUEST


class TestPurity:
    def test_the_same_question_has_the_same_answer(self) -> None:
        simulator = Simulator(serving(table(host("h", ["*"], [to("a", prefix_rewrite="/new"), direct("d")]))))
        first = simulator.simulate(build.get(80, "/x"))
        simulator.simulate(build.get(80, "/y", headers=[("a", "b")]))
        assert simulator.simulate(build.get(80, "/x")) == first
        assert first.forwarded is not None
        assert first.forwarded.path == "/newx"
