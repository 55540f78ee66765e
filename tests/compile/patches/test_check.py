"""Patches that could not be applied, or would change nothing, are told."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.load import SourceFile, load
from gossamer.compile.check import check_config
from gossamer.core.memo import Memo
from tests.compile.patches.documents import ROUTER, envoy_filter, http_filter, lua, patch
from tests.compile.test_extensions import plugin, script


def said(document: str) -> list[tuple[str, str, str]]:
    """(severity, code, path) of what is found."""
    loaded = load([SourceFile(name="a.yaml", text=document)])
    assert not [one for one in loaded.diagnostics if one.is_error], loaded.diagnostics
    return [(one.severity.value, one.code, one.path) for one in check_config(loaded.config, Memo())]


def about(*patches: dict[str, Any], **spec: Any) -> list[tuple[str, str, str]]:
    return said(envoy_filter(*patches, **spec))


VALUE = "spec.configPatches[0].patch.value"


@pytest.mark.parametrize(
    "value",
    [
        {"nam": "x"},
        {"name": "x", "typed_config": {"inline_code": "x"}},
        lua() | {"typed_config": lua()["typed_config"] | {"inline_kode": "x"}},
        {"name": 7},
    ],
)
def test_what_is_no_configuration_of_envoys_is_an_error(value: dict[str, Any]) -> None:
    change = patch("HTTP_FILTER", "INSERT_BEFORE", value, listener=http_filter(ROUTER))
    assert about(change) == [("error", "invalid-patch", VALUE)]


def test_what_envoy_alone_can_judge_is_left_to_it() -> None:
    value = {"name": "x", "typed_config": {"@type": "type.googleapis.com/envoy.brand.new.v3.New", "any": "thing"}}
    assert about(patch("HTTP_FILTER", "INSERT_BEFORE", value, listener=http_filter(ROUTER))) == []


@pytest.mark.parametrize("operation", ["MERGE", "REMOVE", "REPLACE"])
def test_a_policy_is_not_to_be_patched(operation: str) -> None:
    value = None if operation == "REMOVE" else lua()
    change = patch("HTTP_FILTER", operation, value, listener=http_filter("envoy.filters.http.rbac"))
    path = "spec.configPatches[0].match.listener.filterChain.filter.subFilter.name"
    assert about(change) == [("error", "policy-not-patchable", path)]
    inserted = patch("HTTP_FILTER", "INSERT_AFTER", lua(), listener=http_filter("envoy.filters.http.rbac"))
    assert about(inserted) == []


@pytest.mark.parametrize(
    ("kind", "operation"), [("HTTP_ROUTE", "ADD"), ("ROUTE_CONFIGURATION", "ADD"), ("BOOTSTRAP", "ADD")]
)
def test_what_changes_nothing_is_a_warning(kind: str, operation: str) -> None:
    path = "spec.configPatches[0].patch.operation"
    assert about(patch(kind, operation, {})) == [("warning", "patch-without-effect", path)]


def test_waypoints_are_not_here() -> None:
    change = patch("CLUSTER", "REMOVE", context="WAYPOINT", waypoint={})
    assert about(change) == [("warning", "patch-without-effect", "spec.configPatches[0].match.context")]
    reference = {"group": "", "kind": "Service", "name": "x"}
    fine = patch("CLUSTER", "REMOVE")
    assert about(fine, targetRefs=[reference]) == [("warning", "patch-without-effect", "spec.targetRefs[0]")]
    assert said(script("x", targetRefs=[reference])) == [("warning", "extension-without-effect", "spec.targetRefs[0]")]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"url": "oci://registry.example/X"}, "spec.url"),
        ({"url": "registry.example/x@latest"}, "spec.url"),
        ({"url": "https://x.example/", "imagePullSecret": "s"}, "spec.imagePullSecret"),
        ({"url": "file:///x.wasm", "sha256": "0" * 64}, "spec.sha256"),
    ],
)
def test_what_is_not_done_with_a_module_is_told(spec: dict[str, Any], path: str) -> None:
    ((severity, _, found),) = said(plugin("x", **spec))
    assert (severity, found) == ("warning", path)
