"""Real Envoy takes what patches make of a configuration, and refuses what it should."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gossamer.compile.compile import compile_plain
from gossamer.compile.trial import trial_of
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE
from gossamer.model.proxy import Proxy
from gossamer.plane.envoy_check import EnvoyCheck
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled
from tests.compile.patches.documents import MANAGER, MANAGER_TYPE, ROUTER, envoy_filter, http_filter, lua, patch
from tests.compile.patches.test_filters import GATEWAY_DOCUMENT, SERVICES
from tests.compile.patches.test_structure import ROUTES

TYPES = "type.googleapis.com/envoy.extensions."
LIMIT = {
    "name": "envoy.filters.http.local_ratelimit",
    "typed_config": {
        "@type": f"{TYPES}filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limiter",
        "token_bucket": {"max_tokens": 4, "tokens_per_fill": 4, "fill_interval": "60s"},
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
    },
}
AUTHORIZER = {
    "name": "ask",
    "typed_config": {
        "@type": f"{TYPES}filters.http.ext_authz.v3.ExtAuthz",
        "grpc_service": {"envoy_grpc": {"cluster_name": "authorizer"}, "timeout": "0.5s"},
    },
}
CLUSTER_OF_IT = {
    "name": "authorizer",
    "type": "STRICT_DNS",
    "connect_timeout": "1s",
    "load_assignment": {
        "cluster_name": "authorizer",
        "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "localhost", "port_value": 9}}}}]}
        ],
    },
}
MANAGER_MERGE = {
    "name": MANAGER,
    "typed_config": {
        "@type": MANAGER_TYPE,
        "common_http_protocol_options": {"idle_timeout": "30s"},
        "max_request_headers_kb": 96,
        "preserve_external_request_id": True,
    },
}
CONNECTION_LIMIT = {
    "name": "limit",
    "typed_config": {
        "@type": f"{TYPES}filters.network.connection_limit.v3.ConnectionLimit",
        "stat_prefix": "limit",
        "max_connections": 5,
    },
}
KEEPALIVE = {
    "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 60}},
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{TYPES}upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"idle_timeout": "9s"},
            "explicit_http_config": {"http_protocol_options": {}},
        }
    },
}
OPTIONS = {
    "name": "options",
    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 7777}},
    "filter_chains": [
        {
            "filters": [
                {
                    "name": "tcp",
                    "typed_config": {
                        "@type": f"{TYPES}filters.network.tcp_proxy.v3.TcpProxy",
                        "stat_prefix": "x",
                        "cluster": "BlackHoleCluster",
                    },
                }
            ]
        }
    ],
}
NETWORK = {"filterChain": {"filter": {"name": "envoy.filters.network.tcp_proxy"}}}
ROUTE_FILTER = {
    "typed_per_filter_config": {
        "envoy.filters.http.local_ratelimit": {
            "@type": f"{TYPES}filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limiter",
            "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s"},
        }
    }
}
ADDED_HOST = {"name": "x", "domains": ["x.example"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "x"}}]}

TAKEN: dict[str, tuple[dict[str, Any], ...]] = {
    "lua": (patch("HTTP_FILTER", "INSERT_BEFORE", lua(), listener=http_filter(ROUTER)),),
    "rate limit": (patch("HTTP_FILTER", "INSERT_BEFORE", LIMIT, listener=http_filter(ROUTER)),),
    "ext_authz with its cluster": (
        patch("CLUSTER", "ADD", CLUSTER_OF_IT),
        patch("HTTP_FILTER", "ADD", AUTHORIZER, filter_class="AUTHZ"),
    ),
    "manager": (patch("NETWORK_FILTER", "MERGE", MANAGER_MERGE),),
    "connections": (patch("NETWORK_FILTER", "INSERT_BEFORE", CONNECTION_LIMIT, listener=NETWORK),),
    "clusters": (patch("CLUSTER", "MERGE", KEEPALIVE),),
    "a listener": (patch("LISTENER", "ADD", OPTIONS),),
    "a listener's own": (patch("LISTENER", "MERGE", {"per_connection_buffer_limit_bytes": 8192}),),
    "routes": (
        patch("HTTP_FILTER", "INSERT_BEFORE", LIMIT, listener=http_filter(ROUTER)),
        patch("HTTP_ROUTE", "MERGE", ROUTE_FILTER),
        patch("VIRTUAL_HOST", "ADD", ADDED_HOST, context="SIDECAR_OUTBOUND", routeConfiguration={"name": "80"}),
    ),
}
REFUSED: dict[str, tuple[dict[str, Any], ...]] = {
    "two routers": (
        patch(
            "HTTP_FILTER",
            "INSERT_FIRST",
            {"name": ROUTER, "typed_config": {"@type": f"{TYPES}filters.http.router.v3.Router"}},
        ),
    ),
    "lua that is none": (patch("HTTP_FILTER", "INSERT_BEFORE", lua(code="function ("), listener=http_filter(ROUTER)),),
    "no chain": (patch("FILTER_CHAIN", "REMOVE", listener={"name": "10.0.0.5_3306"}),),
    "an extension that nobody has": (
        patch("HTTP_FILTER", "INSERT_FIRST", {"name": "x", "typed_config": {"@type": f"{TYPES}x.v3.X"}}),
    ),
    "no router": (patch("HTTP_FILTER", "REMOVE", listener=http_filter(ROUTER)),),
    "out of range": (patch("CLUSTER", "MERGE", {"connect_timeout": "-1s"}),),
    "a route to no filter": (
        patch(
            "HTTP_ROUTE",
            "MERGE",
            {"typed_per_filter_config": {"x": {"@type": f"{TYPES}x.v3.X"}}},
            context="SIDECAR_OUTBOUND",
        ),
    ),
}


def judged(envoy: Path, found: Compiled) -> str:
    """What Envoy has against what was changed."""
    trial = trial_of(compile_plain(found.view, Memo()), found.resources)
    assert trial is not None
    return asyncio.run(EnvoyCheck(envoy=envoy).judge(trial))


@pytest.mark.envoy
@pytest.mark.parametrize("proxy", [SIDECAR, GATEWAY], ids=["sidecar", "gateway"])
@pytest.mark.parametrize("case", TAKEN)
def test_envoy_takes_what_patches_make(case: str, proxy: Proxy, envoy: Path) -> None:
    found = compiled(*SERVICES, ROUTES, GATEWAY_DOCUMENT, envoy_filter(*TAKEN[case]), proxy=proxy)
    trial = trial_of(compile_plain(found.view, Memo()), found.resources)
    if trial is None:
        assert proxy is GATEWAY  # what the gateway has nothing of: TCP
        return
    assert judged(envoy, found) == ""


@pytest.mark.envoy
@pytest.mark.parametrize("case", REFUSED)
def test_envoy_refuses_what_it_cannot_run(case: str, envoy: Path) -> None:
    found = compiled(*SERVICES, ROUTES, GATEWAY_DOCUMENT, envoy_filter(*REFUSED[case]))
    said = judged(envoy, found)
    assert said
    assert "the configuration" not in said
    print(case, "=>", said)


def test_a_trial_holds_what_was_changed_and_no_more() -> None:
    def trial(*patches: dict[str, Any]) -> dict[str, list[str]]:
        found = compiled(*SERVICES, ROUTES, envoy_filter(*patches))
        resources = trial_of(compile_plain(found.view, Memo()), found.resources)
        assert resources is not None
        return {kind: [r.name for r in resources.all_of(kind)] for kind in (LISTENER, ROUTE, CLUSTER)}

    one = {"name": "BlackHoleCluster"}
    assert trial(patch("CLUSTER", "MERGE", {"connect_timeout": "7s"}, cluster=one)) == {
        LISTENER: [],
        ROUTE: [],
        CLUSTER: ["BlackHoleCluster"],
    }
    route = trial(patch("HTTP_ROUTE", "MERGE", {"name": "x"}, context="SIDECAR_OUTBOUND"))
    assert (route[LISTENER], route[ROUTE]) == (["0.0.0.0_80"], ["80"])
    same = compiled(
        *SERVICES, envoy_filter(patch("CLUSTER", "MERGE", {"connect_timeout": "1s"}, cluster={"name": "x"}))
    )
    assert trial_of(compile_plain(same.view, Memo()), same.resources) is None
