"""Keys of token issuers: fetched, kept, refused, from a server of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gossamer.api.load import SourceFile, load
from gossamer.model.tokens import KeySource
from gossamer.plane import issuer
from gossamer.plane.keys import KeyStore
from tests.certificates import write_server_certificate
from tests.jws import Issuer
from tests.serving import in_background

JWKS = Issuer("https://x").jwks


@dataclass
class Server:
    """Answers by path; a text that begins with `>` redirects. `seen` are the paths that were asked for."""

    port: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


def _serve(found: Server, context: ssl.SSLContext | None) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.seen.append(self.path)
            answer = found.answers.get(self.path)
            if answer is None:
                self.send_error(503)
                return
            content = answer.encode()
            self.send_response(302 if answer.startswith(">") else 200)
            if answer.startswith(">"):
                self.send_header("location", answer[1:])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found.port = server.server_port
    with in_background(server):
        yield found


@pytest.fixture
def server() -> Iterator[Server]:
    yield from _serve(Server(), None)


def config_of(*rules: dict[str, str]) -> str:
    resource = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "a", "namespace": "foo"},
        "spec": {"jwtRules": list(rules)},
    }
    return json.dumps(resource)


def store(folder: Path, **settings: object) -> KeyStore:
    return KeyStore(folder=folder / "keys", changed=lambda: None, **settings)  # type: ignore[arg-type]


def want(found: KeyStore, *rules: dict[str, str]) -> bool:
    return found.want(load([SourceFile(name="a.yaml", text=config_of(*rules))]).config)


def fetch(found: KeyStore) -> bool:
    return asyncio.run(found.first())


def error_of(found: KeyStore) -> str:
    (row,) = found.status()
    return str(row["error"])


def test_keys_are_fetched_and_their_age_is_told(tmp_path: Path, server: Server) -> None:
    server.answers["/keys"] = JWKS
    found = store(tmp_path)
    want(found, {"issuer": "a", "jwksUri": f"{server.url}/keys"})
    assert found.status()[0]["age_s"] is None
    assert fetch(found)
    assert found.keys == {KeySource(url=f"{server.url}/keys"): JWKS}
    assert 0 <= found.status()[0]["age_s"] < 60


def test_an_issuers_discovery_document_tells_where_its_keys_are(tmp_path: Path, server: Server) -> None:
    server.answers["/.well-known/openid-configuration"] = json.dumps({"jwks_uri": f"{server.url}/its-keys"})
    server.answers["/its-keys"] = JWKS
    found = store(tmp_path)
    want(found, {"issuer": server.url})
    assert fetch(found)
    assert found.keys == {KeySource(url=server.url, discovered=True): JWKS}


def test_the_last_good_keys_outlive_their_issuer_and_a_restart(tmp_path: Path, server: Server) -> None:
    server.answers["/keys"] = JWKS
    rule = {"issuer": "a", "jwksUri": f"{server.url}/keys"}
    found = store(tmp_path, refresh_s=0.05, retry_s=0.05)
    want(found, rule)
    assert fetch(found)
    server.answers["/keys"] = '{"keys": []}'

    async def some_time() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.6):
                await found.follow()

    asyncio.run(some_time())
    assert "no JSON Web Key Set" in error_of(found)
    assert list(found.keys.values()) == [JWKS]
    again = store(tmp_path)
    assert want(again, rule), "from disk, before anything is fetched"
    assert list(again.keys.values()) == [JWKS]
    assert again.missing == []
    want(again)
    assert again.keys == {}


def test_a_discovery_document_does_not_lead_to_private_addresses(tmp_path: Path, server: Server) -> None:
    other = f"http://localhost:{server.port}/its-keys"
    server.answers["/.well-known/openid-configuration"] = json.dumps({"jwks_uri": other})
    server.answers["/its-keys"] = JWKS
    found = store(tmp_path)
    want(found, {"issuer": server.url})
    assert not fetch(found)
    assert "a private address" in error_of(found)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "answers 503"),
        ("nonsense", "no JSON Web Key Set"),
        ('{"keys": [1]}', "no JSON Web Key Set"),
        ("x" * (issuer.LARGEST + 1), "larger than 1 MB"),
        (">/keys", "redirects more than"),
        (">ftp://elsewhere/", "not to be trusted"),
        (">http://localhost:1/", "a private address"),
        (">http://169.254.169.254/latest/meta-data", "a private address"),
        (">http://[::1]:1/", "a private address"),
        (">http://127.0.0.1:99999999/", "Port out of range"),
    ],
)
def test_what_is_not_used(tmp_path: Path, server: Server, answer: str | None, why: str) -> None:
    if answer is not None:
        server.answers["/keys"] = answer
    found = store(tmp_path)
    want(found, {"issuer": "a", "jwksUri": f"{server.url}/keys"})
    assert not fetch(found)
    assert why in error_of(found)
    assert found.keys == {}


def test_a_redirect_into_private_addresses_is_followed_where_it_is_allowed(tmp_path: Path, server: Server) -> None:
    server.answers["/keys"] = f">http://localhost:{server.port}/real"
    server.answers["/real"] = JWKS
    found = store(tmp_path, private_redirects=True)
    want(found, {"issuer": "a", "jwksUri": f"{server.url}/keys"})
    assert fetch(found)


def test_an_issuer_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = store(tmp_path)
        rule = {"issuer": "a", "jwksUri": f"http://127.0.0.1:{silent.getsockname()[1]}/", "timeout": "0.2s"}
        want(found, rule)
        began = time.monotonic()
        assert not fetch(found)
        assert time.monotonic() - began < 3
    assert "no answer within 0.2 s" in error_of(found)


def test_certificates_are_verified(tmp_path: Path) -> None:
    pem = write_server_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    for tls in _serve(Server(scheme="https", answers={"/keys": JWKS}), context):
        rule = {"issuer": "a", "jwksUri": f"{tls.url}/keys"}
        unknown = store(tmp_path)
        want(unknown, rule)
        assert not fetch(unknown)
        assert "CERTIFICATE_VERIFY_FAILED" in error_of(unknown)
        known = store(tmp_path, trust=ssl.create_default_context(cafile=str(pem)))
        want(known, rule)
        assert fetch(known)
        tls.answers["/keys"] = f">http://127.0.0.1:{tls.port}/plain"
        downgraded = store(tmp_path / "other", trust=ssl.create_default_context(cafile=str(pem)))
        want(downgraded, rule)
        assert not fetch(downgraded)
        assert "not to be trusted" in error_of(downgraded)
