"""`gossamer validate` tries patches on the installed Envoy, and names file and line of what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_validate_and_compile import output

FILTERS = """\
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: mixed, namespace: default}
spec:
  configPatches:
  - applyTo: CLUSTER
    patch: {operation: MERGE, value: {connect_timeout: 3s}}
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener:
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
    patch:
      operation: INSERT_BEFORE
      value:
        name: mine
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          inline_code: CODE
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {ports: [{name: http, port: 80}]}
"""


def validated(capsys: pytest.CaptureFixture[str], path: Path, *options: str, code: int = 0) -> list[Any]:
    """[code, path, line] of what is found."""
    found = output(capsys, "validate", "-f", str(path), "-o", "json", *options, code=code)
    return [[one["code"], one["path"], one["line"]] for one in found]


@pytest.mark.envoy
@pytest.mark.usefixtures("envoy")
def test_a_patch_that_envoy_refuses_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "filters.yaml"
    path.write_text(FILTERS.replace("CODE", "function ("))
    assert validated(capsys, path, code=1) == [["envoy-refuses", "spec.configPatches[1]", 8]]
    assert validated(capsys, path, "--no-envoy") == []
    path.write_text(FILTERS.replace("CODE", "function envoy_on_request(handle) end"))
    assert validated(capsys, path) == []


def test_what_is_no_envoy_configuration_is_told_without_envoy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "filters.yaml"
    path.write_text(FILTERS.replace("inline_code: CODE", "inline_kode: x"))
    found = validated(capsys, path, "--no-envoy", code=1)
    assert found == [["invalid-patch", "spec.configPatches[1].patch.value", 18]]
