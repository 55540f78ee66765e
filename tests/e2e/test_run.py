"""`gossamer run -- COMMAND`: a command with a sidecar around it, in time and in identity; nothing of it stays."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.meshes import DOOR, GATEWAY, STRICT, TELLS, Part, Place, free_port, get, place, until

CONFIG = """\
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: echoers}
spec:
  metadata: {labels: {app: echo}}
  template: {ports: {http: 8000}, serviceAccount: echoer}
  probe: {httpGet: {port: 8000}, periodSeconds: 1}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: door}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: echo}}]}]}
"""
# Answers every request with whom its sidecar saw calling. Before it ends, it asks itself by way of the mesh.
ECHO = (
    TELLS
    + """
import os, signal, sys, threading, urllib.request

def ask(word):
    print(word, urllib.request.urlopen("http://echo/", timeout=5).status, flush=True)

def end(*_):
    def last():
        ask("last")
        os._exit(7)
    threading.Thread(target=last).start()

place = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8000"))
server = http.server.ThreadingHTTPServer(place, Tells)
signal.signal(signal.SIGTERM, end)
print("serving", flush=True)
server.serve_forever()
"""
)
ASK = """
import sys, urllib.request
print(urllib.request.urlopen("http://echo/", timeout=5).read().decode())
sys.exit(int(sys.argv[1]))
"""


SPIFFE = """
import os
from pathlib import Path
from spiffe import WorkloadApiClient, X509Source

with X509Source(timeout_in_seconds=20) as source, WorkloadApiClient() as client:
    context = source.get_x509_context()
    svid = context.default_svid
    (root,) = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain).x509_authorities
    svid.leaf.verify_directly_issued_by(root)
    token = client.fetch_jwt_svid({"billing"})
    print("svid", svid.spiffe_id, "token", client.validate_jwt_svid(token.token, "billing").spiffe_id)
