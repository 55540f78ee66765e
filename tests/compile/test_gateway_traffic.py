"""Every protocol through a real gateway, and the simulator, which has to foresee it."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from websockets.sync.client import connect

from gossamer.ca.authority import Authority
from gossamer.simulate.outcome import Verdict
from gossamer.simulate.request import Certificate, HttpRequest, Tls
from tests.compile.certificates import Issuer
from tests.compile.compiled import istio
from tests.compile.gateway_world import World, entry, gateway, grpc_application, websocket_application
from tests.compile.http3 import get_http3
from tests.compile.sidecar import http_application, new_authority, tcp_application

pytestmark = pytest.mark.envoy

NUMBERS = (80, 443, 3306, 8443, 9443)
GATEWAY = """
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['web.test', 'talk.test', 'grpc.test']}
  - {port: {number: 80, name: http-secure, protocol: HTTP}, hosts: ['secure.test'], tls: {httpsRedirect: true}}
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ['web.test', 'grpc.test', 'secure.test']
    tls: {mode: SIMPLE, credentialName: web}
  - {port: {number: 443, name: through, protocol: TLS}, hosts: ['through.test'], tls: {mode: PASSTHROUGH}}
  - port: {number: 8443, name: files, protocol: HTTPS}
    hosts: ['files.test']
    tls: {mode: SIMPLE, serverCertificate: FOLDER/lent/pem, privateKey: FOLDER/lent/pem}
  - port: {number: 8443, name: others, protocol: HTTPS}
    hosts: ['others.test']
    tls: {mode: SIMPLE, serverCertificate: FOLDER/others/pem, privateKey: FOLDER/others/pem}
  - port: {number: 8443, name: both, protocol: HTTPS}
    hosts: ['both.test']
    tls: {mode: SIMPLE, credentialNames: [both-rsa, both-ec]}
  - {port: {number: 3306, name: tcp, protocol: TCP}, hosts: ['*']}
  - port: {number: 9443, name: mutual, protocol: HTTPS}
    hosts: ['web.test']
    tls: {mode: MUTUAL, credentialName: mutual, subjectAltNames: [friend.test]}
  - port: {number: 9443, name: optional, protocol: HTTPS}
    hosts: ['secure.test']
    tls: {mode: OPTIONAL_MUTUAL, credentialName: mutual}
  - port: {number: 9443, name: optional-names, protocol: HTTPS}
    hosts: ['named.test']
    tls: {mode: OPTIONAL_MUTUAL, credentialName: mutual, subjectAltNames: [friend.test]}
  - port: {number: 9443, name: blind, protocol: HTTPS}
    hosts: ['files.test']
    tls: {mode: OPTIONAL_MUTUAL, credentialName: mutual, subjectAltNames: [friend.test], insecureSkipVerify: true}
  - port: {number: 9443, name: ended, protocol: TLS}
    hosts: ['ended.test']
    tls: {mode: SIMPLE, credentialName: web}
"""
HTTP3 = ', annotations: {gossamer.io/http3: "true"}'
HTTP_ROUTES = """
  hosts: [{host}]
  gateways: [gw]
  http: [{{route: [{{destination: {{host: {to}}}}}]}}]
"""


@dataclass
class Ways:
    """The world, whom its clients trust, and a friend whom its mutual server does."""

    world: World
    issuer: Issuer
    folder: Path

    def tls(self, *alpn: str, shown: str = "") -> ssl.SSLContext:
        pair = self.issuer.issue(shown) if shown else None
        return self.issuer.client(self.folder, pair, alpn)


@contextmanager
def tls_application(context: ssl.SSLContext) -> Iterator[int]:
    """A server that ends TLS itself and says so once."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as one:
                    one.sendall(b"the application's own TLS\n")
            except OSError:
                plain.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="module")
