"""Policies learnt from the tour's calls let them pass again under deny by default, and nothing else; what a dry run
would have denied is told; a namespace goes back to PERMISSIVE and forward to STRICT. One mesh answers it all."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gossamer.cli.main import run
from gossamer.cli.tour.scene import PAGE, PRODUCTS, RATINGS, REVIEWS
from gossamer.rpc.local import call
from tests.e2e.meshes import Place, free_port, get, place, until

CALLS = (PAGE, PRODUCTS, REVIEWS, RATINGS)
ROUNDS = 12
ANOTHER = "/api/v1/products/0"
TRIED = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, annotations: {istio.io/dry-run: "true"}}
spec:
  selector: {matchLabels: {app: productpage}}
  action: DENY
  rules: [{to: [{operation: {paths: [/api/v1/products]}}]}]
"""
INGRESS = "istio-system/istio-ingressgateway-service-account"


@pytest.fixture(scope="module")
def mesh() -> Iterator[tuple[Place, int]]:
    with place() as found:
        port = free_port()
        found.write(port)
        (found.mesh / "config" / "tried.yaml").write_text(TRIED)
        found.up()
        until(lambda: found.ready() and found.synced(7), "the mesh is ready")
        yield found, port


def tour(port: int) -> list[list[int]]:
    """The statuses of the tour's calls, often enough for every version of reviews to be asked."""
    return [[get(port, path).status for path in CALLS] for _ in range(ROUNDS)]


def seen(found: Place) -> dict[str, Any]:
    answer = call(found.socket("control-plane"), "GET", "/v1/seen").json()
    return {f"{one['namespace']}/{one['name']}": one for one in answer["workloads"]}


class Asking:
    """The command line in this process: a new interpreter for each question would take most of the time."""

    def __init__(self, found: Place, capsys: pytest.CaptureFixture[str]) -> None:
        self._found, self._capsys = found, capsys

    def authz(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        code = run(["authz", *words, f"--state={self._found.state}"])
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def asking(mesh: tuple[Place, int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asking:
    monkeypatch.setenv("XDG_RUNTIME_DIR", mesh[0].env["XDG_RUNTIME_DIR"])
    return Asking(mesh[0], capsys)


def counted(found: Place, path: str) -> int:
    return sum(row["count"] for one in seen(found).values() for row in one["rows"] if row["path"] == path)


def test_what_the_tour_needs_is_learnt_and_nothing_else(mesh: tuple[Place, int], asking: Asking) -> None:
    found, port = mesh
    before = tour(port)
    assert before == [[200, 200, 200, 403]] * ROUNDS
    assert get(port, ANOTHER).status == 200
    until(lambda: counted(found, "/ratings/0") > ROUNDS and counted(found, REVIEWS) == 2 * ROUNDS, "all is seen")
    assert not [name for name, one in seen(found).items() if one["missed"] or one["unrecorded"]]

    code, out, _ = asking.authz("shadow", "-o", "json")
    assert code == 0
    (would,) = json.loads(out)["calls"]
    assert (would["would"], would["policy"], would["caller"]) == ("denied", "default/tried rule 0", INGRESS)
    assert (would["what"], would["count"]) == (f"GET {PRODUCTS}", ROUNDS)

    tables = asking.authz("seen")[1] + asking.authz("shadow")[1]
    assert "ns[default]-policy[reviews-to-ratings]-rule[0]" in tables
    assert re.search(rf"denied +default/tried rule 0 +{INGRESS} +default/productpage-v1", tables)
    assert json.loads(asking.authz("seen", "-n", "istio-system", "-o", "json")[1])[0]["missed"] == 0

    code, out, err = asking.authz("learn")
    assert (code, out) == (1, "")
    assert "1 d are wanted (--min-time)" in err
    learnt = found.mesh / "learnt.yaml"
    enough = ("--min-requests=1", "--min-time=0s", "--deny-by-default", f"--out={learnt}")
    code, _, err = asking.authz("learn", *enough)
    assert code == 0, err
    text = learnt.read_text()
    assert f"by {INGRESS} ({4 * ROUNDS + 1})" in text, "the evidence"

    # the one call of ANOTHER was seen too: that is not to be allowed here
    learnt.write_text(text.replace(f'              - "{ANOTHER}"\n', ""))
    learnt.rename(found.mesh / "config" / "access.yaml")
    until(lambda: get(port, ANOTHER).status == 403, "deny by default")
    assert get(port, "/logout").status == 403
    assert tour(port) == before


def test_a_namespace_goes_back_to_plaintext_and_forward_again(mesh: tuple[Place, int], asking: Asking) -> None:
    found, _ = mesh
    file = found.mesh / "config" / "peers.yaml"
    row = found.row("default/details-v1")
    address = (row["mesh_address"], int(row["mesh_ports"]["9080"]))

    def plaintext() -> bytes:
        with socket.create_connection(address, 5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            try:
                return connection.recv(12)
            except OSError:
                return b""

    assert re.search(r"default +STRICT +6 +0 +\d+ +done", asking.authz("migrate")[1])
    assert "default is STRICT." in asking.authz("migrate", "default")[1]
    _, out, _ = asking.authz("migrate", "-o", "json")
    assert [(one["namespace"], one["done"]) for one in json.loads(out)] == [("default", True)]
    code, _, err = asking.authz("migrate", "default", "--back", f"--write={file}")
    assert code == 0, err
    until(lambda: plaintext() == b"HTTP/1.1 403", "plaintext, which policy denies")
    code, _, err = asking.authz("migrate", "default")
    assert code == 1
    assert "1 d are wanted" in err
    code, _, err = asking.authz("migrate", "default", "--min-time=0s", f"--write={file}", "--wait=2s")
    assert code == 0, err
    until(lambda: plaintext() == b"", "no plaintext")

    def refused() -> list[dict[str, Any]]:
        return list(json.loads(asking.authz("migrate", "default", "-o", "json")[1])["refused"])

    until(lambda: any(one["destination"] == "default/details-v1" for one in refused()), "who was refused")
