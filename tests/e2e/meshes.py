"""What the end-to-end tests are made of: a place of its own for a mesh, `gossamer` commands in it, requests to it.

Invariant: every process that a test starts carries the name of its place in its environment or its arguments, so that
what is left of it can be told from everything else on the machine, and is ended with the test however that went.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.core.errors import GossamerError
from gossamer.demo.mesh import write_mesh
from gossamer.rpc.local import call
from tests.e2e.users import User

START_S = 40.0
STOP_S = 30.0
MARK = "E2E_PLACE"
SMALL = """\
version: 1
config: [config]
gateways:
  - name: istio-ingressgateway
    namespace: istio-system
    serviceAccount: istio-ingressgateway-service-account
    labels: {app: istio-ingressgateway, istio: ingressgateway}
    address: 127.0.0.1
    ports: [{name: http2, port: 80, targetPort: PORT}]
workloads:
  - name: productpage-v1
    serviceAccount: bookinfo-productpage
    labels: {app: productpage, version: v1}
    ports: [9080]
    command: ["${PYTHON}", -m, gossamer.demo.bookinfo, productpage]
    health: {path: /health, port: 9080}
  - name: details-v1
    serviceAccount: bookinfo-details
    labels: {app: details, version: v1}
    ports: [9080]
    command: ["${PYTHON}", -m, gossamer.demo.bookinfo, details]
    health: {path: /health, port: 9080}
"""
"""Bookinfo without its reviews and ratings: two sidecars and a gateway, which start in half the time."""
GATEWAY = """\
version: 1
config: [config]
gateways:
  - name: ingress
    namespace: default
    labels: {istio: ingressgateway}
    address: 127.0.0.1
    ports: [{name: http, port: 80, targetPort: PORT}]
"""
"""A gateway and nothing behind it."""
DOOR = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
"""
"""What lets every host in by such a gateway."""
STRICT = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""
"""Mutual TLS alone, in the whole mesh."""
TELLS = """
import http.server
class Tells(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.headers.get("x-forwarded-client-cert", "nobody").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
"""
"""The beginning of a program that answers every request with whom its sidecar saw calling."""
PRODUCTPAGE = "ns/<wbr>default/<wbr>sa/<wbr>bookinfo-productpage"
"""On the page, that details saw productpage's certificate."""
INGRESS = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object], what: str, timeout_s: float = START_S) -> float:
    """Ask until it is true; returns how long that took. AssertionError, saying what was waited for, after that."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.03)
    return time.monotonic() - began


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer; `status` is 0 when none came, and `body` says why. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def peer(self) -> str:
        """Whom the answering application's sidecar saw calling."""
        return self.headers.get("x-bookinfo-peer", "")


def get(
    port: int, path: str, headers: Mapping[str, str] | None = None, *, host: str = "127.0.0.1", timeout_s: float = 15
) -> Reply:
    """`GET http://HOST:PORT/path` over a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={**(headers or {})})
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace")
        return Reply(
            status=response.status, headers={name.lower(): value for name, value in response.getheaders()}, body=body
        )
    except (OSError, http.client.HTTPException) as error:
        return Reply(status=0, body=str(error) or type(error).__name__)
    finally:
        connection.close()


@dataclass(slots=True, kw_only=True)
class Part:
    """A command that runs, and the file that takes what it prints."""

    child: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def send(self, number: signal.Signals) -> None:
        if self.child.poll() is None:
            self.child.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Its exit code. AssertionError, with what it said, if it does not end in time."""
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout_s:g} s: {self.said[-2000:]}") from None

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.send(number)
        return self.wait()


