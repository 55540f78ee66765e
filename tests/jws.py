"""Signed tokens (RFC 7515) and key sets (RFC 7517) for tests, ES256 alone, and what serves an issuer's keys."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from tests.serving import in_background


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass
class Issuer:
    """Someone who signs tokens with a key of its own."""

    name: str
    kid: str = "one"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def jwks(self) -> str:
        numbers = self.key.public_key().public_numbers()
        key = {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "kid": self.kid,
            "x": encoded(numbers.x.to_bytes(32, "big")),
            "y": encoded(numbers.y.to_bytes(32, "big")),
        }
        return json.dumps({"keys": [key]})

    def token(self, *, lifetime_s: float = 86_400, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token of `me` with these claims; those that are None are left out."""
        header = {"alg": "ES256", "typ": "JWT", "kid": self.kid, **(header or {})}
        payload = {"iss": self.name, "sub": "me", "exp": int(time.time() + lifetime_s), **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        signed = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(payload).encode())}"
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def pod_claims(namespace: str, account: str, pod: str = "web-0", uid: str = "u1") -> dict[str, Any]:
    """What a projected service-account token of Kubernetes says."""
    about: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": account, "uid": "a1"}}
    if pod:
        about["pod"] = {"name": pod, "uid": uid}
    return {"sub": f"system:serviceaccount:{namespace}:{account}", "kubernetes.io": about}


@dataclass
class IssuerServer:
    """Serves an issuer's discovery document and keys; `asked` are the paths that were asked for."""

    issuer: Issuer
    port: int
    keys: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.issuer.name

    def answer(self, path: str) -> str | None:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.issuer.name, "jwks_uri": f"{self.issuer.name}/keys"})
        return self.keys or self.issuer.jwks if path == "/keys" else None


@contextmanager
def serve_issuer(context: ssl.SSLContext | None = None) -> Iterator[IssuerServer]:
    """An issuer on loopback; over TLS by the context."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = IssuerServer(
        Issuer(f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"), server.server_port
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = found.answer(self.path)
            if answer is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server.RequestHandlerClass = Handler
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with in_background(server):
        yield found
