"""A real Envoy asks external authorizers, and only records what is in a dry run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.duration_pb2 import Duration

from gossamer.api.authorization_policy import Action, ExtensionProvider
from gossamer.api.extension_provider import (
    EnvoyExternalAuthorizationGrpcProvider,
    EnvoyExternalAuthorizationHttpProvider,
    EnvoyExternalAuthorizationRequestBody,
)
from gossamer.api.rules.extension_provider import Authorization
from gossamer.ca.authority import Authority
from gossamer.compile.draft import Draft, pack
from gossamer.compile.inbound import compile_inbound
from gossamer.compile.names import cluster_name
from gossamer.compile.streams import socket
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER
from gossamer.model.authorizers import Authorizer
from gossamer.model.policy import SelectedPolicy, ShadowPolicies, WorkloadPolicies
from tests.compile.authorizers import grpc_authorizer, http_authorizer
from tests.compile.sidecar import admin, free_port, get, until
from tests.compile.test_inbound_envoy import Sidecar, authority, on_path, running, selected, status

pytestmark = pytest.mark.envoy
HOST = "authz.test"
__all__ = ["authority"]


@pytest.fixture
def sidecar(envoy: Path, tmp_path: Path, authority: Authority) -> Iterator[Sidecar]:
    with running(envoy, tmp_path, authority, frozenset()) as found:
        yield found


def cluster(port: int, *, grpc: bool) -> Draft:
    place = LbEndpoint(endpoint=Endpoint(address=socket("127.0.0.1", port)))
    name = cluster_name(HOST, port)
    message = Cluster(
        name=name,
        connect_timeout=Duration(seconds=1),
        load_assignment=ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[place])]),
    )
    if grpc:
        http2 = HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
        options = pack(HttpProtocolOptions(explicit_http_config=http2))
        message.typed_extension_protocol_options[HttpProtocolOptions.DESCRIPTOR.full_name].CopyFrom(options)
    return Draft(type_url=CLUSTER, name=name, message=message, references=frozenset())


def custom(path: str = "/asked*") -> SelectedPolicy:
    policy = selected("ask", Action.CUSTOM, on_path(path))
    spec = replace(policy.spec, provider=ExtensionProvider(name="authz"))
    return replace(policy, spec=spec)


def offer(sidecar: Sidecar, spec: Authorization, problem: str = "", policy: SelectedPolicy | None = None) -> None:
    """Have requests decided by the authorizer at a port of this host."""
    policies = WorkloadPolicies(
        custom=(policy or custom(),),
        authorizer=Authorizer(name="authz", spec=spec, host=HOST, namespace="foo", problem=problem),
    )
    grpc = isinstance(spec, EnvoyExternalAuthorizationGrpcProvider)
    drafts = compile_inbound(replace(sidecar.view, policies=policies), Memo())
    sidecar.agent.publish([cluster(spec.port, grpc=grpc), *drafts])


def asking(sidecar: Sidecar, path: str = "/asked", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = sidecar.web.http(sidecar.http_port)
    try:
        return get(connection, path, **headers)
    finally:
        connection.close()


def test_an_authorizer_is_asked_over_grpc(sidecar: Sidecar) -> None:
    with grpc_authorizer() as server:
        body = EnvoyExternalAuthorizationRequestBody(max_request_bytes=64, allow_partial_message=True)
        spec = EnvoyExternalAuthorizationGrpcProvider(port=server.port, include_request_body_in_check=body)
        offer(sidecar, spec)
        until(lambda: asking(sidecar)[:2] == (401, "not you"), "the authorizer's no")
        assert asking(sidecar, x_user="good")[0] == 200
        count = len(server.asked)
        assert asking(sidecar, "/free")[0] == 200
        assert len(server.asked) == count, "nobody is asked about what no rule matches"
        assert server.asked[-1].attributes.source.principal == "spiffe://cluster.local/ns/web/sa/frontend"
        connection = sidecar.web.http(sidecar.http_port)
        assert get(connection, x_user="good")[0] == 200
        offer(sidecar, spec, "gone")
        until(lambda: asking(sidecar, x_user="good")[0] == 403, "a denial, since nobody can be asked")
        assert get(connection, "/asked", x_user="good")[0] == 403, "on the connection that was open before"
        connection.close()
    named = "istio-ext-authz-authz-ns[foo]-policy[ask]-rule[0]-deny-due-to-bad-CUSTOM-action"
    until(lambda: named in (sidecar.folder / "access.log").read_text(), "its name in the log")


def test_the_log_names_the_policy_by_which_an_authorizer_said_no(sidecar: Sidecar) -> None:
    sidecar.view = replace(sidecar.view, settings=replace(sidecar.view.settings, access_log_json=True))
    with grpc_authorizer() as server:
        offer(sidecar, EnvoyExternalAuthorizationGrpcProvider(port=server.port))
        until(lambda: asking(sidecar)[0] == 401, "the authorizer's no")
    log = sidecar.folder / "access.log"
    named = '"asked_policy":"istio-ext-authz-authz-ns[foo]-policy[ask]-rule[0]"'
    until(lambda: named in log.read_text(), "the policy's name")
    assert "ext_authz_denied" in log.read_text()


def test_an_authorizer_that_is_down_denies_or_is_passed_over(sidecar: Sidecar) -> None:
    spec = EnvoyExternalAuthorizationGrpcProvider(port=free_port(), status_on_error="503", timeout=timedelta(seconds=1))
    offer(sidecar, spec)
    until(lambda: asking(sidecar, x_user="good")[0] == 503, "its status on errors")
    assert asking(sidecar, "/free")[0] == 200
    offer(sidecar, replace(spec, fail_open=True))
    until(lambda: asking(sidecar)[0] == 200, "fail open")


def test_an_authorizer_is_asked_over_http(sidecar: Sidecar) -> None:
    with http_authorizer() as server:
        spec = EnvoyExternalAuthorizationHttpProvider(
            port=server.port,
            path_prefix="/check",
            include_request_headers_in_check=("X-User", "x-other-*"),
            include_additional_headers_in_check=FrozenMap({"x-added": "by-proxy"}),
            headers_to_upstream_on_allow=("x-for-upstream",),
            headers_to_downstream_on_deny=("x-decided-*",),
            headers_to_downstream_on_allow=("x-decided-by",),
            clear_route_cache=True,
        )
        offer(sidecar, spec)
        until(lambda: asking(sidecar)[0] == 403, "the authorizer's no")
        assert asking(sidecar)[2]["x-decided-by"] == "authorizer"
        code, body, headers = asking(sidecar, x_user="good", x_other_one="1", x_secret="2")
        assert code == 200
        assert "x-for-upstream: yes" in body
        assert headers["x-decided-by"] == "authorizer"
        path, seen, _ = server.asked[-1]
        assert path == "/check/asked"
        assert (seen["x-added"], seen["x-other-one"]) == ("by-proxy", "1")
        assert "x-secret" not in seen
        # connections without HTTP cannot be asked about: what the rules, read without HTTP, match is denied
        until(lambda: not answers(sidecar), "the TCP port")


def answers(sidecar: Sidecar) -> bool:
    """Whether the TCP application hears its client."""
    connection = sidecar.web.over_tcp().connect(sidecar.tcp_port)
    try:
        connection.sendall(b"hi\n")
        found = b""
        while part := connection.recv(100):
            found += part
            if b"hi" in found:
                return True
        return False
    except OSError:
        return False
    finally:
        connection.close()


def test_an_authorizer_is_asked_about_connections(sidecar: Sidecar) -> None:
    with grpc_authorizer() as server:
        offer(sidecar, EnvoyExternalAuthorizationGrpcProvider(port=server.port))
        until(lambda: bool(answers(sidecar) and server.asked), "a yes")
        server.admits = False
        assert not answers(sidecar)


def test_a_dry_run_is_counted_and_denies_nothing(sidecar: Sidecar) -> None:
    deny, allow = selected("deny", Action.DENY, on_path("/secret")), selected("allow", Action.ALLOW, on_path("/open"))
    shadow = ShadowPolicies(deny=(deny,), allow=(allow,), audit=(selected("audit", Action.AUDIT, on_path("/*")),))
    policies = WorkloadPolicies(shadow=shadow, audit=(selected("seen", Action.AUDIT, on_path("/*")),))
    sidecar.agent.publish(compile_inbound(replace(sidecar.view, policies=policies), Memo()))

    def stats() -> str:
        return admin(sidecar.folder, "/stats?filter=istio_dry_run")

    until(lambda: status(sidecar.web, sidecar.http_port, "/secret") == 200, "what would be denied is served")
    assert status(sidecar.web, sidecar.http_port, "/open") == 200
    until(lambda: "rbac.istio_dry_run_deny_.shadow_denied: 1" in stats(), "what would have been denied")
    assert "rbac.istio_dry_run_allow_.shadow_allowed: 1" in stats()