class Place:
    """A folder of one mesh (or of one host of a mesh), and the commands that run in it, by one user."""

    def __init__(self, user: User | None = None) -> None:
        # short, since a UNIX socket's path holds 108 bytes
        self.root = Path(tempfile.mkdtemp(prefix="e2e-", dir="/tmp"))
        self.user = user or User.current()
        self.mesh = self.root / "mesh"
        self.state = self.root / "state"
        self.parts: list[Part] = []
        self.before: tuple[str, ...] = ()
        """Words before every command: what brings it to a host of its own, say."""
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("GOSSAMER_", "XDG_"))}
        self.env |= {
            MARK: str(self.root),
            "HOME": str(self.folder("home")),
            "XDG_RUNTIME_DIR": str(self.folder("run")),
            "XDG_STATE_HOME": str(self.folder("states")),
            "TERM": "dumb",
        }
        self.user.give(self.root)

    def folder(self, name: str) -> Path:
        """A folder of this place that belongs to its user."""
        path = self.root / name
        path.mkdir(mode=0o700, exist_ok=True)
        self.user.give(path)
        return path

    def write(self, port: int, text: str | None = None) -> Path:
        """The bundled mesh with its ingress gateway on `port`; `text` in place of its gossamer.yaml."""
        file = write_mesh(self.folder("mesh"))
        text = text.replace("PORT", str(port)) if text else _with_ports(file.read_text(), port)
        file.write_text(text)
        self.user.give(self.mesh)
        return file

    def start(
        self, *arguments: str, output: str = "", env: Mapping[str, str] | None = None, terminal: int | None = None
    ) -> Part:
        """Start `gossamer ARGUMENTS`, on the terminal whose descriptor is given or else on none."""
        log = self.root / f"{output or arguments[0]}.out"
        argv = [*self.before, *self.user.before, sys.executable, "-P", "-m", "gossamer", *arguments]
        with log.open("ab") as file:
            child = subprocess.Popen(
                argv,
                env=self.env | {**(env or {})},
                cwd=self.root,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=file if terminal is None else terminal,
                stderr=file if terminal is None else terminal,
                start_new_session=True,
                preexec_fn=None if terminal is None else _take_terminal,  # noqa: PLW1509 - no threads here
            )
        part = Part(child=child, output=log)
        self.parts.append(part)
        return part

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 60) -> Part:
        """A command that ends by itself, when it has."""
        part = self.start(*arguments, output=f"command-{len(self.parts)}", env=env)
        part.wait(timeout_s)
        return part

    def up(self, *arguments: str, terminal: int | None = None) -> Part:
        """`gossamer up` of this place's mesh."""
        file = self.mesh / "gossamer.yaml"
        return self.start("up", "-f", str(file), f"--state={self.state}", *arguments, terminal=terminal)

    # ---- what it says of itself

    def socket(self, name: str) -> Path:
        """The socket `agent` or `control-plane` of this place's mesh. AssertionError when there is none."""
        found = list(self.root.glob(f"run/gossamer-*/*/{name}.sock"))
        assert len(found) == 1, f"sockets of {name}: {found}"
        return found[0]

    def status(self, name: str) -> dict[str, Any]:
        """What `agent` or `control-plane` says of itself; empty while it is away."""
        try:
            path = self.socket(name)
            return dict(call(path, "GET", "/v1/status").json()) if _answers(path) else {}
        except (GossamerError, AssertionError):
            return {}

    def ready(self) -> bool:
        """Whether all that runs here serves."""
        return bool(self.status("agent").get("ready"))

    def synced(self, count: int) -> bool:
        """Whether the control plane has `count` proxies, and all accepted what it last sent."""
        states = [row["state"] for row in self.status("control-plane").get("proxies", ())]
        return states == ["SYNCED"] * count

    def row(self, workload: str) -> dict[str, Any]:
        """What the agent says of `NAMESPACE/NAME`."""
        rows = {f"{row['namespace']}/{row['name']}": row for row in self.status("agent")["workloads"]}
        return dict(rows[workload])

    # ---- what is left of it

    def processes(self) -> dict[int, str]:
        """The processes of this place, by id, with their arguments."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                    if os.fsencode(f"{self.root}") in words + environment and _alive(entry):
                        found[int(entry.name)] = words.replace(b"\0", b" ").decode()[:200]
        return found

    def namespaces(self) -> set[str]:
        """The network namespaces of this place's processes, and those that have a name in it."""
        return {net for pid in self.processes() if (net := _link(Path(f"/proc/{pid}/ns/net")))} - {_own_network()}

    def mounts(self) -> list[str]:
        """What is mounted below this place, as far as this process sees."""
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{self.root}/" in line]

    def sockets(self) -> list[str]:
        """Sockets that have a name in this place."""
        return [str(path) for path in self.root.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]

    def remove(self) -> None:
        """End what still runs here, and remove the folder."""
        self.end()
        if not self.mounts():
            shutil.rmtree(self.root, ignore_errors=True)

    def end(self) -> None:
        """Kill what still runs here."""
        for _ in range(50):
            left = self.processes()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for part in self.parts:
                part.child.poll()
            if not left:
                break
            time.sleep(0.05)
        for part in self.parts:
            part.child.wait(5)


@contextlib.contextmanager
def place(user: User | None = None) -> Iterator[Place]:
    """A place that is gone afterwards, with all that ran in it. On a failure, the ends of its logs are printed."""
    found = Place(user)
    try:
        yield found
    except BaseException:
        print_logs(found)
        raise
    finally:
        found.remove()


def print_logs(found: Place) -> None:
    """Print the ends of what was written in a place."""
    for path in sorted([*found.root.glob("*.out"), *found.root.rglob("logs/*.log")]):
        end = path.read_text(encoding="utf-8", errors="replace")[-1500:]
        print(f"==== {path.relative_to(found.root)}\n{end}")


def networks() -> set[str]:
    """Every network namespace that a process of this machine is in."""
    return {net for entry in Path("/proc").iterdir() if entry.name.isdigit() and (net := _link(entry / "ns" / "net"))}


def is_left_of(found: Place, networks_of_it: set[str]) -> list[str]:
    """What is left of a mesh that has ended, `networks_of_it` being the network namespaces that it had."""
    left = [f"process {pid}: {words}" for pid, words in found.processes().items()]
    left += [f"network namespace {net}" for net in networks_of_it & networks()]
    left += [f"socket {path}" for path in found.sockets()]
    return left + [f"mount {line}" for line in found.mounts()]


def links() -> set[str]:
    """The network links of this machine."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _with_ports(text: str, port: int) -> str:
    return text.replace("targetPort: 8080", f"targetPort: {port}").replace(
        "targetPort: 8443", f"targetPort: {free_port()}"
    )


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _own_network() -> str:
    return str(Path("/proc/self/ns/net").readlink())


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _answers(path: Path) -> bool:
    """Whether somebody listens on a UNIX socket: httpcore leaves its own open when nobody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _alive(entry: Path) -> bool:
    return ") Z " not in (entry / "stat").read_text()
