"""Processes that run on a host already, captured by their user: in a network namespace that plays the host."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

import gossamer
from gossamer.core.errors import CaptureError
from gossamer.model.proxy import CaptureMode
from gossamer.node.capture.ports import Ports
from gossamer.node.capture.workloads import Capturer, CaptureRequest
from gossamer.node.sandbox import Isolation
from gossamer.node.users import login_environment, uids_of
from tests.conftest import need
from tests.node.capture_parts import sandboxed

# Plays a host: a network of its own with one link, on it an Envoy, root's own programs and nobody's.
HOST = """
import asyncio, json, os, signal, sys, time
from pathlib import Path
from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import CaptureMode
from gossamer.node import sandbox_linux as linux
linux.unshare(linux.CLONE_NEWNET)
from pyroute2 import IPRoute
from gossamer.node.capture.ports import Ports
from gossamer.node.capture.workloads import Capturer, CaptureRequest
from gossamer.node.sandbox import *
from tests.node.capture_parts import *

folder, binary = Path(sys.argv[1]), Path(sys.argv[2])
with IPRoute() as ip:
    ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
    ip.link("add", ifname="wire", kind="veth", peer={"ifname": "far"})
    for name in ("wire", "far"):
        ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
    wire = ip.link_lookup(ifname="wire")[0]
    ip.addr("add", index=wire, address="10.214.0.1", prefixlen=32)
    ip.route("add", dst="0.0.0.0/0", oif=wire, scope="link")

def tables():
    from pyroute2.nftables.main import NFTables
    nft = NFTables(nfgen_family=1)
    found = sorted(table.get_attr("NFTA_TABLE_NAME") for table in nft.get_tables())
    nft.close()
    return found

CALL = '''
exec 3<>/dev/tcp/%s/%s || exit 1
printf 'GET / HTTP/1.1\\\\r\\\\nHost: x\\\\r\\\\n\\\\r\\\\n' >&3
tail -n 1 <&3
'''

async def call(sandbox, user, address, port):
    log = folder / "said"
    log.unlink(missing_ok=True)
    argv = ("timeout", "0.7", "bash", "-c", CALL % (address, port))
    child = await sandbox.spawn("call", Command(argv=argv, env=ENVIRONMENT, log=log, user=user))
    await child.wait()
    lines = log.read_text().strip().splitlines() or ["bash: timeout"]
    return "nothing" if lines[-1].startswith("bash:") else lines[-1]

async def datagram(sandbox, user):
    argv = ("bash", "-c", "echo x >/dev/udp/10.9.9.9/9")
    child = await sandbox.spawn("datagram", Command(argv=argv, env=ENVIRONMENT, log=folder / "udp", user=user))
    return await child.wait()

async def main():
    said = {}
    async with sandboxed(folder / "run", Isolation.ROOT) as sandbox, answering("from envoy") as port:
        bootstrap = {"static_resources": {
            "listeners": [capture_listener("outbound", 15001, "", "up", folder / "access.log")],
            "clusters": [cluster("up", port)],
        }}
        capturer = Capturer(sandbox, CaptureMode.TRANSPARENT, Ports(None))
        async with running(sandbox, envoy_settings(folder / "envoy", binary, bootstrap)):
            said["before"] = await call(sandbox, "nobody", "10.9.9.9", 80)
            request = CaptureRequest(namespace="vm", name="db", ports=(5432,), uids=(65534,), mesh_address="10.214.0.1")
            captured = await capturer.add(request)
            said["capture"] = [captured.network, captured.capture.network_namespace, list(captured.capture.mesh_ports)]
            said["tables"] = len(await asyncio.to_thread(tables))
            said["nobody"] = await call(sandbox, "nobody", "10.9.9.9", 80)
            said["root"] = await call(sandbox, "", "10.9.9.9", 80)
            said["own"] = await call(sandbox, "nobody", "127.0.0.1", port)
            said["udp"] = [await datagram(sandbox, "nobody"), await datagram(sandbox, "")]
            try:
                await capturer.add(CaptureRequest(namespace="vm", name="root", uids=(0,)))
            except CaptureError as error:
                said["refused"] = str(error)
            await capturer.remove("vm.db")
            said["removed"] = await asyncio.to_thread(tables)
        await capturer.add(request)
        os.kill(sandbox.pid, signal.SIGKILL)
        await sandbox.gone.wait()
        deadline = time.monotonic() + 5
        while await asyncio.to_thread(tables) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        said["killed"] = await asyncio.to_thread(tables)
    print(json.dumps(said))

asyncio.run(main())
"""


@pytest.mark.envoy
def test_a_user_of_the_host_is_captured(tmp_path: Path, envoy: Path) -> None:
    need(os.geteuid() == 0, "this needs root")
    need(Path("/bin/bash").exists(), "there is no bash")
    root = Path(gossamer.__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", HOST, str(tmp_path), str(envoy)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["before"] == "nothing", "there is nobody at that address"
    assert said["nobody"] == "from envoy"
    assert said["root"] == "nothing", "another user is left alone"
    assert said["own"] == "from envoy", "the host's own services are reached as before"
    assert said["udp"] == [1, 0], "and datagrams of the captured user alone are dropped"
    assert (tmp_path / "access.log").read_text() == "outbound 10.9.9.9:80\n"
    assert said["capture"] == ["", "", [5432]]
    assert "root cannot be captured" in said["refused"]
    assert (said["tables"], said["removed"], said["killed"]) == (1, [], [])


def test_without_root_they_are_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        request = CaptureRequest(namespace="vm", name="db", ports=(5432,), uids=(65534,))
        async with sandboxed(tmp_path / "run", Isolation.NONE) as sandbox:
            for mode in CaptureMode:
                with pytest.raises(
                    CaptureError, match="by root alone: run the agent as root, with transparent capture"
                ):
                    await Capturer(sandbox, mode, Ports(None)).add(request)

    asyncio.run(scenario())


def test_users_by_name_and_number() -> None:
    assert uids_of(("nobody", "4711")) == (pwd.getpwnam("nobody").pw_uid, 4711)
    assert login_environment("0")["USER"] == "root"
    for user in ("no-such-user", "99999999999999999999"):
        with pytest.raises(CaptureError, match=f"no user {user}"):
            login_environment(user)
