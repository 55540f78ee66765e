"""Fields to places, and paths to text and back."""

from __future__ import annotations

import pytest

from gossamer.api.positions import Path, find_places, path_text
from gossamer.api.source_index import parse_path

TEXT = """\
apiVersion: networking.istio.io/v1
spec:
  hosts: [a, b]
  http:
  - match:
    - uri: {prefix: /x}
      without_headers:
        x-a: {exact: "1"}
    route:
      - destination:
          host: a
        weight: 5
metadata:
  labels:
    app.kubernetes.io/name: x
"""


@pytest.mark.parametrize(
    ("path", "line", "column", "key_line", "key_column", "spelt"),
    [
        (("spec", "hosts", 1), 3, 14, 3, 14, "spec.hosts[1]"),
        (("spec", "http", 0, "route", 0, "weight"), 12, 17, 12, 9, "spec.http[0].route[0].weight"),
        (("spec", "http", 0, "route"), 9, 5, 9, 5, "spec.http[0].route"),
        (("spec", "http", 0, "match", 0, "uri", "prefix"), 6, 21, 6, 13, "spec.http[0].match[0].uri.prefix"),
        # spelt in camelCase by us, in snake_case by the author
        (("spec", "http", 0, "match", 0, "withoutHeaders"), 7, 7, 7, 7, "spec.http[0].match[0].without_headers"),
        # not there: the place of what is around it
        (("spec", "http", 0, "timeout"), 5, 5, 5, 5, "spec.http[0].timeout"),
        (("spec", "tls", 3, "match"), 2, 1, 2, 1, "spec.tls[3].match"),
        (("metadata", "labels", "app.kubernetes.io/name"), 15, 29, 15, 5, 'metadata.labels["app.kubernetes.io/name"]'),
        ((), 1, 1, 1, 1, ""),
    ],
)
def test_places(path: Path, line: int, column: int, key_line: int, key_column: int, spelt: str) -> None:
    place = find_places(TEXT, [path])[path]
    assert (place.line, place.column, place.key_line, place.key_column) == (line, column, key_line, key_column)
    assert path_text(place.path) == spelt


def test_a_field_reached_through_an_alias_is_where_the_alias_stands() -> None:
    text = "a: &x\n  b: 1\nc: *x\n"
    place = find_places(text, [("c", "b")])[("c", "b")]
    assert (place.line, place.column) == (3, 1)


@pytest.mark.parametrize("path", [("spec", "http", 0, "x"), ("a", "b.c/d", 12), (), ("m", "", "x")])
def test_path_text_can_be_read_back(path: Path) -> None:
    assert parse_path(path_text(path)) == path