place = Path(os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://")).parents[1]
print("beside it", sorted(path.name for path in place.parent.iterdir()))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A mesh with a gateway and no workload; `port` is the gateway's, `own` are the processes of the mesh itself."""

    place: Place
    port: int
    own: frozenset[int]

    def run(self, *arguments: str) -> Part:
        """`gossamer run ARGUMENTS`, at once."""
        return self.place.start("run", *arguments, output=f"run-{len(self.place.parts)}")

    def python(self, code: str, *arguments: str, options: tuple[str, ...] = ()) -> Part:
        """`gossamer run OPTIONS -- python -c CODE ARGUMENTS`."""
        return self.run(*options, "--", "python3", "-c", code, *arguments)

    def finished(self, code: str, *arguments: str, options: tuple[str, ...] = ()) -> Part:
        """The same, when it has ended."""
        part = self.python(code, *arguments, options=options)
        part.wait()
        return part

    def left(self) -> list[str]:
        """What runs here that is not of the mesh itself."""
        return [words for pid, words in self.place.processes().items() if pid not in self.own]


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with place() as found:
        port = free_port()
        found.folder("mesh")
        (found.mesh / "config").mkdir()
        (found.mesh / "config" / "all.yaml").write_text(f"{DOOR}---\n{STRICT}---\n{CONFIG}")
        (found.mesh / "gossamer.yaml").write_text(GATEWAY.replace("PORT", str(port)))
        found.up()
        until(found.ready, "ready")
        yield Mesh(place=found, port=port, own=frozenset(found.processes()))


def _serve(mesh: Mesh, *options: str) -> Part:
    """The service `echo`, when it answers through the gateway."""
    labelled = ("--name=echo-1", "--label=app=echo", "--port=8000/http", "--service-account=echoer", *options)
    part = mesh.python(ECHO, options=labelled)
    until(lambda: get(mesh.port, "/").status == 200 or part.child.poll() is not None, "echo answers")
    assert part.child.poll() is None, part.said
    return part


@pytest.mark.parametrize("capture", ["auto", "explicit"])
def test_a_command_in_the_mesh(mesh: Mesh, capture: str) -> None:
    """Its first call and its last go through, as who it is; its end is the end of everything, and its code is ours."""
    served = _serve(mesh, f"--capture={capture}")
    assert "URI=spiffe://cluster.local/ns/default/sa/default;" in get(mesh.port, "/").body
    for account, code in (("one", 3), ("other", 0)):
        asker = mesh.finished(ASK, str(code), options=(f"--service-account={account}", f"--capture={capture}"))
        assert f"URI=spiffe://cluster.local/ns/default/sa/{account};DNS=python3.default." in asker.said
        assert asker.child.returncode == code, asker.said
    assert served.stop() == 7
    assert "last 200" in served.said
    assert mesh.left() == []
    assert get(mesh.port, "/").status == 503


@pytest.mark.parametrize("capture", ["auto", "explicit"])
def test_a_command_asks_for_its_identity(mesh: Mesh, capture: str) -> None:
    """By SPIFFE's own library, with no more than what is in its environment; only one that was to have it has it."""
    options = ("--service-account=one", f"--capture={capture}")
    asker = mesh.run("--name=asker", *options, "--workload-api", "--", sys.executable, "-c", SPIFFE)
    print_it = "import os; print('socket', os.environ.get('SPIFFE_ENDPOINT_SOCKET'))"
    none = mesh.python(print_it, options=("--name=none", *options))
    assert asker.wait() == 0, asker.said
    own = "spiffe://cluster.local/ns/default/sa/one"
    assert f"svid {own} token {own}" in asker.said
    if "capture is" not in asker.said:  # confined
        assert "beside it ['api']" in asker.said
    assert none.wait() == 0, none.said
    assert "socket None" in none.said


def test_a_command_of_a_group(mesh: Mesh) -> None:
    """It is who its WorkloadGroup says, with its labels and ports, from when its probe says so until it ends."""
    part = mesh.python(ECHO, options=("--name=echo-2", "--group=echoers"))
    until(lambda: get(mesh.port, "/").status == 200 or part.child.poll() is not None, "echo answers")
    asker = mesh.finished(ASK, "0", options=("--name=asker", "--group=echoers"))
    assert "URI=spiffe://cluster.local/ns/default/sa/echoer;DNS=asker.default." in asker.said, "it is called by none"
    assert part.stop() == 7
    assert get(mesh.port, "/").status == 503
    for group, account, said in (
        ("none", "", "there is no WorkloadGroup default/none: write one, or correct the workload's group"),
        (
            "echoers",
            "--service-account=other",
            "WorkloadGroup default/echoers is for service account echoer, not other",
        ),
    ):
        wrong = mesh.run("--name=wrong", f"--group={group}", *([account] if account else []), "--", "true")
        assert wrong.wait() == 1
        assert said in wrong.said


def test_killed(mesh: Mesh) -> None:
    """kill -9 of `run` ends its command and its sidecar, and callers learn of it."""
    served = _serve(mesh)
    served.kill()
    print(f"gone after {until(lambda: not mesh.left(), 'the end of what `run` started', 15):.2f} s")
    until(lambda: get(mesh.port, "/").status == 503, "the registry forgets it", 15)
    second = _serve(mesh)
    assert second.stop() == 7


def test_exit_codes(mesh: Mesh) -> None:
    """A signal's code as a shell gives it; a command that is not there is said to be so."""
    killed = mesh.finished("import os, signal; print('here'); os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.child.returncode == 128 + signal.SIGKILL, killed.said
    absent = mesh.run("--name=absent", "--", "no-such-command")
    assert absent.wait() == 1
    assert "cannot start no-such-command" in absent.said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--port=http", "--", "true"), 2, "--port http: write a port, such as 8080"),
        (("--label=app", "--", "true"), 2, "--label app: write KEY=VALUE"),
        (("--name=Not_A_Name", "--", "true"), 2, '"Not_A_Name" is not a DNS label'),
        (("--name=ingress", "--", "true"), 1, "default/ingress runs on host"),
        (("--name=n1", "--control-plane=127.0.0.1:1", "--", "true"), 1, "this host has not joined a mesh"),
        (("--name=n2", "--control-plane=127.0.0.1:1", "--token=x", "--", "true"), 1, "not a whole join token"),
    ],
)
def test_mistakes(mesh: Mesh, arguments: tuple[str, ...], code: int, said: str) -> None:
    part = mesh.run(*arguments)
    assert part.wait() == code
    assert said in part.said
    assert mesh.left() == []


def test_without_a_control_plane() -> None:
    with place() as found:
        part = found.run("run", "--", "true")
        assert part.child.returncode == 2
        assert "no control plane of yours runs on this host" in part.said
