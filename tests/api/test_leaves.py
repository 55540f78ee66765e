"""Durations, regular expressions, names: the strings that have rules."""

from __future__ import annotations

import pytest

from gossamer.api import names
from gossamer.api.common import json_name, parse_nanoseconds
from gossamer.api.regex import regex_problem
from gossamer.api.structure import closest


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1h30m", 5400 * 10**9),
        ("0.5s", 5 * 10**8),
        (".5s", 5 * 10**8),
        ("1.s", 10**9),
        ("5ms", 5 * 10**6),
        ("1us", 1000),
        ("1µs", 1000),
        ("2.000000005s", 2_000_000_005),
        ("-5ms", -5 * 10**6),
        ("+1s", 10**9),
        ("300s", 300 * 10**9),
        ("1", None),
        ("", None),
        ("s", None),
        ("1 s", None),
        ("1d", None),
        ("1s-", None),
        ("\uff19s", None),
        ("9999999h", None),
        ("1" * 100 + "s", None),
    ],
)
def test_durations(text: str, nanoseconds: int | None) -> None:
    assert parse_nanoseconds(text) == nanoseconds


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a",
        "^.*$",
        "(a|b)*?",
        "[[:alpha:]_-]+",
        "[]a]",
        "[^]]",
        r"\d+\.\w",
        "(?i)abc",
        "(?P<x>a)(?<y>b)",
        r"\pL\p{Greek}",
        "a{2,5}",
        "a{,5}",
        "{",
        "a{1",
        r"\Q(*\E",
        r"[\w.-]+",
        "(?i:a)",
        "(?i-s:a)",
        "()",
        r"\x{1F600}",
        r"\_",
        "[a-]",
        r"\Aa\z",
    ],
)
def test_patterns_of_re2(pattern: str) -> None:
    assert regex_problem(pattern) == ""


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "(",
        "a)",
        "[",
        "a**",
        "a++",
        "(?=a)",
        "(?<!a)",
        r"(a)\1",
        "a{1001}",
        "a{3,2}",
        "[z-a]",
        r"\Z",
        "(?)",
        "[[:foo:]]",
        "|*",
        r"\8",
        ")++++",
        "(?P<n>a)(?P<n>b)",
        "abc\\",
        "[a",
        "(?Q)",
    ],
)
def test_what_re2_does_not_take(pattern: str) -> None:
    assert regex_problem(pattern)


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        ("a", True),
        ("A.b-c.example.com", True),
        ("a.", True),
        ("*", True),
        ("*.a.b", True),
        ("*-x.a", True),
        ("*x", True),
        ("outbound_.80_._.a.b", True),
        ("outbound_.80_.v1_.a.b", True),
        ("", False),
        ("a..b", False),
        ("-a", False),
        ("a_b", False),
        ("a.*.b", False),
        ("**.a", False),
        ("*.", False),
        ("a b", False),
        ("x" * 64, False),
        (".".join(["abcdefgh"] * 40), False),
        ("1.2", False),
        ("http://a", False),
    ],
)
def test_hosts(host: str, valid: bool) -> None:
    assert (names.wildcard_domain_problem(host) == "") is valid


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("a.b", "a.b", True),
        ("*.b", "a.b", True),
        ("a.b", "*.b", True),
        ("*.a.b", "*.b", True),
        ("*", "a", True),
        ("a.b", "c.b", False),
        ("*.a", "*.b", False),
        ("*.b", "b", False),
    ],
)
def test_overlap_of_hosts(one: str, other: str, overlap: bool) -> None:
    assert names.hosts_overlap(one, other) is overlap
    assert names.hosts_overlap(other, one) is overlap


@pytest.mark.parametrize(
    ("subnet", "valid"),
    [
        ("10.0.0.1", True),
        ("10.0.0.1/8", True),
        ("::1/128", True),
        ("001:db8::", True),
        ("10.0.0.1/33", False),
        ("10.0.0.01", False),
        ("a", False),
        ("10.0.0.0/", False),
        ("10.0.0.0/+8", False),
        ("", False),
    ],
)
def test_subnets(subnet: str, valid: bool) -> None:
    assert (names.subnet_problem(subnet) == "") is valid


@pytest.mark.parametrize("text", ["10.0.0.1", "255.255.255.255", "::", "fd00::1"])
def test_addresses(text: str) -> None:
    assert names.is_ip(text)


@pytest.mark.parametrize(
    "text", ["10.0.0", "10.0.0.1.", "10.0.0.256", "10.0.0.01", "fe80::1%eth0", "a", "", "10.0.0.1\n"]
)
def test_no_addresses(text: str) -> None:
    assert not names.is_ip(text)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("app", "x", True),
        ("app", "", True),
        ("a.b/c-d", "x_y.z", True),
        ("", "x", False),
        ("/a", "x", False),
        ("a/b/c", "x", False),
        ("a", "x y", False),
        ("a", "-x", False),
        ("a" * 64, "x", False),
        ("a", "x" * 64, False),
    ],
)
def test_labels(key: str, value: str, valid: bool) -> None:
    assert (names.label_problem(key, value) == "") is valid


def test_json_names() -> None:
    assert json_name("http2_max_requests") == "http2MaxRequests"
    assert json_name("consecutive_5xx_errors") == "consecutive5xxErrors"
    assert json_name("from_") == "from"


def test_closest() -> None:
    assert closest("hots", ["hosts", "http"]) == "did you mean hosts?"
    assert closest("zzz", ["hosts", "http"]) == ""
