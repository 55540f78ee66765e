"""What routing resources say of one another."""

from __future__ import annotations

from gossamer.api.load import SourceFile, load
from gossamer.api.source_index import placed
from gossamer.core.memo import Memo
from gossamer.model.check_routes import check_routes
from tests.compile.compiled import istio
from tests.compile.test_delegates import CHILD, ROOT, child
from tests.compile.test_http_route import GRANT, http_route


def said(*documents: str) -> list[tuple[str, str, str]]:
    loaded = load([SourceFile(name=f"{place}.yaml", text=text) for place, text in enumerate(documents)])
    assert not loaded.has_errors
    found = placed(check_routes(loaded.config, Memo()), loaded.index)
    assert all(one.position.line for one in found)
    return [(one.code, f"{one.namespace}/{one.name}", one.path) for one in found]


def test_a_delegate_that_is_not_there_or_not_exported() -> None:
    assert said(ROOT) == [("unknown-delegate", "default/root", "spec.http[0].delegate")]
    assert said(ROOT, child(CHILD + "  exportTo: ['.']")) == [
        ("unknown-delegate", "default/root", "spec.http[0].delegate")
    ]


def test_a_delegates_rule_outside_its_roots() -> None:
    assert said(ROOT, child()) == [("delegate-conflict", "team/child", "spec.http[1].match")]


def virtual_service(name: str, created: str, more: str = "") -> str:
    spec = f"  hosts: [a]\n  http: [{{route: [{{destination: {{host: b}}}}]}}]\n{more}"
    return istio("VirtualService", name, spec, metadata=f', creationTimestamp: "{created}-01-01T00:00:00Z"')


def test_two_for_one_host() -> None:
    older, younger = virtual_service("z", "2020"), virtual_service("a", "2021")
    assert said(older, younger) == [("shadowed-host", "default/a", "spec.hosts")]
    assert said(older, virtual_service("a", "2021", "  gateways: [gw]")) == [], "at gateways rules are joined"
    assert (
        said(virtual_service("z", "2020", "  exportTo: [red]"), virtual_service("a", "2021", "  exportTo: [blue]"))
        == []
    )


def test_a_reference_into_another_namespace() -> None:
    route = http_route("{backendRefs: [{name: c, namespace: other, port: 80}]}")
    assert said(route) == [("not-granted", "default/r", "spec.rules[0].backendRefs[0]")]
    assert said(route, GRANT % "default") == []
