"""Names of services where nothing is redirected: an ordinary process looks them up, and calls by what it finds."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import need
from tests.e2e.meshes import STRICT, TELLS, Place, place, until
from tests.e2e.users import ordinary

MESH = """\
version: 1
config: [config]
workloads:
  - name: server
    labels: {app: server}
    ports: [{name: http, port: 8000}, {name: tcp, port: 7000}]
    command: ["${PYTHON}", server.py]
    health: {port: 8000}
"""
SERVICES = """\
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec: {selector: {app: server}, ports: [{name: tcp-greeting, port: 17000, targetPort: 7000}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 18000, name: http, protocol: HTTP, targetPort: 8000}]
  workloadSelector: {labels: {app: server}}
"""
LATER = """\
apiVersion: v1
kind: Service
metadata: {name: later}
spec: {selector: {app: server}, ports: [{name: tcp-greeting, port: 17001, targetPort: 7000}]}
"""
# Greets on one port, before it is asked anything; tells HTTP on another one whom its sidecar saw calling.
SERVER = (
    TELLS
    + """
import os, socketserver, threading

class Greet(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"hello")

greeter = socketserver.ThreadingTCPServer((os.environ["HOST"], 7000), Greet)
threading.Thread(target=greeter.serve_forever).start()
http.server.ThreadingHTTPServer((os.environ["HOST"], 8000), Tells).serve_forever()
"""
)
# Knows names alone, and no proxy. Its last question is for a name that comes while it runs.
ASKER = """
import ipaddress, json, os, socket, struct, time, urllib.request

def greeting(host, port):
    with socket.create_connection((host, port), 5) as connection:
        return connection.recv(100).decode()

def over_dns(name):
    host, _, port = os.environ["MESH_DNS"].partition(":")
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(query, (host, int(port)))
        return str(ipaddress.ip_address(client.recv(4096)[-4:]))

def wait_for(name):
    for _ in range(1000):  # not by looking it up: the host's own resolver may take its time over what is not there
        if name in open("/etc/hosts").read():
            return
        time.sleep(0.02)

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
told = {
    "lookups": {
        name: socket.gethostbyname(name)
        for name in ("greeter", "greeter.default", "greeter.default.svc.cluster.local", "api.example", "localhost")
    },
    "dns": {name: over_dns(name) for name in ("greeter", "api.example")},
    "greeting": greeting("greeter", 17000),
    "seen": direct.open("http://api.example:18000/", timeout=5).read().decode(),
    "variables": greeting(os.environ["GREETER_SERVICE_HOST"], int(os.environ["GREETER_SERVICE_PORT"])),
}
print(json.dumps(told), flush=True)
wait_for("later")
print(greeting("later", 17001), flush=True)
"""


def _prepare(found: Place) -> Path:
    found.write(0, MESH)
    for path in (found.mesh / "config").iterdir():
        path.unlink()
    for name, text in (
        ("server.py", SERVER),
        ("asker.py", ASKER),
        ("config/services.yaml", f"{SERVICES}---\n{STRICT}"),
    ):
        (found.mesh / name).write_text(text)
    found.user.give(found.mesh)
    return found.mesh


def test_names_in_explicit_capture() -> None:
    """A Service's TCP port and the HTTP port of a ServiceEntry without addresses, by their names and own numbers."""
    with place(ordinary()) as found:
        mesh = _prepare(found)
        up = found.up("--capture=explicit")
        until(lambda: found.ready() or up.child.poll() is not None, "ready")
        chosen = found.status("agent")["capture"]
        need("do not resolve" not in chosen, chosen)
        asker = found.start("run", "--capture=explicit", "--name=asker", "--", "python3", str(mesh / "asker.py"))
        until(lambda: "lookups" in asker.said or asker.child.poll() is not None, "answers")
        (line,) = [line for line in asker.said.splitlines() if line.startswith("{")] or [""]
        assert line, asker.said
        told = json.loads(line)
        lookups = told["lookups"]
        assert lookups.pop("localhost") == "127.0.0.1"
        assert len(set(lookups.values())) == 2, lookups
        assert all(address.startswith("127.") for address in lookups.values())
        assert told["dns"] == {name: lookups[name] for name in told["dns"]}
        assert told["greeting"] == told["variables"] == "hello"
        assert "URI=spiffe://cluster.local/ns/default/sa/default" in told["seen"]
        (mesh / "config" / "later.yaml").write_text(LATER)
        found.user.give(mesh)
        assert asker.wait() == 0
        assert asker.said.splitlines()[-1] == "hello"
