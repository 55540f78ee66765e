"""Validation is as strict as Istio's webhook and its schemas, document by document, and no stricter."""

from __future__ import annotations

from tests.api.verdicts import cases, parsed, verdict


def test_every_document_has_its_verdict() -> None:
    found = [(kind, spec, wanted, verdict(kind, parsed(spec))) for kind, wanted, spec in cases()]
    assert len(found) > 300
    assert [one for one in found if one[2] != one[3]] == []
