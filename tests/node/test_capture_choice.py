"""Which way is taken, what a caller gets for it, and that ports and addresses stay."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import gossamer
from gossamer.core.errors import CaptureError, StateError
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Capture, CaptureMode
from gossamer.node.capture.choose import Way, choose_capture
from gossamer.node.capture.environment import explicit_environment, short_name
from gossamer.node.capture.explicit import open_services, service_ports
from gossamer.node.capture.hosts_file import write_hosts
from gossamer.node.capture.ports import LOOPBACK, SERVICES, Ports
from gossamer.node.capture.workloads import Captured, Capturer, CaptureRequest
from gossamer.node.sandbox import Command, Isolation, Lifeline, SandboxSettings, open_sandbox
from tests.conftest import need

REQUEST = CaptureRequest(
    namespace="shop",
    name="reviews-v1",
    ports=(9080, 9090),
    services=("ratings.shop.svc.cluster.local:9080", "api.example.com:1", "db.data.svc.cluster.local:5432"),
    web_services=("api.example.com:8099", "web.shop.svc.cluster.local:8098"),
)

# Chooses in a user namespace that allows no further one, as a host may be set up.
CONFINED_CHOICE = """
import asyncio, os, sys
from dataclasses import replace
from pathlib import Path
from gossamer.node import sandbox_linux as linux
from gossamer.node.capture.choose import Way, choose_capture
from gossamer.node.sandbox import SandboxSettings
uid, gid = os.getuid(), os.getgid()
linux.unshare(linux.CLONE_NEWUSER)
Path("/proc/self/setgroups").write_text("deny")
Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
Path("/proc/sys/user/max_user_namespaces").write_text("0")

async def main():
    sandbox, choice = await choose_capture(Way(sys.argv[2]), SandboxSettings(runtime=Path(sys.argv[1])))
    print(choice)
    await sandbox.close()

try:
    asyncio.run(main())
except Exception as error:
    print(type(error).__name__, error)
