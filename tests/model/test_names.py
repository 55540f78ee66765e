"""Hostnames: short forms, wildcards, precedence."""

from __future__ import annotations

import pytest

from gossamer.model.names import covers, most_specific, overlaps, qualified, short_names

DOMAIN = "cluster.local"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("reviews", "reviews.default.svc.cluster.local"),
        ("Reviews", "reviews.default.svc.cluster.local"),
        ("reviews.prod", "reviews.prod"),
        ("example.com", "example.com"),
        ("*", "*"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_only_names_without_a_dot_are_completed(written: str, meant: str) -> None:
    assert qualified(written, "default", DOMAIN) == meant


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("a.com", "a.com", True),
        ("a.com", "b.a.com", False),
        ("*.com", "a.com", True),
        ("*.a.com", "a.com", False),
        ("*.a.com", "b.a.com", True),
        ("*.a.com", "*.b.a.com", True),
        ("*.b.a.com", "*.a.com", False),
        ("*", "*.a.com", True),
        ("*", "a", True),
        ("a.com", "*.com", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, host: str, covered: bool) -> None:
    assert covers(pattern, host) is covered


def test_two_patterns_agree_on_the_narrower_one() -> None:
    assert overlaps("*", "foo.bar") == "foo.bar"
    assert overlaps("foo.bar", "*") == "foo.bar"
    assert overlaps("*.a.com", "*.com") == "*.a.com"
    assert overlaps("a.com", "b.com") is None


def test_the_most_specific_pattern_wins() -> None:
    patterns = ["*", "*.com", "*.a.com", "b.a.com"]
    assert most_specific(patterns, "b.a.com") == "b.a.com"
    assert most_specific(patterns, "c.a.com") == "*.a.com"
    assert most_specific(patterns, "x.org") == "*"
    assert most_specific(["*.com"], "x.org") is None


def test_short_names_follow_the_clients_search_path() -> None:
    host = "reviews.default.svc.cluster.local"
    assert short_names(host, "default", DOMAIN) == ("reviews", "reviews.default.svc", "reviews.default")
    assert short_names(host, "other", DOMAIN) == ("reviews.default.svc", "reviews.default")
    assert short_names("example.com", "default", DOMAIN) == ()
    assert short_names("a.b.c.svc.cluster.local", "c", DOMAIN) == ()
