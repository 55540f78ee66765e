"""What is said of services that lead nowhere."""

from __future__ import annotations

from gossamer.api.load import SourceFile, load
from gossamer.core.memo import Memo
from gossamer.model.check_services import check_services
from tests.compile.compiled import istio, service

ALIAS = service("alias", extra="type: ExternalName\n  externalName: real.com")
REAL = istio("ServiceEntry", "real", "  hosts: [real.com]\n  resolution: DNS\n  ports: [{number: 80, name: http}]")


def said(*documents: str) -> list[tuple[str, str, str]]:
    loaded = load([SourceFile(name=f"{place}.yaml", text=text) for place, text in enumerate(documents)])
    return [(one.code, one.name, one.path) for one in check_services(loaded.config, Memo())]


def test_an_external_name_that_the_mesh_does_not_have() -> None:
    assert said(ALIAS) == [("unknown-host", "alias", "spec.externalName")]
    assert said(ALIAS, REAL) == []
