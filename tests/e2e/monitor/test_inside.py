"""What an application tries from inside its namespaces, on a mesh that runs: out past its sidecar, into another
workload past that one's, at Envoy, keys and the agent. The counterparts show that each attempt could have worked."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from gossamer.node import sandbox_linux as linux
from gossamer.rpc.local import call
from tests.conftest import need
from tests.e2e.meshes import until
from tests.e2e.monitor.world import DOOR, MALLORY, PROXIES, WEB, World, own_address, running

STRANGER = 43210

# Each attempt is one function; what it returns is told, or the error that stopped it.
INSIDE = """
import ctypes, errno, glob, json, os, re, signal, socket, struct, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
def tcp(address, port, family=socket.AF_INET, scope=0, options=()):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        for option in options:
            one.setsockopt(*option)
        one.connect((address, port, 0, scope) if family == socket.AF_INET6 else (address, port))
        one.sendall(b"GET /PAST HTTP/1.1\\r\\nhost: web\\r\\n\\r\\n")
        try:
            answer = one.recv(4096).decode("latin-1")
        except ConnectionResetError:
            answer = ""
        return answer or "closed"
def udp(address, port, family=socket.AF_INET, scope=0, protocol=0):
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as one:
        one.sendto(b"PAST", (address, port, 0, scope) if family == socket.AF_INET6 else (address, port))
        return "sent"
def link():
    return next(int(open(path).read()) for path in glob.glob("/sys/class/net/*/ifindex") if "/lo/" not in path)
def index():
    return socket.if_nameindex()[-1][0]

def web_four(): return tcp(web[0], 8080)
def web_six(): return tcp(web[1], 8080, socket.AF_INET6)
def web_link_local(): return tcp("fe80::1", 8080, socket.AF_INET6, index())
def web_udp_four(): return udp(web[0], 8081)
def web_udp_six(): return udp(web[1], 8081, socket.AF_INET6)
def web_udp_all_nodes(): return udp("ff02::1", 8081, socket.AF_INET6, index())
def web_mesh_port(): return tcp(mesh[0], mesh[1])
def web_broadcast():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.sendto(b"PAST", ("255.255.255.255", 8081))
def out_udp_four(): return udp(host[0], host[1])
def out_udp_lite(): return udp(host[0], host[1], protocol=136)
def out_udp_six(): return udp("fd00::2", host[1], socket.AF_INET6)
def out_marked(): return tcp(host[0], host[2], options=[(socket.SOL_SOCKET, 36, 1)])
def out_transparent(): return tcp(host[0], host[2], options=[(socket.SOL_IP, 19, 1)])
def out_to_device(): return tcp(host[0], host[2], options=[(socket.SOL_SOCKET, 25, b"lo")])
def out_raw(): socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def out_raw_six(): socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
def out_packets(): socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
def out_hypervisor(): socket.socket(40, socket.SOCK_STREAM)
def out_ping():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as one:
        one.settimeout(0.5)
        one.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 0), (host[0], 1))
        return one.recv(100)
def out_sctp():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132) as one:
        one.settimeout(1)
        one.connect((host[0], host[2]))
def out_as_another():
    os.setuid(stranger)
    return tcp(host[0], host[2])
def out_abstract():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(abstract)
def rules():
    from gossamer.node.capture.nftables import drop_table
    drop_table("gossamer")
def own_rules():
    checked(libc.unshare(0x10000000))
    rules()
def route():
    from pyroute2 import IPRoute
    with IPRoute() as ip:
        ip.route("add", dst="192.0.2.0/24", oif=index())
def new_link():
    from pyroute2 import IPRoute
    with IPRoute() as ip:
        ip.link("add", ifname="mine", kind="dummy")
def admin():
    return [port for port in range(15000, 15100) if _speaks(port)]
def _speaks(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as one:
            one.sendall(b"GET /config_dump HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
            one.settimeout(0.5)
            return b"configs" in one.recv(65536)
    except OSError:
        return False
def files():
    found = [path for path in hidden if os.path.exists(path) and (os.path.isfile(path) or os.listdir(path))]
    return found or "nothing"
def files_of_processes():
    roots = glob.glob("/proc/[0-9]*/root")
    return [path for path in roots if os.path.exists(path + hidden[0] + "/identity")] or "nothing"
def processes():
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) in others) or "nothing"
def signals():
    for pid in others:
        os.kill(pid, 0)
def locks():
    return [one for one in ours if os.path.exists(one)] or "nothing"
def trace():
    checked(libc.ptrace(16, others[0], 0, 0))
def switch():
    open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w").write("1")
def unmount():
    checked(libc.umount2(hidden[0].encode(), 2))

