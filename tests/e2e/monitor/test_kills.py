"""The external authorizer, the issuer of tokens, the control plane with its authority, the agent and the sidecar itself
are killed in turn, under a light load: what was denied stays denied at every moment, whoever is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.meshes import free_port, until
from tests.e2e.monitor.world import PROXIES, WEB, World
from tests.jws import Issuer

# Answers every request: an authorizer lets in who has a header, an issuer tells its keys.
STAND_IN = """
import http.server, sys
port, keys = int(sys.argv[1]), sys.argv[2]
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if keys or self.headers.get("x-ok") else 403)
        self.send_header("content-length", str(len(keys)))
        self.end_headers()
        self.wfile.write(keys.encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""
POLICIES = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: authorizer}
spec:
  hosts: [authorizer.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: AUTHORIZER, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked}
spec:
  selector: {matchLabels: {app: web}}
  action: CUSTOM
  provider: {name: authorizer}
  rules: [{to: [{operation: {paths: [/custom]}}]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec: {selector: {matchLabels: {app: web}}, jwtRules: [{issuer: me, jwksUri: "http://127.0.0.1:ISSUER/keys"}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: with-token}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
    - {from: [{source: {notRequestPrincipals: ["*"]}}], to: [{operation: {paths: [/token]}}]}
"""
PROVIDERS = """\
accessLogFile: /dev/stdout
extensionProviders:
  - name: authorizer
    envoyExtAuthzHttp: {service: authorizer.test, port: AUTHORIZER, includeRequestHeadersInCheck: [x-ok], timeout: 1s}
"""


@dataclass(slots=True)
class StandIn:
    """A server that can be killed, and comes back where it was."""

    keys: str = ""
    port: int = field(default_factory=free_port)
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-I", "-c", STAND_IN, str(self.port), self.keys]
        self.child = subprocess.Popen(argv)

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait(5)


@dataclass(slots=True, kw_only=True)
class Load:
    """Requests that must be denied and requests that may be served, one after the other, and what came of each."""

    world: World
    denied: dict[str, tuple[str, dict[str, str]]]
    served: dict[str, tuple[str, dict[str, str]]]
    met: Counter[tuple[str, int]] = field(default_factory=Counter)
    ended: threading.Event = field(default_factory=threading.Event)
    rounds: int = 0

    def run(self) -> None:
        while not self.ended.is_set():
            for name, (path, headers) in {**self.denied, **self.served}.items():
                self.met[name, self.world.get(path, headers).status] += 1
            self.rounds += 1
            time.sleep(0.02)

    def some(self) -> None:
        """Wait for a few rounds."""
        before = self.rounds
        until(lambda: self.rounds >= before + 4, "a few rounds of requests", 20)

    def now(self, name: str) -> int:
        """The status of one more request."""
        path, headers = {**self.denied, **self.served}[name]
        return self.world.get(path, headers).status


@contextmanager
def _configured(world: World, authorizer: StandIn, issuer: StandIn) -> Iterator[None]:
    def filled(text: str) -> str:
        return text.replace("AUTHORIZER", str(authorizer.port)).replace("ISSUER", str(issuer.port))

    extra, settings = world.place.mesh / "config" / "kills.yaml", world.mesh_config.read_text()
    world.configure(lambda: world.mesh_config.write_text(filled(PROVIDERS)))
    world.configure(lambda: extra.write_text(filled(POLICIES)))
    try:
        yield
    finally:
        world.configure(extra.unlink)
        world.configure(lambda: world.mesh_config.write_text(settings))


@contextmanager
def _load(world: World, good: str, forged: str) -> Iterator[Load]:
    def bearer(token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}"}

    load = Load(
        world=world,
        denied={
            "a denied path": ("/admin", {}),
            "not let in by the authorizer": ("/custom", {}),
            "no token": ("/token", {}),
            "a forged token": ("/token", bearer(forged)),
        },
        served={
            "nobody asks": ("/ok", {}),
            "let in by the authorizer": ("/custom", {"x-ok": "1"}),
            "a good token": ("/token", bearer(good)),
        },
    )
    thread = threading.Thread(target=load.run)
    until(lambda: all(load.now(name) == 200 for name in load.served), "what may be served is", 15)
    thread.start()
    try:
        yield load
    finally:
        load.ended.set()
        thread.join(30)


def test_whoever_is_killed_no_deny_becomes_an_allow(world: World) -> None:
    issuer = Issuer("me")
    authorizer, keys = StandIn(), StandIn(keys=issuer.jwks)
    authorizer.start()
    keys.start()
    try:
        with (
            _configured(world, authorizer, keys),
            _load(world, issuer.token(), Issuer("me").token()) as load,
        ):
            load.some()
            _authorizer_is_killed(load, authorizer)
            keys.kill()
            load.some()
            assert load.now("a good token") == 200, "the keys that are known go on"
            _mesh_is_killed(world, load)
            load.some()
    finally:
        authorizer.kill()
        keys.kill()
    print(dict(load.met))
    let_in = {name: count for (name, status), count in load.met.items() if name in load.denied and status == 200}
    assert let_in == {}
    for name in load.denied:
        assert load.met[name, 401] + load.met[name, 403] > 20, load.met
    assert load.met["nobody asks", 200] > 20
    assert load.met["a good token", 401] == 0, "nor was a good token ever taken for a bad one"


def _authorizer_is_killed(load: Load, authorizer: StandIn) -> None:
    authorizer.kill()
    until(lambda: load.now("let in by the authorizer") == 403, "who cannot be asked lets nobody in", 10)
    load.some()
    assert load.now("nobody asks") == 200, "whom it does not concern goes on"
    authorizer.start()
    until(lambda: load.now("let in by the authorizer") == 200, "it is back", 15)


def _mesh_is_killed(world: World, load: Load) -> None:
    """With the issuer away: control plane and authority, then the sidecar, then the agent, which come back in turn."""
    plane, agent = world.plane.part, world.agent.part
    assert plane is not None
    assert agent is not None
    plane.kill()
    load.some()
    before = world.place.row(WEB)["envoy_pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: _other_envoy(world, before), "the sidecar is back without a control plane", 20)
    load.some()
    assert load.now("a good token") == 200, "it has its keys, and its policies, from its last copy"
    agent.kill()
    load.some()
    world.agent.start()
    world.plane.start()
    until(lambda: world.place.ready() and world.place.synced(PROXIES), "all are back", 30)
    assert load.now("a good token") == 200, "the control plane had kept the keys"


def _other_envoy(world: World, before: int) -> bool:
    row = world.place.row(WEB)
    return row["envoy_pid"] not in (0, before) and row["envoy"] == "ready"
