"""Users' own filters do not stop the simulator; it says that it passed them over."""

from __future__ import annotations

from gossamer.simulate.outcome import Outcome
from gossamer.simulate.request import Address, Arrival, HttpRequest, Request
from gossamer.simulate.simulator import simulate
from tests.compile.compiled import Compiled
from tests.compile.patches.documents import ROUTER, envoy_filter, http_filter, patch
from tests.compile.test_extensions import plugin, run, script

NEW = {"name": "new", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.newest.v3.Newest"}}


def asked(found: Compiled, port: int, address: str = "10.9.9.9", *, http: bool = True) -> Outcome:
    request = HttpRequest(authority="reviews") if http else None
    return simulate(
        found.resources, Request(arrival=Arrival.OUTBOUND, destination=Address(ip=address, port=port), http=request)
    )


def test_filters_of_users_are_named_and_the_rest_is_simulated() -> None:
    change = patch("HTTP_FILTER", "INSERT_BEFORE", NEW, listener=http_filter(ROUTER))
    outcome = asked(run(plugin("x"), script("y"), envoy_filter(change)), 80)
    assert outcome.cluster == "outbound|80||reviews.default.svc.cluster.local"
    assert [note.split("(")[0] for note in outcome.notes] == [
        "the filter extensions.istio.io/wasmplugin/istio-system.x ",
        "the filter extensions.istio.io/trafficextension/istio-system.y ",
        "the filter new ",
    ]
    assert all(note.endswith("was passed over") for note in outcome.notes)


def test_so_are_those_of_connections() -> None:
    outcome = asked(run(plugin("x", type="NETWORK")), 3306, "10.0.0.5", http=False)
    assert outcome.cluster == "outbound|3306||db.default.svc.cluster.local"
    assert outcome.notes == ("the filter extensions.istio.io/wasmplugin/istio-system.x (Wasm) was passed over",)


def test_what_a_patch_does_to_routes_is_simulated() -> None:
    mine = {"name": "mine", "match": {"prefix": "/"}, "direct_response": {"status": 418}}
    host = {"vhost": {"name": "reviews.default.svc.cluster.local:80"}}
    change = patch("HTTP_ROUTE", "INSERT_FIRST", mine, context="SIDECAR_OUTBOUND", routeConfiguration=host)
    assert asked(run(envoy_filter(change)), 80).status == 418
