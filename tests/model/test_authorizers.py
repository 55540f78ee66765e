"""Who is asked to decide about requests, and what becomes of policies whose authorizer cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, ExtensionProvider, Rule
from gossamer.api.common import PolicyTargetReference
from gossamer.api.config import Config
from gossamer.api.load import SourceFile, load
from gossamer.api.mesh_document import build_mesh_config
from gossamer.api.resource import Resource
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from gossamer.model.authorizers import Authorizer, build_authorizers
from gossamer.model.build_policies import GATEWAY_CLASS, GATEWAY_NAME, build_policies
from gossamer.model.check_policies import check_policies
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.policy_match import Call, HttpCall, decide
from gossamer.model.service import Port, Service
from gossamer.model.settings import MeshSettings

SERVICES = (
    Service(hostname="authz.foo.svc.cluster.local", namespace="foo", ports=(Port(number=9000),)),
    Service(hostname="twice.example", namespace="a", ports=(Port(number=9000),)),
    Service(hostname="twice.example", namespace="b", ports=(Port(number=9000),)),
)


def authorizers(**spec: Any) -> FrozenMap[str, Authorizer]:
    spec = {"service": "foo/authz.foo.svc.cluster.local", "port": 9000, **spec}
    kind = "envoyExtAuthzHttp" if spec.pop("http", False) else "envoyExtAuthzGrpc"
    mesh, _ = build_mesh_config({"extensionProviders": [{"name": "x", kind: spec}]})
    assert mesh is not None
    return build_authorizers(mesh.extension_providers, SERVICES)


def asking(provider: str = "x", name: str = "p", **annotations: str) -> Resource[AuthorizationPolicy]:
    spec = AuthorizationPolicy(action=Action.CUSTOM, provider=ExtensionProvider(name=provider), rules=(Rule(),))
    identity = ResourceId(kind="AuthorizationPolicy", namespace="foo", name=name)
    return Resource(id=identity, spec=spec, annotations=FrozenMap(annotations))


def policies(
    known: FrozenMap[str, Authorizer], *found: Resource[AuthorizationPolicy], **labels: str
) -> WorkloadPolicies:
    index = build_policies(MeshSettings(), found, (), known)
    return index.for_workload("foo", FrozenMap(labels), Memo())


CALL = Call(http=HttpCall())


def test_an_authorizer_is_found_by_its_service() -> None:
    found = authorizers()["x"]
    assert (found.host, found.namespace, found.port) == ("authz.foo.svc.cluster.local", "foo", 9000)
    assert found.can_decide(tcp=True)
    over_http = authorizers(http=True)["x"]
    assert over_http.can_decide(tcp=False)
    assert not over_http.can_decide(tcp=True)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"service": "nobody.example"}, "there is no service nobody.example"),
        ({"service": "bar/authz.foo.svc.cluster.local"}, "there is no service"),
        ({"service": "twice.example"}, "several services"),
        ({"port": 9001}, "has no port 9001"),
        ({"port": 999999}, "between 1-65535"),
        ({"service": ""}, "service must name"),
        ({"timeout": "0s"}, "at least 1ms"),
        ({"statusOnError": "999"}, "no HTTP status"),
        ({"includeRequestBodyInCheck": {}}, "at least 1"),
        ({"http": True, "pathPrefix": "check"}, "does not start with /"),
        ({"http": True, "headersToUpstreamOnAllow": [""]}, "must not be empty"),
        ({"http": True, "includeAdditionalHeadersInCheck": {"a b": "x"}}, "no name of a header"),
    ],
)
def test_what_keeps_an_authorizer_from_being_asked(spec: dict[str, Any], problem: str) -> None:
    known = authorizers(**spec)
    assert problem in known["x"].problem
    verdict = decide(policies(known, asking()), CALL)
    assert not verdict.allowed
    assert verdict.policy is not None
    assert not verdict.asks


def test_a_mesh_config_keeps_its_other_settings_beside_a_bad_provider() -> None:
    value = {"trustDomain": "td1", "extensionProviders": [{"name": "x", "envoyExtAuthzGrpc": {"port": 999999}}]}
    mesh, at = build_mesh_config(value)
    assert mesh is not None
    assert mesh.trust_domain == "td1"
    assert {finding.code for finding in at.findings} == {"bad-provider"}
    assert not at.has_errors


def test_an_authorizer_is_asked_before_what_denies_and_allows() -> None:
    found = policies(authorizers(), asking())
    assert decide(found, CALL).allowed
    assert decide(found, CALL).asks == "x"


def test_one_workload_asks_one_authorizer() -> None:
    found = policies(authorizers(), asking(), asking("y", name="q"))
    assert found.authorizer is not None
    assert "can ask one provider" in found.authorizer.problem
    assert not decide(found, CALL).allowed
    assert not decide(policies(authorizers(), asking("nobody")), CALL).allowed


def test_a_provider_that_nobody_has_is_told() -> None:
    mesh, _ = build_mesh_config({"extensionProviders": [{"name": "x", "envoyExtAuthzGrpc": {}}, {"name": "z"}]})
    assert mesh is not None
    found = tuple(asking(name, name=f"p-{name}") for name in ("x", "y", "z"))
    told = check_policies(Config(mesh=mesh, authorization_policies=found))
    assert [(one.name, one.code, one.path) for one in told] == [
        ("p-y", "bad-provider", "spec.provider.name"),
        ("p-z", "bad-provider", "spec.provider.name"),
    ]


def test_a_dry_run_stands_apart() -> None:
    dry = {"istio.io/dry-run": "true"}
    assert policies(authorizers(), asking(**dry)).custom == ()
    identity = ResourceId(kind="AuthorizationPolicy", namespace="foo", name="d")
    spec = AuthorizationPolicy(action=Action.DENY, rules=(Rule(),))
    found = policies(FrozenMap(), Resource(id=identity, spec=spec, annotations=FrozenMap(dry)))
    assert [policy.name for policy in found.shadow.deny] == ["d"]
    assert found.deny == ()
    token = ResourceId(kind="RequestAuthentication", namespace="foo", name="d")
    broken = Resource(id=token, spec=spec, annotations=FrozenMap(dry), fail_closed=True)
    assert len(policies(FrozenMap(), broken).deny) == 1, "what denies in another's stead is no dry run"


def test_a_policy_for_a_gateway_class_is_the_root_namespaces() -> None:
    reference = PolicyTargetReference(group="gateway.networking.k8s.io", kind="GatewayClass", name="istio")
    spec = AuthorizationPolicy(action=Action.DENY, target_refs=(reference,), rules=(Rule(),))

    def count(namespace: str, **labels: str) -> int:
        identity = ResourceId(kind="AuthorizationPolicy", namespace=namespace, name="d")
        return len(policies(FrozenMap(), Resource(id=identity, spec=spec), **labels).deny)

    assert count("istio-system", **{GATEWAY_CLASS: "istio"}) == 1
    assert count("foo", **{GATEWAY_CLASS: "istio"}) == 0
    assert count("istio-system", **{GATEWAY_NAME: "istio"}) == 0


WRITTEN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: foo, annotations: {istio.io/dry-run: "true"}}
spec: %s
"""


def test_what_is_said_of_policies_that_nobody_enforces() -> None:
    custom = "{action: CUSTOM, provider: {name: x}, rules: [{}]}"
    service = "{action: DENY, rules: [{}], targetRefs: [{kind: Service, group: '', name: reviews}]}"
    for spec in (custom, service):
        loaded = load([SourceFile(name="a.yaml", text=WRITTEN % spec)])
        assert [diagnostic.code for diagnostic in loaded.diagnostics] == ["no-effect"]
        assert len(loaded.config.authorization_policies) == 1
    invalid = load([SourceFile(name="a.yaml", text=WRITTEN % "{action: DENY, rules: []}")])
    assert invalid.config.authorization_policies == (), "a dry run that is not valid has nothing to deny"
