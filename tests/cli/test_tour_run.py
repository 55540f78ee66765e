"""The tour goes on whatever a step does; doors are tried as they are."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console

from gossamer.cli.demo import choose_port
from gossamer.cli.tour.report import Check, Finished, Step, StepReport
from gossamer.cli.tour.run import run_tour
from gossamer.cli.tour.running import MeshStatus, RunningMesh
from gossamer.cli.tour.scene import Scene, UnmetError
from gossamer.cli.tour.steps.deny import find_denial
from gossamer.cli.tour.steps.mtls import REFUSED, try_anonymous_tls, try_plaintext
from gossamer.core.errors import UnavailableError, UsageError
from gossamer.demo.mesh import FOLDER, write_mesh


class FolderMesh:
    """A mesh that is nothing but its files."""

    ingress = "http://127.0.0.1:1"
    capture = "none"

    def __init__(self, folder: Path) -> None:
        self.folder = self.state = self.logs = folder

    def pid(self, what: str) -> int:
        raise UnavailableError(f"{what} does not run")

    def log(self, what: str) -> Path:
        return self.logs / f"{what}.log"

    def held(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()

    async def status(self) -> MeshStatus:
        return MeshStatus()

    async def wait_ready(self, timeout_s: float) -> None:
        return None

    def mesh_address(self, workload: str) -> tuple[str, int]:
        return "127.0.0.1", 1


def make(*steps: Step, folder: Path, budget_s: float = 5.0) -> tuple[tuple[Finished, ...], str]:
    write_mesh(folder)
    mesh: RunningMesh = FolderMesh(folder)
    out = io.StringIO()
    console = Console(file=out, width=80)
    return asyncio.run(run_tour(mesh, steps, console, budget_s=budget_s)), out.getvalue()


async def good(scene: Scene) -> StepReport:
    scene.teller.say("doing")
    scene.teller.count(1, 2)
    return StepReport(about="x", figure="42", checks=(Check(claim="a", seen="b", passed=True),))


async def breaks(scene: Scene) -> StepReport:
    scene.edit("reviews/v1")
    scene.edit("deny/api")
    raise LookupError("there is no spoon")


async def waits(scene: Scene) -> StepReport:
    raise UnmetError("a spoon", "none", (Path("/spoon.log"),))


async def unreachable(scene: Scene) -> StepReport:
    scene.mesh.pid("agent")
    raise AssertionError


async def hangs(scene: Scene) -> StepReport:
    await asyncio.sleep(60)
    raise AssertionError


def test_a_step_that_breaks_is_reported_undone_and_followed_by_the_next(tmp_path: Path) -> None:
    steps = [Step(title=run.__name__, run=run) for run in (breaks, waits, unreachable, good)]
    finished, text = make(*steps, folder=tmp_path)
    assert [one.report.passed for one in finished] == [False, False, False, True]
    seen = [one.report.checks[0].seen for one in finished]
    assert seen == ["LookupError: there is no spoon", "none", "agent does not run", "b"]
    assert finished[1].report.logs == (Path("/spoon.log"),)
    assert finished[0].report.logs[0].name == "control-plane.log"
    before = {file.name: file.read_text() for file in (FOLDER / "config").iterdir()}
    assert {file.name: file.read_text() for file in (tmp_path / "config").iterdir()} == before
    assert all(f"{number} · {step.title}" in text for number, step in enumerate(steps, 1))


def test_a_tour_ends_when_its_time_is_over(tmp_path: Path) -> None:
    finished, _ = make(Step(title="long", run=hangs), Step(title="late", run=good), folder=tmp_path, budget_s=0.3)
    assert [one.report.checks[0].claim for one in finished] == [
        "an end within 0 s",
        "the tour to come this far in time",
    ]
    assert sum(one.elapsed_s for one in finished) < 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@asynccontextmanager
async def door(answer: bytes | None, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, int]]:
    """A server that reads a little and answers with these bytes, then closes; None: closes at once."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is not None:
            await reader.read(10)
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[:2]


def test_a_door_is_shut_only_when_nothing_comes_back() -> None:
    async def scenario() -> None:
        async with door(b"HTTP/1.1 200 OK\r\n\r\n") as address:
            assert await try_plaintext(*address) == "answered 'HTTP/1.1 200 OK'"
        async with door(b"") as address:
            assert await try_plaintext(*address) == REFUSED
        async with door(None) as address:
            assert await try_plaintext(*address) == REFUSED
        assert (await try_plaintext(*address)).startswith(f"nobody listens at 127.0.0.1:{address[1]}")

    asyncio.run(scenario())


def test_tls_without_a_certificate_is_refused_by_who_asks_for_one(certificate: Path) -> None:
    async def scenario(context: ssl.SSLContext) -> str:
        async with door(b"HTTP/1.1 200 OK\r\n\r\n", context) as address:
            return await try_anonymous_tls(*address)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    assert asyncio.run(scenario(context)) == "answered 'HTTP/1.1 200 OK'"
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    assert asyncio.run(scenario(context)) == REFUSED


DENIED = "403 - rbac_access_denied_matched_policy[ns[default]-policy[close-the-api]-rule[0]] -\n"


def test_a_denial_is_found_once_it_is_written_and_not_before(tmp_path: Path) -> None:
    log = tmp_path / "envoy.log"

    async def scenario() -> str:
        log.write_text(DENIED)
        waiting = asyncio.create_task(find_denial(log, log.stat().st_size, 3.0))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        with log.open("a") as file:
            file.write("200 - via_upstream -\n" + DENIED.replace("api", "other"))
        return await waiting

    assert "close-the-other" in asyncio.run(scenario())
    log.write_text("")  # cut, as a log is that has grown too long
    with pytest.raises(UnmetError) as caught:
        asyncio.run(find_denial(log, 1000, 0.2))
    assert caught.value.logs == (log,)


def test_a_port_that_is_taken_is_replaced_unless_it_was_asked_for() -> None:
    import socket

    usual = choose_port(None, 8080)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", usual))
        taken.listen()
        assert choose_port(None, 8080) != usual
        with pytest.raises(UsageError, match=f"port {usual}"):
            choose_port(usual, 8080)
        assert choose_port(0, 8080) not in (0, usual)
