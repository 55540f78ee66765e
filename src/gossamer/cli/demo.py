"""`gossamer demo`: the bundled example on this machine, to look at and to try; `--check` makes the scripted tour.

Invariant: with `--check` it ends by itself, in less than two minutes, and with exit code 0 only if all was well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from gossamer.cli.lifecycle import run_until_stopped
from gossamer.cli.local_mesh import LocalMesh, MeshOptions
from gossamer.cli.logs import log_events
from gossamer.cli.mesh_file import OpenedMesh, open_mesh
from gossamer.cli.tour.load import open_client
from gossamer.cli.tour.local import DemoMesh
from gossamer.cli.tour.render import hints, open_console, summary, welcome
from gossamer.cli.tour.report import Finished
from gossamer.cli.tour.run import run_tour, telling
from gossamer.cli.tour.scene import PAGE
from gossamer.cli.tour.steps import STEPS
from gossamer.cli.up_mesh import local_mesh
from gossamer.cli.up_view import show
from gossamer.core.errors import GossamerError, UnavailableError, UsageError
from gossamer.demo.mesh import write_mesh
from gossamer.sources.state import private_folder, runtime_folder

PORTS: Final = {8080: range(8080, 8100), 8443: range(8443, 8463)}
"""The ports of the bundled file, and those that are tried in their place when they are taken."""
READY_S: Final = 40.0
BUDGET_S: Final = 100.0
"""From the command to the end of the last step; what remains of two minutes is for stopping."""
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A copy of the bundled mesh that can be started, and where its page will be."""

    mesh: LocalMesh
    opened: OpenedMesh
    ingress: str


def command(
    check: Annotated[
        bool, typer.Option("--check", help="Make the scripted tour and exit; 0 if all went well.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="Keep files, logs and keys here; by default in a folder that goes when it ends.")
    ] = None,
    capture: Annotated[str, typer.Option(help="How traffic reaches sidecars: auto, transparent, explicit.")] = "auto",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The page's port; by default 8080 or the next that is free.")
    ] = None,
) -> None:
    """Run the bundled example, Bookinfo; with --check, its scripted tour.

    [dim]gossamer demo[/dim] and a browser, or [dim]gossamer demo --check[/dim]
    """
    log_events(logging.CRITICAL if check or sys.stderr.isatty() else logging.INFO)
    folder = private_folder(state.absolute()) if state else Path(tempfile.mkdtemp(prefix="gossamer-demo-"))
    code = 1
    try:
        demo = prepare(folder, capture, port)
        code = run_until_stopped(lambda stop: check_mesh(demo, stop) if check else stay(demo, stop))
    finally:
        if state is None and (code in (0, INTERRUPTED) or not (folder / "state" / "logs").exists()):
            remove(folder)
        else:
            typer.echo(f"kept: {folder}", err=True)
    raise typer.Exit(code)


def remove(folder: Path) -> None:
    """Delete a mesh that has ended, and the folder of its sockets."""
    shutil.rmtree(runtime_folder(folder / "state"), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def prepare(folder: Path, capture: str, port: int | None) -> Demo:
    """Copy the bundled mesh into `folder`, with ports that are free. UsageError when the wanted port is taken."""
    file = write_mesh(folder / "mesh")
    text = file.read_text(encoding="utf-8")
    page = choose_port(port, 8080)
    for written, chosen in ((8080, page), (8443, choose_port(None, 8443))):
        text = text.replace(f"targetPort: {written}", f"targetPort: {chosen}")
    file.write_text(text, encoding="utf-8")
    opened, diagnostics = open_mesh(file)
    if opened is None:
        raise GossamerError(f"{file} cannot be run: {diagnostics[0].message}")
    options = MeshOptions(
        file=file, state=folder / "state", capture=capture, listen="127.0.0.1:0", join_listen="127.0.0.1:0"
    )
    return Demo(mesh=local_mesh(opened, options), opened=opened, ingress=f"http://127.0.0.1:{page}")


def choose_port(wanted: int | None, usual: int) -> int:
    """The wanted port (0: any), else the usual one or one of the next, else any that is free on loopback."""
    for candidate in (wanted,) if wanted is not None else (*PORTS[usual], 0):
        with contextlib.suppress(OSError), socket.socket() as attempt:
            attempt.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as Envoy does: past the last run's TIME_WAIT
            attempt.bind(("127.0.0.1", candidate))
            return int(attempt.getsockname()[1])
    raise UsageError(f"port {wanted} of 127.0.0.1 cannot be had; leave --port out and a free one is chosen")


async def stay(demo: Demo, stop: asyncio.Event) -> int:
    """Run the mesh until it is stopped, saying what to try."""
    open_console().print(hints(demo.ingress, demo.mesh.options.file.parent), soft_wrap=True)
    async with demo.mesh.running(), show(demo.mesh, demo.opened):
        await stop.wait()
    return 0


async def check_mesh(demo: Demo, stop: asyncio.Event) -> int:
    """Start the mesh, make the tour, stop it; returns the exit code. A stop in between ends it early."""
    console = open_console()
    began = time.monotonic()
    tour = asyncio.create_task(_start_and_tour(demo, console, began))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((tour, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not tour.done():
        tour.cancel()
        await asyncio.wait((tour,))
        console.print("interrupted")
        return INTERRUPTED
    finished = tour.result()
    console.print(summary(finished, console, elapsed_s=time.monotonic() - began))
    passed = len(finished) == len(STEPS) and all(one.report.passed for one in finished)
    if not passed:
        console.print(f"Logs: {demo.mesh.state / 'logs'}", soft_wrap=True)
    return 0 if passed else 1


async def _start_and_tour(demo: Demo, console: Console, began: float) -> tuple[Finished, ...]:
    async with contextlib.AsyncExitStack() as stack:
        with telling(console, "starting control plane, agent, gateway and six workloads"):
            await stack.enter_async_context(demo.mesh.running())
            running = DemoMesh(demo.mesh, demo.ingress)
            page_s = await _first_page(demo.ingress, began)
            await running.wait_ready(READY_S)
        console.print(welcome(running, console, page_s=page_s, ready_s=time.monotonic() - began))
        finished = await run_tour(running, STEPS, console, budget_s=BUDGET_S - (time.monotonic() - began))
        stack.enter_context(telling(console, "stopping"))
        return finished


async def _first_page(ingress: str, began: float) -> float:
    """Seconds from `began` to the first page that came through ingress and sidecars. UnavailableError if none comes."""
    async with open_client(ingress, timeout_s=2.0) as client:
        while True:
            reply = await client.get(PAGE)
            waited = time.monotonic() - began
            if reply.status == 200:
                return waited
            if waited > READY_S:
                raise UnavailableError(
                    f"no page at {ingress}{PAGE} after {READY_S:.0f} s: {reply.status or reply.problem}"
                )
            await asyncio.sleep(0.02)
