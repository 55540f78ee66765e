"""What is said of destinations that nobody declares."""

from __future__ import annotations

from gossamer.api.load import SourceFile, load
from gossamer.api.source_index import placed
from gossamer.core.memo import Memo
from gossamer.model.check_destinations import check_destinations
from tests.compile.compiled import istio, service

REVIEWS = service("reviews", "{name: http, port: 80}")
RULE = istio("DestinationRule", "reviews", "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}]")
ALIAS = service("alias", extra="type: ExternalName\n  externalName: reviews.default.svc.cluster.local")


def said(destination: str, *documents: str) -> list[tuple[str, str, str]]:
    text = f"  hosts: [x.com]\n  http:\n  - route: [{{destination: {destination}}}]\n    mirror: {{host: x.com}}"
    files = [
        SourceFile(name=f"{place}.yaml", text=t)
        for place, t in enumerate((istio("VirtualService", "v", text), *documents))
    ]
    loaded = load(files)
    assert not loaded.has_errors
    found = placed(check_destinations(loaded.config, Memo()), loaded.index)
    assert all(one.position.line for one in found)
    return [(one.code, one.path.removeprefix("spec.http[0].route[0].destination"), one.hint) for one in found]


def test_what_leads_somewhere() -> None:
    assert said("{host: reviews, port: {number: 80}, subset: v1}", REVIEWS, RULE) == []
    assert said("{host: alias, port: {number: 81}}", REVIEWS, ALIAS) == []


def test_a_host_that_its_namespace_does_not_have() -> None:
    hint = "did you mean reviews.default.svc.cluster.local?"
    assert said("{host: review}", REVIEWS) == [("unknown-host", ".host", hint)]


def test_a_port_and_a_subset_that_a_host_does_not_have() -> None:
    assert said("{host: reviews, port: {number: 81}}", REVIEWS) == [("unknown-port", ".port.number", "it has 80")]
    assert said("{host: reviews, subset: v2}", REVIEWS, RULE) == [("unknown-subset", ".subset", "it has v1")]
    assert said("{host: reviews, subset: v2}", REVIEWS) == [("unknown-subset", ".subset", "")]


def test_what_another_file_may_declare() -> None:
    assert said("{host: reviews, port: {number: 81}, subset: v2}") == []
    assert said("{host: reviews.other.svc.cluster.local}", REVIEWS) == []
    assert said("{host: example.org, subset: v2}", REVIEWS, RULE) == []