told = {}
for name, attempt in list(globals().items()):
    if callable(attempt) and getattr(attempt, "__module__", "") == "__main__" and name not in HELPERS:
        reader, writer = os.pipe()
        if pid := os.fork():
            os.close(writer)
            told[name] = os.fdopen(reader).read()
            os.waitpid(pid, 0)
            continue
        try:
            said = str(attempt())
        except BaseException as error:
            code = errno.errorcode.get(getattr(error, "errno", None) or getattr(error, "code", None) or 0, "")
            said = f"{type(error).__name__} {code}".strip()
        os.write(writer, said.encode())
        os._exit(0)
print(json.dumps(told))
"""
HELPERS = ("checked", "tcp", "udp", "link", "index", "_speaks")
REFUSED = {
    # a socket or an option that it has no right to
    "out_marked": "PermissionError EPERM",
    "out_transparent": "PermissionError EPERM",
    "out_raw": "PermissionError EPERM",
    "out_raw_six": "PermissionError EPERM",
    "out_packets": "PermissionError EPERM",
    "out_hypervisor": "OSError EAFNOSUPPORT",
    "out_abstract": "ConnectionRefusedError ECONNREFUSED",
    "rules": "PermissionError EPERM",
    "own_rules": "PermissionError EPERM",
    "route": "NetlinkError EPERM",
    "new_link": "NetlinkError EPERM",
    "switch": "OSError EROFS",
    "signals": "ProcessLookupError ESRCH",
    "trace": "ProcessLookupError ESRCH",
    # there is nothing to be seen
    "admin": "[]",
    "files": "nothing",
    "files_of_processes": "nothing",
    "processes": "nothing",
    "locks": "nothing",
    # it meets a sidecar that wants mutual TLS
    "web_mesh_port": "closed",
}


class _Outside:
    """Somebody on the host who listens: TCP, UDP over both families, and an abstract socket. `got` is what came."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.tcp = socket.create_server(("", 0))
        self.udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.udp.bind(("::", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.name = f"\0monitor-{os.getpid()}"
        self.abstract.bind(self.name)
        self.abstract.listen()
        self._threads = [threading.Thread(target=run) for run in (self._take_tcp, self._take_udp)]
        for thread in self._threads:
            thread.start()

    def _take_tcp(self) -> None:
        while True:
            try:
                one, _ = self.tcp.accept()
            except OSError:
                return
            with one:
                one.settimeout(1)
                self.got.append(f"TCP {one.recv(4096).decode('latin-1')}")
                one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def _take_udp(self) -> None:
        while data := self.udp.recv(4096):
            self.got.append(f"UDP {data.decode('latin-1')}")

    def close(self) -> None:
        self.tcp.shutdown(socket.SHUT_RDWR)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("::1", self.udp.getsockname()[1]))
        for thread in self._threads:
            thread.join(5)
        for one in (self.tcp, self.udp, self.abstract):
            one.close()


@contextmanager
def _outside() -> Iterator[_Outside]:
    found = _Outside()
    try:
        yield found
    finally:
        found.close()


def _own_address() -> str:
    """An address of this host that is not on loopback; the test is skipped without one."""
    found = own_address()
    need(found != "127.0.0.1", "this host has no address but loopback")
    return found


def _others(world: World) -> list[int]:
    """The Envoys, the other application, the agent and the control plane."""
    rows = [world.place.row(name) for name in (DOOR, WEB, MALLORY)]
    assert world.agent.part is not None
    assert world.plane.part is not None
    envoys = [row["envoy_pid"] for row in rows]
    return [*envoys, world.place.row(WEB)["application_pid"], world.agent.part.pid, world.plane.part.pid]


def _values(world: World, outside: _Outside) -> dict[str, Any]:
    ports = json.loads((world.place.root / "state" / "ports.json").read_text())["addresses"]
    web = next(address for purpose, address in ports.items() if purpose.startswith("default.web-1/"))
    row = world.place.row(WEB)
    runtime = world.place.socket("agent").parent
    return {
        "web": (web, str(_six(web))),
        "mesh": (row["mesh_address"], row["mesh_ports"]["8080"]),
        "host": (_own_address(), outside.udp.getsockname()[1], outside.tcp.getsockname()[1]),
        "stranger": STRANGER,
        "abstract": outside.name,
        "hidden": [str(world.place.root / "state"), str(runtime)],
        "others": _others(world),
        "ours": [f"/dev/shm/envoy_shared_memory_{base}0" for base in _bases(runtime)],
        "HELPERS": HELPERS,
    }


def _six(four: str) -> IPv6Address:
    return IPv6Address("fd00:6705::") + int(IPv4Address(four))


def _bases(runtime: Path) -> list[int]:
    """By which the Envoys of the mesh know their successors."""
    found = sorted({int(path.name.rpartition("_")[2]) // 10 for path in (runtime / "hot").glob("e_parent_*")})
    assert len(found) == PROXIES
    return found


def _tell(world: World) -> None:
    known = len(world.seen())
    with _outside() as outside:
        values = _values(world, outside)
        said = world.mallory(INSIDE, **values)
        try:
            told = json.loads(said)
        except ValueError:
            raise AssertionError(said) from None
        through = world.mallory(
            "import urllib.request as u; print(u.urlopen(target, timeout=5).status)",
            target=f"http://{values['host'][0]}:{values['host'][2]}/THROUGH",
        )
    print(json.dumps(told, indent=1))
    assert {name: told[name] for name in REFUSED} == REFUSED
    assert through.strip() == "200", "the way through its sidecar is open to it, and it took that for nothing else"
    assert not [one for one in outside.got if one.startswith("UDP")], "not one datagram has left it"
    came = len(outside.got)
    until(lambda: _passed(world, values["host"]) == came, f"its sidecar has written down each of the {came}", 5)
    assert not [one for one in world.seen()[known:] if "PAST" in one], "web has seen nothing of it"
    # whatever may answer out there, it is not web
    assert not [name for name in ("web_four", "web_six", "web_link_local") if '"head"' in told[name]]


def _passed(world: World, host: tuple[str, int, int]) -> int:
    """How many connections to the one outside have gone through mallory's sidecar."""
    reply = call(world.place.socket("agent"), "GET", f"/v1/workloads/{MALLORY}/log?of=envoy")
    return sum(f'"{host[0]}:{host[2]}" PassthroughCluster' in line for line in reply.text.splitlines())


def test_an_application_gets_nowhere_but_through_its_sidecar(world: World) -> None:
    _tell(world)


def test_nor_does_one_that_is_called_root() -> None:
    """The same on a mesh that root runs, whose applications have root's name and nothing of what it may."""
    need(os.geteuid() == 0, "this needs root")
    with running() as own:
        assert own.mallory("import os; print(os.getuid())").strip() == "0"
        _tell(own)


def test_who_is_outside_reaches_no_application_but_through_its_sidecar(world: World) -> None:
    """From the host: the application's address is nobody's there. From its own network, where only its sidecar should
    be: that sees who comes as it sees everybody, and turns plaintext away."""
    need(os.geteuid() == 0, "this needs root: it goes where the application is")
    values = json.loads((world.place.root / "state" / "ports.json").read_text())["addresses"]
    web = next(address for purpose, address in values.items() if purpose.startswith("default.web-1/"))
    known = len(world.seen())
    for family, address in ((socket.AF_INET, web), (socket.AF_INET6, str(_six(web)))):
        assert '"head"' not in _answers(family, address)
    assert not [one for one in world.seen()[known:] if "PAST" in one]
    assert _in_network(world.place.row(WEB)["application_pid"], web, "GET /INSIDE") == "200", (
        "there it would be answered"
    )


def _answers(family: socket.AddressFamily, address: str) -> str:
    """What comes back; empty for nothing."""
    with socket.socket(family) as one:
        one.settimeout(1)
        try:
            one.connect((address, 8080))
            one.sendall(b"GET /PAST HTTP/1.1\r\nhost: x\r\n\r\n")
            return one.recv(4096).decode("latin-1")
        except OSError:
            return ""


def _in_network(pid: int, address: str, line: str) -> str:
    """The status of an answer that is given on another process's network, over its loopback."""
    code = (
        f"import ctypes, socket; f = open('/proc/{pid}/ns/net'); assert not ctypes.CDLL(None).setns(f.fileno(), "
        f"{linux.CLONE_NEWNET}); s = socket.create_connection(('{address}', 8080), 2); "
        f"s.sendall(b'{line} HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'); print(s.recv(100).split()[1].decode())"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def test_another_user_of_the_host_reaches_neither_admin_nor_agent_nor_keys(world: World) -> None:
    need(os.geteuid() == 0, "this needs root: it becomes another user")
    runtime = world.place.socket("agent").parent
    sockets = [path for path in runtime.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    names = {path.name for path in sockets}
    assert {"agent.sock", "admin.sock", "warden.sock"} <= names
    assert any(name.startswith("e_parent_") for name in names), "where one Envoy takes over from another"
    keys = [path for path in (world.place.root / "state").rglob("*") if path.is_file()]
    assert any(b"PRIVATE KEY" in path.read_bytes() for path in keys)
    code = (
        f"import os, sys\nos.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})\n"
        "print(*(name for name in sys.stdin.read().split() if os.path.exists(name)))"
    )
    asked = "\n".join(map(str, (*sockets, *keys)))
    done = subprocess.run([sys.executable, "-I", "-c", code], input=asked, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    for path in (*sockets, *keys):
        assert path.lstat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path
