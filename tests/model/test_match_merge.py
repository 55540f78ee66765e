"""Matches of a root and of its delegate."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.common import Exact, Prefix, Present, Regex
from gossamer.api.virtual_service import HTTPMatchRequest
from gossamer.core.frozen import FrozenMap
from gossamer.model.match_merge import StringMatch, joined_match, joined_matches, within

A, B = HTTPMatchRequest(uri=Prefix("/a")), HTTPMatchRequest(uri=Exact("/a/b"))


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        (Exact("/a"), Exact("/a"), True),
        (Exact("/a"), Exact("/b"), False),
        (Exact("/ab"), Prefix("/a"), True),
        (Prefix("/ab"), Prefix("/a"), True),
        (Prefix("/a"), Prefix("/ab"), False),
        (Prefix("/a"), Exact("/a"), False),
        (Regex("/a/.*"), Prefix("/a"), True),
        (Regex("/a/.*"), Prefix("/a/b"), False),
        (Regex("/a?"), Prefix("/a"), False),
        (Regex("/a{0,1}"), Prefix("/a"), False),
        (Regex("/a|/b"), Prefix("/a"), False),
        (Regex("(?i)/a"), Prefix("/a"), False),
        (Regex(r"/a\.b+"), Prefix("/a."), True),
        (Regex(r"/a\.?"), Prefix("/a."), False),
        (Regex(r"/a\d"), Prefix("/ad"), False),
        (Regex("/.*"), Regex("/.*"), True),
        (Exact("/a"), Regex("/.*"), False),
        (Exact("/a"), Present(), True),
        (Present(), Exact("/a"), False),
        (Present(), Prefix(""), True),
    ],
)
def test_what_surely_lies_within_another(inner: Any, outer: Any, expected: bool) -> None:
    assert within(inner, outer) is expected


def test_without_matches_on_one_side_the_others_stand() -> None:
    assert joined_matches((), (B,)) == (B,)
    assert joined_matches((A,), ()) == (A,)
    assert joined_matches((), ()) == ()
    assert joined_matches((A, HTTPMatchRequest(uri=Prefix("/x"))), (B,)) == (B,)
    assert joined_matches((HTTPMatchRequest(uri=Prefix("/x")),), (B,)) is None


BOTH: FrozenMap[str, StringMatch] = FrozenMap([("one", Exact("1")), ("two", Present())])


def test_every_condition_of_both_is_asked() -> None:
    root = HTTPMatchRequest(
        name="r",
        uri=Prefix("/a"),
        headers=FrozenMap({"one": Exact("1")}),
        without_headers=FrozenMap({"no": Prefix("x")}),
        port=80,
        source_labels=FrozenMap({"app": "a"}),
        gateways=("mesh", "ns/gw"),
    )
    part = HTTPMatchRequest(
        name="d",
        headers=FrozenMap({"two": Present()}),
        query_params=FrozenMap({"q": Exact("1")}),
        method=Exact("GET"),
        source_namespace="other",
        gateways=("mesh",),
        stat_prefix="s",
    )
    assert joined_match(root, part) == HTTPMatchRequest(
        name="r-d",
        uri=Prefix("/a"),
        headers=BOTH,
        without_headers=FrozenMap({"no": Prefix("x")}),
        query_params=FrozenMap({"q": Exact("1")}),
        method=Exact("GET"),
        port=80,
        source_labels=FrozenMap({"app": "a"}),
        source_namespace="other",
        gateways=("mesh",),
        stat_prefix="s",
    )


@pytest.mark.parametrize(
    ("root", "part"),
    [
        ({"port": 80}, {"port": 81}),
        ({"source_namespace": "a"}, {"source_namespace": "b"}),
        ({"source_labels": FrozenMap({"app": "a"})}, {"source_labels": FrozenMap({"app": "b"})}),
        ({"gateways": ("mesh",)}, {"gateways": ("ns/gw",)}),
        ({"headers": FrozenMap({"h": Exact("1")})}, {"headers": FrozenMap({"h": Prefix("1")})}),
        ({"without_headers": FrozenMap({"h": Prefix("1")})}, {"without_headers": FrozenMap({"h": Exact("1")})}),
        ({"method": Exact("GET")}, {"method": Exact("POST")}),
        ({"uri": Prefix("/a")}, {"uri": Prefix("/a"), "ignore_uri_case": True}),
    ],
)
def test_conflicts(root: dict[str, Any], part: dict[str, Any]) -> None:
    assert joined_match(HTTPMatchRequest(**root), HTTPMatchRequest(**part)) is None


def test_a_root_without_case_takes_in_what_has_one() -> None:
    root = HTTPMatchRequest(uri=Prefix("/Api"), ignore_uri_case=True)
    part = HTTPMatchRequest(uri=Exact("/aPI/x"))
    assert joined_match(root, part) == part
    assert joined_match(root, HTTPMatchRequest(uri=Regex("/API/.*"))) is not None
    assert joined_match(root, HTTPMatchRequest(method=Exact("GET"))) == HTTPMatchRequest(
        uri=Prefix("/Api"), ignore_uri_case=True, method=Exact("GET")
    )
