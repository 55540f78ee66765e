"""The file of attestors: what it says, and what is refused, by line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gossamer.api.attestors import load_attestors
from gossamer.api.common import Exact, Prefix

FULL = """\
version: 1
attestors:
- name: prod
  issuer: https://kubernetes.default.svc
  audiences: [gossamer]
  keys: {file: keys.json}
  kubernetes:
    allow:
    - {namespace: shop, serviceAccount: "*"}
    - {namespace: nodes, serviceAccount: agent, grants: ["*/*"]}
- name: github
  issuer: https://token.actions.githubusercontent.com
  audiences: [gossamer]
  lifetime: 30m
  leeway: 10s
  reuse: true
  oidc:
    allow:
    - claims: {repository: {exact: acme/shop}, ref: {prefix: refs/heads/release-}}
      grants: [ci/deployer]
"""
OIDC = """\
version: 1
attestors:
- name: a
  issuer: https://issuer.example
  audiences: [gossamer]
  oidc: {allow: [{claims: {repository: {exact: acme/shop}}, grants: [ci/deployer]}]}
"""


def test_everything_in_it() -> None:
    found, diagnostics = load_attestors(FULL, "attestors.yaml")
    assert diagnostics == ()
    assert found is not None
    prod, github = found
    assert (prod.kind, prod.host_lifetime) == ("kubernetes", timedelta(hours=24))
    assert (prod.leeway, prod.reuse) == (timedelta(seconds=30), False)
    assert prod.kubernetes is not None
    assert [allowed.grants for allowed in prod.kubernetes.allow] == [(), ("*/*",)]
    assert (github.kind, github.host_lifetime, github.reuse) == ("oidc", timedelta(minutes=30), True)
    assert github.oidc is not None
    assert github.oidc.allow[0].claims == {"repository": Exact("acme/shop"), "ref": Prefix("refs/heads/release-")}


@pytest.mark.parametrize(
    ("written", "instead", "code", "line", "said"),
    [
        ("version: 1", "version: 2", "unknown-version", 1, "version 2"),
        ("name: a", "name: A_b", "invalid-name", 3, "DNS label"),
        ("https://issuer.example", "http://issuer.example", "invalid-url", 4, "anybody on the way"),
        ("https://issuer.example", '""', "required", 4, "name the issuer"),
        ("[gossamer]", "[]", "required", 5, "the audience"),
        ("[gossamer]", '[""]', "required", 5, "must not be empty"),
        ("{repository: {exact: acme/shop}}", "{}", "required", 6, "everybody in the world"),
        ("{exact: acme/shop}", "{regex: .*}", "invalid-value", 6, "exact or prefix"),
        ("{exact: acme/shop}", '{prefix: ""}', "empty-match", 6, "prefix"),
        ("{exact: acme/shop}", '{exact: ""}', "invalid-value", 6, "exact or prefix"),
        ("[ci/deployer]", "[]", "required", 6, "what the host may run"),
        ("[ci/deployer]", "[ci]", "invalid-grant", 6, "NAMESPACE/SERVICE-ACCOUNT"),
        ("[ci/deployer]", "[CI/x]", "invalid-grant", 6, "DNS label"),
        ("  oidc:", "  leeway: 1h\n  oidc:", "out-of-range", 6, "between 0s and 5m"),
        ("  oidc:", "  lifetime: 1s\n  oidc:", "out-of-range", 6, "a minute or more"),
        ("  oidc:", "  keys: {inline: x, uri: https://x}\n  oidc:", "exclusive-fields", 6, "only one of inline, uri"),
        ("  oidc:", "  keys: {uri: ftp://x}\n  oidc:", "invalid-url", 6, "https://"),
        ("  oidc:", "  kubernetes: {allow: []}\n  oidc:", "exclusive-fields", 3, "one of kubernetes or oidc"),
        ("  oidc:", "  issuers: x\n  oidc:", "unknown-field", 6, "issuers"),
    ],
)
def test_mistakes(written: str, instead: str, code: str, line: int, said: str) -> None:
    found, diagnostics = load_attestors(OIDC.replace(written, instead), "attestors.yaml")
    assert found is None
    (match,) = [one for one in diagnostics if one.code == code and said in one.message]
    assert (match.position.file, match.position.line) == ("attestors.yaml", line)


def test_two_of_one_name() -> None:
    twice = OIDC + OIDC.partition("attestors:\n")[2]
    found, diagnostics = load_attestors(twice, "a")
    assert found is None
    assert [one.code for one in diagnostics] == ["duplicate-value"]


@pytest.mark.parametrize("text", ["", "[1, 2", "version: 1", "version: 1\nattestors: 3", "- a"])
def test_what_is_no_such_file(text: str) -> None:
    found, diagnostics = load_attestors(text, "a")
    assert found is None
    assert diagnostics
