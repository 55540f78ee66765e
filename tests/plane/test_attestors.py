"""Where the keys of attestors' issuers come from, and a file of attestors that changes; real HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from gossamer.api.attestors import AllowedClaims, Attestor, IssuerKeys, OpenIdTokens
from gossamer.api.common import Exact
from gossamer.ca.issued_tokens import terms_of
from gossamer.ca.jws import verify
from gossamer.core.errors import UnavailableError
from gossamer.core.frozen import FrozenMap
from gossamer.plane.attestors import AttestorFile, IssuerKeyReader
from tests.certificates import write_server_certificate
from tests.jws import Issuer, serve_issuer

FILE = """\
version: 1
attestors:
- name: ci
  issuer: https://issuer.example
  audiences: [mesh]
  oidc: {allow: [{claims: {repository: {exact: acme/shop}}, grants: [ci/deployer]}]}
"""


def attestor(issuer: str, **keys: object) -> Attestor:
    rule = AllowedClaims(claims=FrozenMap({"sub": Exact("me")}), grants=("ci/deployer",))
    keyed = IssuerKeys(**keys)  # type: ignore[arg-type]
    return Attestor(name="ci", issuer=issuer, audiences=("mesh",), keys=keyed, oidc=OpenIdTokens(allow=(rule,)))


def read(reader: IssuerKeyReader, who: Attestor, kid: str = "one") -> str:
    return asyncio.run(reader.keys_of(who, kid))


def test_keys_are_discovered_once(tmp_path: Path) -> None:
    with serve_issuer() as server:
        reader, who = IssuerKeyReader(folder=tmp_path), attestor(server.url)
        keys = read(reader, who)
        assert verify(server.issuer.token(aud="mesh"), terms_of(who), keys)["sub"] == "me"
        assert read(reader, who) == keys
        assert server.asked == ["/.well-known/openid-configuration", "/keys"]


def test_a_key_that_is_new_is_asked_for_and_one_that_nobody_has_not_again_and_again(tmp_path: Path) -> None:
    with serve_issuer() as server:
        who = attestor(server.url, uri=f"{server.url}/keys")
        patient = IssuerKeyReader(folder=tmp_path)
        read(patient, who)
        for number in range(5):
            read(patient, who, f"unknown-{number}")
        assert server.asked == ["/keys"], "asked a moment ago"
        eager = IssuerKeyReader(folder=tmp_path, again_s=0.0)
        read(eager, who)
        server.issuer = Issuer(server.url, kid="two")
        assert '"two"' in read(eager, who, "two")
        assert server.asked == ["/keys"] * 3


def test_an_issuer_that_is_down_vouches_by_the_keys_that_it_had(tmp_path: Path) -> None:
    with serve_issuer() as server:
        reader, who = IssuerKeyReader(folder=tmp_path, again_s=0.0), attestor(server.url)
        keys = read(reader, who)
        server.keys = "nonsense"
        assert read(reader, who, "two") == keys
        with pytest.raises(UnavailableError, match=r"not to be had: what .* answers is no JSON Web Key Set"):
            read(IssuerKeyReader(folder=tmp_path), who)


def test_a_discovery_document_names_who_was_asked(tmp_path: Path) -> None:
    with serve_issuer() as server:
        server.issuer = Issuer("https://somebody.else")
        with pytest.raises(UnavailableError, match="is of another issuer"):
            read(IssuerKeyReader(folder=tmp_path), attestor(f"http://127.0.0.1:{server.port}"))


def test_an_issuer_is_verified_by_the_authority_that_is_named(tmp_path: Path) -> None:
    pem = write_server_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with serve_issuer(context) as server:
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            read(IssuerKeyReader(folder=tmp_path), attestor(server.url))
        assert read(IssuerKeyReader(folder=tmp_path), attestor(server.url, ca_file=pem.name)) == server.issuer.jwks
        with pytest.raises(UnavailableError, match="not to be had"):
            read(IssuerKeyReader(folder=tmp_path), attestor(server.url, ca_file="missing.pem"))


def test_keys_at_hand(tmp_path: Path) -> None:
    reader, issuer = IssuerKeyReader(folder=tmp_path), Issuer("https://x")
    assert read(reader, attestor("https://x", inline=issuer.jwks)) == issuer.jwks
    (tmp_path / "keys.json").write_text(issuer.jwks)
    assert read(reader, attestor("https://x", file="keys.json")) == issuer.jwks
    (tmp_path / "keys.json").write_text(json.dumps({"keys": []}))
    assert read(reader, attestor("https://x", file="keys.json")) == '{"keys": []}', "as it is now"
    with pytest.raises(UnavailableError, match=r"cannot read the issuer's keys in .*none\.json"):
        read(reader, attestor("https://x", file="none.json"))


def test_a_file_that_has_become_wrong_vouches_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "attestors.yaml"
    path.write_text(FILE)
    found = AttestorFile(path=path)
    assert found.load() == ()
    assert [one.name for one in found.attestors()] == ["ci"]
    path.write_text(FILE.replace("exact", "exakt"))
    assert found.attestors() == ()
    path.write_text(FILE.replace("name: ci", "name: ci2"))
    assert [one.name for one in found.attestors()] == ["ci2"]
    path.unlink()
    assert found.attestors() == ()