def ways(envoy: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    folder, issuer = tmp_path_factory.mktemp("gw"), Issuer()
    with ExitStack() as stack:
        web, talk, calls, greeter, own = (
            stack.enter_context(application)
            for application in (
                http_application(),
                websocket_application(),
                grpc_application(),
                tcp_application(),
                tls_application(issuer.server(folder, "through.test")),
            )
        )
        for place in ("lent", "others"):
            (folder / place).mkdir()
            issuer.issue("files.test", "others.test").write(folder / place, "")
        names = ("web.test", "grpc.test", "secure.test", "ended.test", "files.test", "named.test")
        streams = """
  hosts: ['*']
  gateways: [gw]
  tcp: [{match: [{port: 3306}, {port: 9443}], route: [{destination: {host: greeter.app}}]}]
"""
        through = """
  hosts: [through.test]
  gateways: [gw]
  tls: [{match: [{sniHosts: [through.test]}], route: [{destination: {host: own.app}}]}]
"""
        documents = (
            istio(
                "Gateway",
                "gw",
                GATEWAY.replace("FOLDER", str(folder)),
                metadata=', annotations: {gossamer.io/http3: "true"}',
            ),
            *(
                istio("VirtualService", name, HTTP_ROUTES.format(host=host, to=to))
                for name, host, to in (
                    ("web", "web.test", "web.app"),
                    ("secure", "secure.test", "web.app"),
                    ("talk", "talk.test", "talk.app"),
                    ("calls", "grpc.test", "calls.app"),
                    ("files", "files.test", "web.app"),
                    ("named", "named.test", "web.app"),
                    ("others", "others.test", "web.app"),
                    ("both", "both.test", "web.app"),
                )
            ),
            istio("VirtualService", "streams", streams),
            istio("VirtualService", "through", through),
            entry("web", "web.app", "HTTP", web),
            entry("talk", "talk.app", "HTTP", talk),
            entry("calls", "calls.app", "GRPC", calls),
            entry("greeter", "greeter.app", "TCP", greeter),
            entry("own", "own.app", "TLS", own),
            issuer.issue(*names).secret("web", "istio-system"),
            issuer.issue(*names).secret("mutual", "istio-system", issuer.roots),
            issuer.issue("both.test").secret("both-ec", "istio-system"),
            issuer.issue("both.test", rsa=True).secret("both-rsa", "istio-system"),
        )
        world = stack.enter_context(gateway(envoy, folder, authority, *documents, numbers=NUMBERS))
        yield Ways(world=world, issuer=issuer, folder=folder)


def agreed(ways: Ways, number: int, cluster: str, *, http: HttpRequest | None = None, tls: Tls | None = None) -> None:
    """The simulator says that this goes to the cluster."""
    outcome = ways.world.predicted(number, http=http, tls=tls)
    assert (outcome.verdict, outcome.cluster) == (Verdict.SERVED, f"outbound|80||{cluster}"), outcome.reason


def test_http1(ways: Ways) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ways.world.port(80), timeout=10)
    connection.request("GET", "/", headers={"host": "web.test"})
    response = connection.getresponse()
    assert response.status == 200
    assert "x-forwarded-proto: http\n" in response.read().decode()
    assert response.getheader("alt-svc") is None
    connection.close()
    agreed(ways, 80, "web.app", http=HttpRequest(authority="web.test"))


def test_http2_without_tls(ways: Ways) -> None:
    transport = httpx.HTTPTransport(http1=False, http2=True)
    with httpx.Client(transport=transport) as client:
        answer = client.get(f"http://127.0.0.1:{ways.world.port(80)}/", headers={"host": "web.test"})
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
    agreed(ways, 80, "web.app", http=HttpRequest(authority="web.test", http2=True))


def at_gateway(ways: Ways, number: int, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", ways.world.port(number)), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname=server_name)
    except BaseException:
        plain.close()
        raise


def test_https_settles_on_http2_and_tells_of_http3(ways: Ways) -> None:
    with at_gateway(ways, 443, ways.tls("h2", "http/1.1"), "web.test") as one:
        assert one.selected_alpn_protocol() == "h2"
    with at_gateway(ways, 443, ways.tls("http/1.1"), "web.test") as one:
        one.sendall(b"GET / HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: one.recv(4096), b"")).decode().lower()
    assert answer.startswith("http/1.1 200")
    assert f'alt-svc: h3=":{ways.world.port(443)}"; ma=86400' in answer
    tls = Tls(server_name="web.test", alpn=("http/1.1",))
    agreed(ways, 443, "web.app", http=HttpRequest(authority="web.test"), tls=tls)


def test_http3(ways: Ways) -> None:
    answer = get_http3(ways.world.port(443), "web.test", ways.issuer.roots)
    assert answer.status == 200
    assert "host: web.test\n" in answer.body
    http = HttpRequest(authority="web.test", http2=True, http3=True)
    agreed(ways, 443, "web.app", http=http, tls=Tls(server_name="web.test", alpn=("h3",)))


def test_http3_of_a_host_that_is_not_served(ways: Ways) -> None:
    assert get_http3(ways.world.port(443), "web.test", ways.issuer.roots, authority="other.test").status == 404
    http = HttpRequest(authority="other.test", http2=True, http3=True)
    outcome = ways.world.predicted(443, http=http, tls=Tls(server_name="web.test", alpn=("h3",)))
    assert outcome.verdict is Verdict.NOT_FOUND


def test_no_http3_where_a_client_certificate_is_demanded(ways: Ways) -> None:
    http = HttpRequest(authority="web.test", http2=True, http3=True)
    outcome = ways.world.predicted(9443, http=http, tls=Tls(server_name="web.test", alpn=("h3",)))
    assert outcome.verdict is Verdict.REFUSED
    with pytest.raises((ConnectionError, TimeoutError)):
        get_http3(ways.world.port(9443), "web.test", ways.issuer.roots, seconds=1)


def test_plaintext_is_sent_to_https(ways: Ways) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ways.world.port(80), timeout=10)
    connection.request("GET", "/a?b", headers={"host": "secure.test"})
    response = connection.getresponse()
    assert (response.status, response.getheader("location")) == (301, "https://secure.test/a?b")
    connection.close()
    outcome = ways.world.predicted(80, http=HttpRequest(authority="secure.test", path="/a?b"))
    assert (outcome.verdict, outcome.location) == (Verdict.REDIRECTED, "https://secure.test/a?b")


def test_a_websocket(ways: Ways) -> None:
    plain = socket.create_connection(("127.0.0.1", ways.world.port(80)), timeout=10)
    with connect("ws://talk.test/", sock=plain) as talk:
        talk.send("hello")
        assert talk.recv(timeout=10) == "hello"
        talk.send("again")
        assert talk.recv(timeout=10) == "again"
    upgrade = (("connection", "upgrade"), ("upgrade", "websocket"))
    agreed(ways, 80, "talk.app", http=HttpRequest(authority="talk.test", headers=upgrade))


@pytest.mark.parametrize("number", [80, 443])
def test_grpc(ways: Ways, number: int) -> None:
    target = f"127.0.0.1:{ways.world.port(number)}"
    name = (("grpc.default_authority", "grpc.test"), ("grpc.ssl_target_name_override", "grpc.test"))
    if number == 80:
        channel = grpc.insecure_channel(target, options=name)
    else:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ways.issuer.roots.encode()), options=name)
    with channel:
        say: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/echo.Echo/Say")
        assert list(say(b"hello", timeout=10)) == [b"hello", b"hello"]
    http = HttpRequest(authority="grpc.test", path="/echo.Echo/Say", method="POST", http2=True)
    agreed(
        ways, number, "calls.app", http=http, tls=Tls(server_name="grpc.test", alpn=("h2",)) if number == 443 else None
    )