"""


def _choose_where_nothing_is_allowed(runtime: Path, way: Way) -> str:
    source = str(Path(gossamer.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", CONFINED_CHOICE, str(runtime), way],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    need("Operation not permitted" not in done.stderr, "user namespaces are not allowed here")
    return done.stdout.strip()


def test_auto_takes_the_first_way_that_works(tmp_path: Path) -> None:
    async def scenario() -> None:
        sandbox, choice = await choose_capture(Way.AUTO, SandboxSettings(runtime=tmp_path / "run"))
        try:
            need(choice.isolation is not Isolation.NONE, f"no namespaces here: {choice}")
            assert choice.isolation is (Isolation.ROOT if os.geteuid() == 0 else Isolation.USER)
            assert choice.mode is CaptureMode.TRANSPARENT
            assert str(choice).startswith("transparent (")
            assert sandbox.networks == frozenset(), "the probe leaves nothing"
        finally:
            await sandbox.close()

    asyncio.run(scenario())


def test_auto_falls_back_and_says_why(tmp_path: Path) -> None:
    said = _choose_where_nothing_is_allowed(tmp_path / "run", Way.AUTO)
    assert said.startswith("explicit (an application could bypass its sidecar); not transparent (")
    assert "No space left on device" in said, "what the kernel says of too many user namespaces"


def test_a_way_that_was_asked_for_and_does_not_work_is_an_error(tmp_path: Path) -> None:
    said = _choose_where_nothing_is_allowed(tmp_path / "run", Way.TRANSPARENT)
    assert said.startswith("CaptureError this host does not allow transparent capture: transparent (")
    assert "transparent (user namespace): [Errno 28] unshare: No space left on device" in said


def test_a_running_warden_keeps_its_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = SandboxSettings(runtime=tmp_path / "run", lifeline=Lifeline.OUTLIVE)
        sandbox, _ = await choose_capture(Way.EXPLICIT, settings)
        await sandbox.detach()
        with pytest.raises(CaptureError, match="run already with explicit capture"):
            await choose_capture(Way.TRANSPARENT, settings)
        again, choice = await choose_capture(Way.AUTO, settings)
        assert again.adopted
        assert choice.isolation is Isolation.NONE
        await again.close()

    asyncio.run(scenario())


def _capture(folder: Path, isolation: Isolation) -> Captured:
    async def scenario() -> Captured:
        sandbox = await open_sandbox(SandboxSettings(runtime=folder / "run", isolation=isolation))
        try:
            mode = CaptureMode.EXPLICIT if isolation is Isolation.NONE else CaptureMode.TRANSPARENT
            capturer = Capturer(sandbox, mode, Ports(folder / "ports.json"))
            captured = await capturer.add(REQUEST)
            if isolation is not Isolation.NONE:
                assert sandbox.networks == {"shop.reviews-v1"}
                await capturer.remove_all_but([])
                assert sandbox.networks == frozenset()
            return captured
        finally:
            await sandbox.close()

    try:
        return asyncio.run(scenario())
    except CaptureError as error:
        need(False, str(error))
        raise


def test_explicit_capture(tmp_path: Path) -> None:
    captured = _capture(tmp_path, Isolation.NONE)
    capture = captured.capture
    assert captured.network == ""
    assert captured.addresses == (capture.address,)
    assert capture.mode is CaptureMode.EXPLICIT
    assert capture.application_address == capture.address
    assert capture.address.startswith("127.")
    assert set(capture.mesh_ports) == {9080, 9090}
    mixed = "api.example.com:8099"
    assert set(capture.outbound_ports) == {*REQUEST.services, mixed}
    opened = {int(name.rpartition(":")[2]): port for name, port in capture.outbound_ports.items() if port != 1}
    low_too = os.geteuid() == 0  # who may not open a service's own port below 1024 opens another
    assert all(port == own for own, port in opened.items() if own >= 1024 or low_too)
    assert capture.web_ports == (8098,)
    addresses = [capture.address, capture.web_address, *capture.service_addresses.values()]
    assert len(set(addresses)) == 5
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)
    ratings = capture.service_addresses["ratings.shop.svc.cluster.local"]
    assert captured.names[ratings] == (
        "ratings.shop.svc.cluster.local",
        "ratings",
        "ratings.shop.svc",
        "ratings.shop",
    )
    assert captured.names[capture.web_address][:2] == ("web.shop.svc.cluster.local", "web")
    assert captured.environment["HOST"] == capture.address
    assert captured.environment["RATINGS_SERVICE_HOST"] == ratings
    assert captured.environment["RATINGS_SERVICE_PORT"] == "9080"
    assert captured.environment["MESH_DNS"] == f"{capture.address}:{capture.dns_port}"
    assert "DB_SERVICE_HOST" not in captured.environment, "another namespace's"
    assert _capture(tmp_path, Isolation.NONE) == captured, "the same after a restart"


def test_transparent_capture(tmp_path: Path) -> None:
    captured = _capture(tmp_path, Isolation.USER)
    assert captured.capture.network_namespace == str(tmp_path / "run/netns/shop.reviews-v1")
    assert captured.capture.dns
    assert captured.capture.outbound_ports == {}
    assert captured.network == "shop.reviews-v1"
    assert captured.environment == {}
    assert [":" in address for address in captured.addresses] == [False, True]


def test_a_capture_that_stands_keeps_the_ports_that_it_was_made_with(tmp_path: Path) -> None:
    async def scenario() -> None:
        sandbox = await open_sandbox(SandboxSettings(runtime=tmp_path / "run", isolation=Isolation.USER))
        try:
            capturer = Capturer(sandbox, CaptureMode.TRANSPARENT, Ports(tmp_path / "ports.json"))
            other = replace(REQUEST, outbound_port=16001, inbound_port=16006)

            async def ports(request: CaptureRequest, capturer: Capturer = capturer) -> tuple[int, int]:
                capture = (await capturer.add(request)).capture
                return capture.outbound_port, capture.inbound_port

            assert await ports(REQUEST) == (15001, 15006)
            assert await ports(other) == (15001, 15006), "it stands"
            mesh_ports = (await capturer.add(other)).capture.mesh_ports
            await capturer.undo(other.key)
            assert await ports(other) == (16001, 16006)
            assert (await capturer.add(other)).capture.mesh_ports == mesh_ports, "those that callers dial do not wander"
            again = Capturer(sandbox, CaptureMode.TRANSPARENT, Ports(tmp_path / "ports.json"))
            assert await ports(REQUEST, again) == (16001, 16006), "the next agent knows it"
        finally:
            await sandbox.close()

    try:
        asyncio.run(scenario())
    except CaptureError as error:
        need(False, str(error))
        raise


def test_a_service_without_a_port_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        sandbox = await open_sandbox(SandboxSettings(runtime=tmp_path / "run"))
        capturer = Capturer(sandbox, CaptureMode.EXPLICIT, Ports(None))
        with pytest.raises(CaptureError, match="'reviews' is no service port"):
            await capturer.add(CaptureRequest(namespace="a", name="b", services=("reviews",)))
        await sandbox.close()

    asyncio.run(scenario())


def test_ports_stay_unless_they_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    ports = Ports(file)
    first, other = ports.allocate("a", "127.0.0.1"), ports.allocate("b", "127.0.0.1")
    assert first != other
    assert Ports(file).allocate("a", "127.0.0.1") == first
    with socket.create_server(("127.0.0.1", first), reuse_port=True):
        assert Ports(file).allocate("a", "127.0.0.1") == first, "an Envoy of ours that went on running"
    with socket.create_server(("127.0.0.1", first)):
        moved = Ports(file).allocate("a", "127.0.0.1")
        assert moved not in (first, other)
    assert Ports(file).allocate("a", "127.0.0.1") == moved
    ports = Ports(file)
    ports.release("a")
    assert "a" not in json.loads(file.read_text())["ports"]


def test_what_is_allocated_together_is_remembered_at_once(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    ports = Ports(file)
    with ports.together():
        given = {name: ports.allocate(name, "127.77.0.2") for name in ("a", "b")}
        assert not file.exists()
    assert {name: Ports(file).allocate(name, "127.77.0.2") for name in ("a", "b")} == given


def test_a_preferred_port_is_taken_if_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        assert Ports(None).allocate("a", "127.0.0.1", preferred=busy) != busy
    assert Ports(None).allocate("a", "127.0.0.1", preferred=busy) == busy


def test_there_may_be_no_port() -> None:
    ports = Ports(None, first=20000, last=20001)
    for purpose in ("a", "b"):
        ports.allocate(purpose, "127.77.0.1")
    with pytest.raises(CaptureError, match=r"no free port between 20000 and 20001 at 127.77.0.1 for c"):
        ports.allocate("c", "127.77.0.1")


def test_addresses_are_nobody_elses() -> None:
    ports = Ports(None)
    addresses = [ports.address(f"workload-{number}", LOOPBACK) for number in range(300)]
    assert len(set(addresses)) == 300
    assert ports.address("workload-7", LOOPBACK) == addresses[7]


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', '{"schema": 9, "ports": {}, "addresses": {}}'])
def test_a_damaged_file_is_reported(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_text(text)
    with pytest.raises(StateError, match=r"ports.json is (damaged|of schema 9)"):
        Ports(file)


def test_environment_of_an_explicit_workload() -> None:
    capture = Capture(address="127.1.2.3", http_proxy_port=15080, dns_port=53)
    found = explicit_environment(capture, (8080, 9090), {"my-service": ("127.129.0.1", 5432)})
    assert found == {
        "HOST": "127.1.2.3",
        "PORT": "8080",
        "HTTP_PROXY": "http://127.1.2.3:15080",
        "http_proxy": "http://127.1.2.3:15080",
        "NO_PROXY": "localhost,127.0.0.0/8,::1,127.1.2.3",
        "no_proxy": "localhost,127.0.0.0/8,::1,127.1.2.3",
        "MESH_DNS": "127.1.2.3:53",
        "MY_SERVICE_SERVICE_HOST": "127.129.0.1",
        "MY_SERVICE_SERVICE_PORT": "5432",
    }
    assert "PORT" not in explicit_environment(capture, (), {})


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("reviews.shop.svc.cluster.local", "reviews"),
        ("reviews.other.svc.cluster.local", ""),
        ("api.shop.example.com", ""),
        ("reviews", ""),
    ],
)
def test_short_names(hostname: str, name: str) -> None:
    assert short_name(hostname, "shop") == name


def test_all_of_this_works_for_an_ordinary_user(tmp_path: Path) -> None:
    """As root: the tests of this package's capture once more, as nobody."""
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user already: the other tests say it all")
    python = _python_for_everybody()
    need(python is not None, "no Python that everybody may run (its files are root's alone)")
    home = Path("/tmp") / f"gossamer-nobody-{os.getpid()}"
    home.mkdir(mode=0o755)
    os.chown(home, 65534, 65534)
    root = Path(__file__).parents[2]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join([str(root / "src"), *(path for path in sys.path if "site-packages" in path)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GOSSAMER_REQUIRE": "all",
    }
    files = [str(path) for path in sorted(Path(__file__).parent.glob("test_capture_*.py"))]
    keywords = "(user and not root and (redirected or every_escape or leaves_nothing)) or first_way"
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(home / "t"),
        "-k",
        keywords,
    ]
    try:
        done = subprocess.run(
            [*command, *files],
            cwd=root,
            env=environment,
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[0].startswith("...."), done.stdout
    finally:
        shutil.rmtree(home)


def _python_for_everybody() -> str | None:
    version = f"python3.{sys.version_info.minor}"
    for candidate in (str(Path(sys.executable).resolve()), f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            done = subprocess.run([candidate, "-c", ""], user=65534, group=65534, extra_groups=[], cwd="/", check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None


def test_a_service_some_of_whose_ports_are_taken_has_no_name(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    services = service_ports(("db.a:5432", "db.a:5433", "tcp.a:70"), ("web.a:8097", "site.a:8096"))
    address = ports.address("a.b/service/db.a", SERVICES)
    web = ports.address("a.b/web", SERVICES)
    with socket.create_server((address, 5433)), socket.create_server((web, 8096)):
        opened = open_services(ports, "a.b", services)
    assert opened.ports["db.a:5432"] == 5432
    assert opened.ports["db.a:5433"] != 5433, "it is opened all the same"
    assert opened.web_ports == (8097,)
    assert set(opened.named) - {"tcp.a"} == {"web.a"}


def test_a_hosts_file_is_changed_in_place(tmp_path: Path) -> None:
    file = tmp_path / "hosts" / "a.b"
    write_hosts(file, {"127.128.0.1": ("db", "db.a")})
    inode, text = file.stat().st_ino, file.read_text()
    assert text.endswith("127.128.0.1 db\n127.128.0.1 db.a\n")
    assert "localhost" in text, "the host's own names"
    write_hosts(file, {})
    assert file.read_text() == text.partition("127.128")[0]
    assert file.stat().st_ino == inode


def _until_written(log: Path) -> None:
    deadline = time.monotonic() + 20
    while not log.exists() or not log.read_text():
        assert time.monotonic() < deadline, "the program says nothing"
        time.sleep(0.01)


def test_a_program_finds_the_names_that_it_is_given(tmp_path: Path) -> None:
    """As it is in explicit capture, and as they change while it runs."""

    async def scenario() -> str:
        sandbox, choice = await choose_capture(Way.EXPLICIT, SandboxSettings(runtime=tmp_path / "run"))
        try:
            need(not choice.nameless, choice.nameless)
            file, log = tmp_path / "hosts", tmp_path / "log"
            write_hosts(file, {"127.128.0.1": ("first.mesh",)})
            code = (
                "import os, socket, time\n"
                "print(socket.gethostbyname('first.mesh'), os.getuid(), flush=True)\n"
                "for _ in range(500):\n"
                "    try: print(socket.gethostbyname('second.mesh')); break\n"
                "    except OSError: time.sleep(0.01)\n"
            )
            command = Command(argv=(sys.executable, "-c", code), env=FrozenMap(), log=log, hosts=file)
            child = await sandbox.spawn("names", command)
            await asyncio.to_thread(_until_written, log)
            write_hosts(file, {"127.128.0.2": ("second.mesh",)})
            assert await child.wait() == 0
            return log.read_text()
        finally:
            await sandbox.close()

    assert asyncio.run(scenario()).split() == ["127.128.0.1", str(os.getuid()), "127.128.0.2"]
    with pytest.raises(OSError, match=r"."):
        socket.gethostbyname("first.mesh")
