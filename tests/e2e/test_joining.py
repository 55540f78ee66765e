"""How hosts join, and what people are told when they may not: `gossamer run` against a control plane of its own."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import write_server_certificate
from tests.e2e.hosts import Plane
from tests.e2e.meshes import Part, Place, place, until
from tests.jws import IssuerServer, pod_claims, serve_issuer

ATTESTORS = """\
version: 1
attestors:
- name: prod
  issuer: ISSUER
  audiences: [gossamer]
  keys: {caFile: issuer.pem}
  kubernetes: {allow: [{namespace: shop, serviceAccount: "*"}]}
"""
READ = """
import pathlib, sys
try:
    print("token:", pathlib.Path(sys.argv[1]).read_text())
except OSError as error:
    print("nothing:", type(error).__name__)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A control plane that believes an issuer, and no workload; `root` is its root's fingerprint."""

    place: Place
    plane: Plane
    issuer: IssuerServer
    root: str

    def run(self, name: str, *options: str, code: str = "", account: str = "cart", token: str = "") -> Part:
        """`gossamer run` of a workload `shop/NAME`, which ends by itself."""
        return self.place.start(
            "run",
            f"--control-plane=127.0.0.1:{self.plane.xds}",
            f"--join=127.0.0.1:{self.plane.join}",
            f"--state={self.place.folder(f'run-{name}')}",
            f"--name={name}",
            "--namespace=shop",
            f"--service-account={account}",
            *options,
            *("--", "python3", "-c", code or "print('it ran')", str(self.file(name))),
            output=f"run-{name}",
            env={"GOSSAMER_TOKEN": token} if token else {},
        )

    def attested(self, name: str, *, code: str = "", account: str = "cart") -> Part:
        """The same, attested by the token in its file."""
        words = (f"--attest=kubernetes:{self.file(name)}", f"--root={self.root}")
        return self.run(name, *words, code=code, account=account)

    def file(self, name: str) -> Path:
        """Where a workload's pod has its token."""
        return self.place.folder(f"token-{name}") / "token"

    def give(self, name: str, *, account: str = "cart", **claims: Any) -> str:
        """Put a pod's token there."""
        said = {"aud": "gossamer", **pod_claims("shop", account, pod=name, uid=name), **claims}
        token = self.issuer.issuer.token(**said)
        self.file(name).write_text(token)
        return token

    @property
    def log(self) -> str:
        assert self.plane.part is not None
        return self.plane.part.said


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with place() as found:
        (found.folder("mesh") / "config").mkdir()
        pem = write_server_certificate(found.mesh).rename(found.mesh / "issuer.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        with serve_issuer(context) as issuer:
            (found.mesh / "attestors.yaml").write_text(ATTESTORS.replace("ISSUER", issuer.url))
            plane = Plane(place=found, options=(f"--attestors={found.mesh / 'attestors.yaml'}",))
            plane.start()
            until(lambda: found.status("control-plane").get("ready"), "ready")
            root = re.findall(r"SHA-256 ([0-9a-f]{64})", plane.ca("root").said)[0]
            yield Mesh(place=found, plane=plane, issuer=issuer, root=root)


def test_a_pod_runs_what_its_service_account_is(mesh: Mesh) -> None:
    token = mesh.give("web-0")
    ran = mesh.attested("web-0", code=READ)
    assert ran.wait() == 0, ran.said
    assert token not in ran.said
    if "capture is" not in ran.said:  # confined
        assert "nothing: FileNotFoundError" in ran.said, "the token is not the application's"
    hosts = mesh.plane.ca("hosts").said
    assert "prod-web-0-" in hosts
    assert "system:serviceaccount:shop:cart pod web-0" in hosts
    assert '"by": "attestor prod' in mesh.log
    assert token not in mesh.log


def test_who_may_not_join_is_told_why(mesh: Mesh) -> None:
    mesh.give("late", exp=int(time.time() - 60))
    mesh.give("asks")
    token = mesh.plane.token("vm-1", "shop/*", lifetime="1ms")
    late, asks = mesh.attested("late"), mesh.attested("asks", account="admin")
    old = mesh.run("old", token=token)
    for part, said in (
        (late, "error: the token of ISSUER has expired; let its issuer give a new one"),
        (asks, "may not run shop/admin: attestor prod (system:serviceaccount:shop:cart pod asks) grants it shop/cart"),
        (old, "error: the join token for host vm-1 expired on"),
    ):
        assert part.wait() == 1
        assert said.replace("ISSUER", mesh.issuer.url) in part.said
        assert "it ran" not in part.said
    assert mesh.log.count('"refusal": "token-expired"') == 2
    assert not [shown for shown in (token, mesh.file("late").read_text()) if shown in mesh.log + old.said + late.said]