def test_tcp(ways: Ways) -> None:
    with socket.create_connection(("127.0.0.1", ways.world.port(3306)), timeout=10) as one:
        assert one.recv(16) == b"hello\n", "the server speaks first"
        one.sendall(b"and back")
        assert one.recv(16) == b"and back"
    agreed(ways, 3306, "greeter.app")


def test_tls_that_ends_here_carries_tcp(ways: Ways) -> None:
    with at_gateway(ways, 9443, ways.tls(), "ended.test") as one:
        assert one.recv(16) == b"hello\n"
    agreed(ways, 9443, "greeter.app", tls=Tls(server_name="ended.test"))


def test_tls_is_passed_through(ways: Ways) -> None:
    with at_gateway(ways, 443, ways.tls(), "through.test") as one:
        assert one.recv(64) == b"the application's own TLS\n"
    agreed(ways, 443, "own.app", tls=Tls(server_name="through.test"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        at_gateway(ways, 443, ways.tls(), "nobody.test").recv(1)
    assert ways.world.predicted(443, tls=Tls(server_name="nobody.test")).verdict is Verdict.REFUSED


@pytest.mark.parametrize("shown", ["friend.test", "stranger.test", ""])
@pytest.mark.parametrize(
    ("host", "who"),
    [
        ("web.test", ["friend.test"]),
        ("secure.test", ["friend.test", "stranger.test", ""]),
        ("named.test", ["friend.test"]),
        ("files.test", ["friend.test", "stranger.test", ""]),
    ],
)
def test_mutual_tls_with_clients_outside(ways: Ways, host: str, who: list[str], shown: str) -> None:
    """MUTUAL, and OPTIONAL_MUTUAL, which Envoy takes for MUTUAL where certain names are wanted and verified."""
    certificate = Certificate(dns_names=(shown,)) if shown else None
    tls = Tls(server_name=host, alpn=("http/1.1",), certificate=certificate)
    outcome = ways.world.predicted(9443, http=HttpRequest(authority=host), tls=tls)
    try:
        with at_gateway(ways, 9443, ways.tls(shown=shown), host) as one:
            one.sendall(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            served = b"".join(iter(lambda: one.recv(4096), b"")).startswith(b"HTTP/1.1 200")
    except (ssl.SSLError, ConnectionError):
        served = False
    assert served == (shown in who)
    assert (outcome.verdict is Verdict.SERVED) == served


def test_certificates_in_files_are_those_that_the_host_lends(ways: Ways) -> None:
    with at_gateway(ways, 8443, ways.tls(), "files.test") as one:
        one.sendall(b"GET / HTTP/1.1\r\nhost: files.test\r\nconnection: close\r\n\r\n")
        assert b"".join(iter(lambda: one.recv(4096), b"")).startswith(b"HTTP/1.1 200")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        at_gateway(ways, 8443, ways.tls(), "others.test")


@pytest.mark.parametrize("kind", ["RSA", "ECDSA"])
def test_of_several_certificates_a_client_is_shown_the_one_that_it_understands(ways: Ways, kind: str) -> None:
    context = ways.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
    with at_gateway(ways, 8443, context, "both.test") as one:
        assert one.cipher() == (f"ECDHE-{kind}-AES128-GCM-SHA256", "TLSv1.2", 128)
