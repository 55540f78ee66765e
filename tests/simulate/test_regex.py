"""RE2 on Python's `re`: what is translated means the same to the Envoy that we ship; the rest is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.regex import compile_regex, matches_whole, substitute
from tests.simulate import build, real_envoy
from tests.simulate.build import direct, host, manager, table

PATTERNS = (
    *(".*", "a|b", "a+", "(a|b)*c", "[a-c]+", "[^a-c]+", r"\d+", r"\D+", r"\w+", r"\W*", r"\s*x\s*", r"\S+", "a{2,3}"),
    *(
        "a{2}",
        "a{2,}",
        "^a.*b$",
        "^$",
        r"\Aab\z",
        "(?i)abc",
        "(?i:a)bc",
        "(?P<n>a)b",
        "(?<n>a)b",
        r"\Qa.b\E.c",
        r"\Qa+",
    ),
    *(
        r"\x61b",
        r"\x{61}b",
        "[[:alpha:]]+",
        "[[:digit:][:space:]]+",
        "[[:^alpha:]]+",
        r"[\d-]+",
        r"[\w.-]+",
        r"[\s\]]+",
    ),
    *(
        r"a\.b",
        r"\/a",
        "[]a]+",
        "[^]a]+",
        "[a&&b]+",
        "[a||b~~c]+",
        "[[a]+",
        "a*?b",
        "(?:ab)+",
        "(?s)a.b",
        "(?m)^a$",
        "a.b",
    ),
    *(
        r"\babc\b",
        r"ab\Bc",
        r"(^(.*?;)?(a=1)(;.*)?$)",
        r"[\x41-\x43]+",
        r"\141b",
        "[!-/]+",
        "a{,2}",
        "{",
        "a{x",
        r"\a?a",
    ),
    *(
        "[a-]+",
        "[-a]+",
        r"[a\-c]+",
        r"\-",
        "é",
        "[é-ü]+",
        r"(?i)é",
        r"\pL+",
        r"\p{Greek}",
        r"[\pN]+",
        r"(?U)a+",
        "(a)(?i)b",
        r"\C",
    ),
    *(r"[^\d]+", r"[^[:alpha:]]+", r"[\W]+", r"[\D]+", r"[\S]+", "(?-i)ab", "(?i)a(?-i:b)", "a++", "(", r"\1", "(?=a)"),
)
TEXTS = (
    *(
        "",
        "a",
        "b",
        "ab",
        "abc",
        "ABC",
        "aBc",
        "aa",
        "aaa",
        "aaaa",
        "c",
        "abac",
        "1",
        "123",
        "a1",
        "a b",
        " x ",
        "x",
        "a.b",
    ),
    *(
        "a.b.c",
        "a.bxc",
        "a+",
        "/a",
        "]",
        "]a]",
        "a&b",
        "a|b~c",
        "[",
        "[a",
        "a=1",
        "x;a=1;y",
        "a-c",
        "-",
        "{",
        "a{,2}",
        "a{x",
    ),
    *("é", "É", "ü", "β", "aé", "!", "~", "_", "abc def", "b c", "ab.c-d", "-1-2", "a\tb", "^a", "&", "z"),
)


@pytest.mark.envoy
def test_the_same_as_in_envoy(envoy: Path, tmp_path: Path) -> None:
    simulated, refused = [], []
    for pattern in PATTERNS:
        try:
            compile_regex(pattern)
            simulated.append(pattern)
        except NotSimulatedError:
            refused.append(pattern)
    assert {"a++", "(", r"\1", "(?=a)"} <= set(refused)
    assert len(refused) <= 16, refused
    routes = [
        direct(
            str(number),
            {"prefix": f"/{number}/", "headers": [{"name": "x", "string_match": {"safe_regex": {"regex": p}}}]},
        )
        for number, p in enumerate(simulated)
    ]
    (port,) = real_envoy.free_ports(1)
    listener = build.listener(port, [build.chain([manager(table(host("all", ["*"], [*routes, direct("no")])))])])
    with real_envoy.serving(envoy, tmp_path, [listener]):
        for number, pattern in enumerate(simulated):
            for text in TEXTS:
                sent = text.encode().decode("latin-1")  # bytes on the wire
                real = real_envoy.get(port, f"/{number}/", headers=[("x", sent)])
                assert (real.body != "no") == matches_whole(pattern, text.strip()), (pattern, text)


@given(st.text(alphabet="abc.*+?()[]|^$\\-{}1,", max_size=12), st.text(alphabet="abc1.-", max_size=8))
def test_plain_patterns_mean_what_python_means(pattern: str, text: str) -> None:
    """Where the syntax is common to both, so is the meaning; nothing but a refusal is ever raised."""
    try:
        found = matches_whole(pattern, text)
    except NotSimulatedError:
        return
    if not set(pattern) & set("\\$[{"):
        assert found == bool(re.fullmatch(pattern, text, re.ASCII))


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "expected"),
    [
        (r"/(\w+)/(\w+)", r"/\2/\1", "/a/b", "/b/a"),
        ("a", "x", "banana", "bxnxnx"),
        ("(a)|b", r"[\0\1]", "ab", "[aa][b]"),
        ("^/api", "", "/api/api", "/api"),
        ("a", r"\\", "a", "\\"),
        ("x", "y", "a", "a"),
    ],
)
def test_substitution(pattern: str, replacement: str, text: str, expected: str) -> None:
    assert substitute(pattern, replacement, text) == expected
