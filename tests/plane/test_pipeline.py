"""From files to resources, with mistakes on the way."""

from __future__ import annotations

from gossamer.api.last_good import LastGood
from gossamer.core.diagnostics import Diagnostic, Position, Severity
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, ENDPOINT
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.plane.pipeline import Pipeline
from gossamer.sources.files import Files
from gossamer.sources.registry import registration_of
from tests.plane.running import SELECTED, TRUST_DOMAIN, reviews, service

WEB = Proxy(type=ProxyType.SIDECAR, namespace="default", name="web")
RATINGS = "outbound|80||ratings.example.com"
BROKEN = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ratings\n"
INVALID = service("ratings").replace("STATIC", "SOMETIMES")


def built(last_good: LastGood | None = None, /, **texts: str) -> Pipeline:
    pipeline = Pipeline(mesh_config=None, last_good=last_good)
    pipeline.build(files(**texts), ())
    return pipeline


def files(**texts: str) -> Files:
    return Files(texts=FrozenMap({f"{name}.yaml": text for name, text in texts.items()}))


def clusters(pipeline: Pipeline) -> set[str]:
    resources = pipeline.resources(WEB)
    assert resources is not None
    return {item.name for item in resources.all_of(CLUSTER) if item.name.startswith("outbound|")}


def version(pipeline: Pipeline, name: str) -> str:
    resources = pipeline.resources(WEB)
    assert resources is not None
    found = resources.get(ENDPOINT, name)
    assert found is not None
    return found.version


def test_files_become_resources() -> None:
    assert clusters(built(ratings=service("ratings"))) == {RATINGS}


def test_an_invalid_edit_changes_nothing_but_the_diagnostics() -> None:
    pipeline = built(ratings=service("ratings"))
    before = pipeline.resources(WEB)
    pipeline.build(files(ratings=INVALID), ())
    assert pipeline.resources(WEB) is before
    assert any(diagnostic.is_error for diagnostic in pipeline.diagnostics)
    pipeline.build(files(ratings=service("ratings", "10.0.0.2")), ())
    assert pipeline.resources(WEB) != before
    assert pipeline.diagnostics == ()


def test_an_unreadable_edit_freezes_its_file_alone() -> None:
    pipeline = built(ratings=service("ratings"), details=service("details"))
    before = version(pipeline, RATINGS)
    pipeline.build(files(ratings=BROKEN, details=service("details", "10.0.0.7"), new=service("new")), ())
    assert version(pipeline, RATINGS) == before
    assert "outbound|80||new.example.com" in clusters(pipeline)


def test_another_pipeline_with_the_same_memory_says_the_same() -> None:
    first = built(ratings=service("ratings"))
    first.build(files(ratings=BROKEN), ())
    kept = LastGood.from_bytes(first.last_good.to_bytes())
    second = built(kept, ratings=BROKEN)
    assert second.ready
    assert version(second, RATINGS) == version(first, RATINGS)


def test_nothing_is_given_until_everything_could_once_be_read() -> None:
    pipeline = built(ratings=service("ratings"), policy=BROKEN)
    assert not pipeline.ready
    assert pipeline.resources(WEB) is None
    pipeline.build(files(ratings=service("ratings"), policy=service("policy")), ())
    assert pipeline.ready
    assert RATINGS in clusters(pipeline)


def test_a_file_that_goes_takes_its_resources_along() -> None:
    pipeline = built(ratings=service("ratings"), details=service("details"))
    pipeline.build(files(details=service("details")), ())
    assert RATINGS not in clusters(pipeline)


def test_equal_files_give_the_same_object() -> None:
    pipeline = built(ratings=service("ratings"))
    before = pipeline.resources(WEB)
    pipeline.build(files(ratings=service("ratings") + "\n# a comment\n"), ())
    assert pipeline.resources(WEB) is before
    assert pipeline.generation == 2


def test_what_hosts_register_answers_for_services_that_select_it() -> None:
    pipeline = built(reviews=SELECTED)
    name = "outbound|9080||reviews.default.svc.cluster.local"
    before = version(pipeline, name)
    workload = registration_of("host-a", reviews(), TRUST_DOMAIN).workload
    pipeline.build(files(reviews=SELECTED), (workload,))
    assert version(pipeline, name) != before
    pipeline.build(files(reviews=SELECTED), ())
    assert version(pipeline, name) == before


def test_what_the_source_could_not_read_is_among_the_diagnostics() -> None:
    unreadable = Diagnostic(
        severity=Severity.ERROR, code="unreadable-file", message="no", position=Position(file="ratings.yaml")
    )
    pipeline = Pipeline(mesh_config=None, last_good=None)
    pipeline.build(Files(texts=FrozenMap({"ratings.yaml": service("ratings")}), diagnostics=(unreadable,)), ())
    assert pipeline.diagnostics == (unreadable,)
