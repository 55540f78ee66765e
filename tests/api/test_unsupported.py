"""What is not acted on yet is never passed over in silence."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.findings import At
from gossamer.api.mesh_document import build_mesh_config
from gossamer.api.no_effect import NO_EFFECT
from gossamer.api.positions import path_text
from gossamer.api.refused import REFUSED
from gossamer.api.unsupported import UNSUPPORTED, check_support
from gossamer.core.diagnostics import Severity
from tests.api.documents import errors


def _written_as(pattern: str) -> Any:
    """A spec in which a pattern's field is set."""
    path, _, values = pattern.partition("=")
    value: Any = values.split("|")[0].replace("*", "x") if values else {"x": 1}
    for step in reversed(path.replace("[]", ".[]").replace("{}", ".{}").split(".")):
        value = [value] if step == "[]" else {"k": value} if step == "{}" else {step: value}
    return value


PATTERNS = [(kind, pattern) for table in (UNSUPPORTED, REFUSED) for kind in table for pattern in table[kind]]


@pytest.mark.parametrize(("kind", "pattern"), PATTERNS)
def test_every_pattern_finds_its_field(kind: str, pattern: str) -> None:
    at = At()
    check_support(kind, _written_as(pattern), at)
    path = pattern.partition("=")[0].replace("[]", "[0]").replace("{}", ".k")
    assert (path, "unsupported-field") in [(path_text(found.path), found.code) for found in at.findings]


def _snake(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in key): _snake(item) for key, item in value.items()
        }
    return [_snake(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("kind", "pattern"), [(kind, p) for kind, p in PATTERNS if "MTLS" not in p and p.partition("=")[0] != p.lower()]
)
def test_in_snake_case_too(kind: str, pattern: str) -> None:
    at = At()
    check_support(kind, _snake(_written_as(pattern)), at)
    assert "unsupported-field" in [found.code for found in at.findings]


@pytest.mark.parametrize("nothing", [None, False, 0, "", []])
def test_what_says_nothing_is_let_pass(nothing: Any) -> None:
    at = At()
    check_support("Gateway", {"servers": [{"defaultEndpoint": nothing, "tls": {"mode": "SIMPLE"}}]}, at)
    assert at.findings == []


def test_defaults_are_not_complained_of() -> None:
    tls = {"mode": "SIMPLE", "credentialName": "c", "insecureSkipVerify": False, "subjectAltNames": []}
    server = {"port": {"number": 443, "name": "h", "protocol": "HTTPS"}, "hosts": ["*"], "tls": tls}
    assert errors("Gateway", {"servers": [server]}) == []


@pytest.mark.parametrize("path", [(kind, path) for kind, reasons in NO_EFFECT.items() for path in reasons])
def test_what_cannot_have_an_effect_is_said_with_its_reason(path: tuple[str, str]) -> None:
    kind, field = path
    at = At()
    assert not check_support(kind, _written_as(field), at)
    ((found,)) = [one for one in at.findings if one.severity is Severity.INFO]
    assert (path_text(found.path), found.code) == (field.replace("[]", "[0]"), "no-effect")
    assert found.message.endswith(NO_EFFECT[kind][field])


@pytest.mark.parametrize(("kind", "field"), [(kind, path) for kind, paths in REFUSED.items() for path in paths])
def test_what_is_refused_is_said_with_its_reason_and_what_to_do(kind: str, field: str) -> None:
    at = At()
    assert check_support(kind, _written_as(field), at)
    ((found,)) = [one for one in at.findings if one.severity is not Severity.INFO]
    refusal = REFUSED[kind][field]
    assert (refusal.why in found.message, found.hint) == (True, refusal.instead)


def test_an_item_of_a_list_is_left_out_of_the_mesh_config_alone() -> None:
    provider = {"name": "keys", "sds": {"name": "keys", "service": "keys.test", "port": 80}}
    mesh, at = build_mesh_config({"trustDomain": "td", "extensionProviders": [provider]})
    assert mesh is not None
    assert mesh.trust_domain == "td"
    assert all(one.sds is None for one in mesh.extension_providers)
    assert "unsupported-field" in [found.code for found in at.findings]
