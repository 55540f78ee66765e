"""Identities under load: renewed every ten seconds, the root replaced, a workload revoked. No request fails by it.

`RENEWALS_S` makes it longer: at least so many seconds of load before the root is replaced.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from typing import Any

import pytest

from gossamer.cli.tour.load import Reply, Requests
from tests.e2e.hosts import load
from tests.e2e.meshes import PRODUCTPAGE, SMALL, Place, free_port, get, place, until

RENEWALS_S = float(os.environ.get("RENEWALS_S", "1"))
RATE = 50.0


def _status(mesh: Place) -> dict[str, Any]:
    return dict(json.loads(mesh.run("ca", "status", "-o", "json", f"--state={mesh.state}").said))


def _roots(mesh: Place) -> list[str]:
    return [root["fingerprint"] for root in _status(mesh)["roots"]]


def _answered(reply: Reply) -> str:
    """Whether details answered, too: a page without it is a page all the same."""
    return "whole" if PRODUCTPAGE.encode() in reply.body else "without details"


class Thief:
    """Somebody with a workload's key and certificate, and a connection to another."""

    def __init__(self, mesh: Place) -> None:
        out = mesh.root / "stolen"
        _do(
            mesh,
            "issue",
            "--namespace=default",
            "--service-account=bookinfo-productpage",
            "--workload=thief",
            f"--out={out}",
        )
        (row,) = [one for one in mesh.status("control-plane")["workloads"] if one["name"] == "details-v1"]
        self._where = (row["address"], int(row["ports"]["9080"]))
        self._context = ssl.create_default_context(cafile=str(out / "root.pem"))
        self._context.check_hostname = False
        self._context.load_cert_chain(out / "cert.pem", out / "key.pem")
        self._context.set_alpn_protocols(["istio-http/1.1"])
        self.connection = self.connect()

    def connect(self) -> ssl.SSLSocket:
        return self._context.wrap_socket(socket.create_connection(self._where, 5), server_hostname="details")

    def is_served(self, connection: ssl.SSLSocket) -> bool:
        try:
            connection.sendall(b"GET /details/0 HTTP/1.1\r\nhost: details:9080\r\n\r\n")
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def is_cut_off(self) -> bool:
        """Whether the connection, on which nothing is asked, was ended."""
        self.connection.settimeout(0.1)
        try:
            return self.connection.recv(65536) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


def _do(mesh: Place, *words: str) -> None:
    part = mesh.run("ca", *words, f"--state={mesh.state}")
    assert part.wait() == 0, part.said


@pytest.mark.timeout(180)
def test_renewal_rotation_and_revocation_under_load() -> None:
    with place() as mesh:
        port = free_port()
        mesh.write(port, SMALL)
        mesh.up("--listen=127.0.0.1:0", "--join-listen=127.0.0.1:0", "--lifetime=20s")
        until(mesh.ready, "the mesh is ready")
        until(lambda: PRODUCTPAGE in get(port, "/productpage").body, "details answers")
        before, began = _roots(mesh), time.monotonic()
        asked = Requests(base=f"http://127.0.0.1:{port}", path="/productpage", rate=RATE, label=_answered)
        with load(asked) as requests:
            until(lambda: time.monotonic() - began > RENEWALS_S, "certificates are renewed", RENEWALS_S + 1)
            _do(mesh, "rotate", "start")
            rotating = until(lambda: _status(mesh)["rotation"]["phase"] == "steady", "the root is replaced")
        after, issued = _status(mesh), _status(mesh)["certificates"]
        print(f"{len(requests)} requests in {time.monotonic() - began:.0f} s, {len(requests.failed)} failed, ")
        print(f"half within {requests.quantile_s(0.5) * 1000:.1f} ms, all within {requests.quantile_s(1) * 1000:.0f}")
        print(f"rotation {rotating:.1f} s, certificates not ended {issued['valid']} of {issued['holders']} holders")
        assert not requests.failed, requests.problems()
        assert set(requests.labels()) == {"whole"}
        assert len(before) == len(_roots(mesh)) == 1
        assert before != _roots(mesh)
        assert after["rotation"]["refused"] == []
        thief = Thief(mesh)
        assert thief.is_served(thief.connection)
        assert not thief.is_cut_off()
        _do(mesh, "revoke", "default/thief")
        until(thief.is_cut_off, "what it holds open ends")
        thief.connection.close()
        with thief.connect() as again:
            assert not thief.is_served(again), "and it does not come in again"
        _do(mesh, "revoke", "default/details-v1")
        until(lambda: PRODUCTPAGE not in get(port, "/productpage").body, "details is refused")
        assert get(port, "/productpage").status == 200, "others are served"
        until(lambda: "is revoked" in mesh.row("default/details-v1")["problem"], "its host is told")
        _do(mesh, "revoke", "default/details-v1", "--undo")
        until(lambda: PRODUCTPAGE in get(port, "/productpage").body, "details is back")
