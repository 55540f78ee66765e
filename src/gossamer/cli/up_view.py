"""What `up` shows while it runs: on a terminal one table that stays current, else a line for each change."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gossamer.cli.local_mesh import LocalMesh
from gossamer.cli.mesh_file import OpenedMesh
from gossamer.cli.render import print_diagnostics, texts_of
from gossamer.core.diagnostics import Diagnostic
from gossamer.core.errors import GossamerError, UnavailableError

_PERIOD_S = 0.25
_SHOWN = 3
"""Mistakes that are spelt out on a terminal at a time."""
_COLOURS = {"ready": "green", "healthy": "green", "SYNCED": "green", "starting": "yellow", "STALE": "yellow"}


@asynccontextmanager
async def show(mesh: LocalMesh, opened: OpenedMesh) -> AsyncIterator[None]:
    """Show the mesh while the context lasts."""
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    follow = _follow_live(console, mesh, opened, began) if console.is_terminal else _follow_lines(console, mesh, began)
    task = asyncio.create_task(follow)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):  # a terminal that is gone takes no more
            await task
        with contextlib.suppress(OSError):
            console.print("stopping: workloads first, then gateways, then the control plane")


async def _follow_live(console: Console, mesh: LocalMesh, opened: OpenedMesh, began: float) -> None:
    with Live(console=console, auto_refresh=False, transient=False) as live:
        ready_after: float | None = None
        while True:
            agent, plane = await _ask(mesh)
            if agent.get("ready") and ready_after is None:
                ready_after = time.monotonic() - began
            live.update(_screen(mesh, opened, agent, plane, ready_after), refresh=True)
            await asyncio.sleep(_PERIOD_S)


async def _follow_lines(console: Console, mesh: LocalMesh, began: float) -> None:
    known: dict[str, str] = {}
    told = False
    shown: list[Diagnostic] = []
    while True:
        agent, plane = await _ask(mesh)
        for row in _rows(agent, plane):
            name, words = str(row[0]), " ".join(str(cell) for cell in row[1:] if cell)
            if known.get(name) != words:
                known[name] = words
                console.print(f"{name}: {words}", soft_wrap=True)
        for text in _refusals(plane):
            if text not in known:
                known[text] = ""
                console.print(text, soft_wrap=True)
        problems = _errors(plane) if plane else shown
        if problems != shown:
            console.out(_spelt([one for one in problems if one not in shown], terminal=False), end="", highlight=False)
            shown = problems
        if agent.get("ready") and not told:
            told = True
            console.print(f"ready after {time.monotonic() - began:.1f} s; capture: {agent['capture']}", soft_wrap=True)
        await asyncio.sleep(_PERIOD_S)


def _errors(plane: dict[str, Any]) -> list[Diagnostic]:
    found = [Diagnostic.of_json(one) for one in plane.get("diagnostics", ())]
    return [diagnostic for diagnostic in found if diagnostic.is_error]


def _spelt(diagnostics: list[Diagnostic], *, terminal: bool) -> str:
    """Diagnostics as `gossamer validate` shows them, each with its line and a caret."""
    buffer = _Terminal() if terminal else io.StringIO()
    print_diagnostics(diagnostics, texts_of(diagnostics), file=buffer)
    return buffer.getvalue()


class _Terminal(io.StringIO):
    """Takes what is meant for a terminal, colours and all."""

    def isatty(self) -> bool:
        return True


async def _ask(mesh: LocalMesh) -> tuple[dict[str, Any], dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for question in (mesh.agent, mesh.plane):
        try:
            found.append(await question())
        except (UnavailableError, GossamerError):
            found.append({})
    return found[0], found[1]


def _rows(agent: dict[str, Any], plane: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Name, Envoy, application, configuration, problem of each workload."""
    states = {row["name"]: row["state"] for row in plane.get("proxies", ())}
    return [
        (
            (name := f"{row['namespace']}/{row['name']}"),
            row["envoy"],
            row["application"] or "-",
            states.get(name, "-"),
            row["notice"] if row["envoy"] == "ready" and row["application"] in ("", "healthy") else row["problem"],
        )
        for row in agent.get("workloads", ())
    ]


def _refusals(plane: dict[str, Any]) -> list[str]:
    """What an Envoy did not accept, and whose fault that is: a port that somebody else has, say."""
    return [
        f"{row['name']} refused what {', '.join(refused['origins']) or refused['name']} asks for: "
        + " ".join(refused["message"].split())
        for row in plane.get("proxies", ())
        for kind in row["types"]
        for refused in kind["rejections"]
    ]


def _screen(
    mesh: LocalMesh, opened: OpenedMesh, agent: dict[str, Any], plane: dict[str, Any], ready_after: float | None
) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("workload", "envoy", "application", "configuration"):
        table.add_column(column)
    for name, envoy, application, state, problem in _rows(agent, plane):
        table.add_row(
            Text(name),
            *(
                Text(cell, style=_COLOURS.get(cell, "red" if cell != "-" else "dim"))
                for cell in (envoy, application, state)
            ),
        )
        if problem:
            # what has not answered yet is no fault of anybody's
            table.add_row(Text(f"  {problem}", style="dim" if "starting" in (envoy, application) else "red"))
    parts: list[RenderableType] = [_headline(mesh, opened, agent, plane, ready_after), table]
    parts.append(Text.from_ansi(_spelt(_errors(plane)[:_SHOWN], terminal=True)))
    return Group(*parts)


def _headline(
    mesh: LocalMesh, opened: OpenedMesh, agent: dict[str, Any], plane: dict[str, Any], ready_after: float | None
) -> Text:
    text = Text()
    state = "starting" if ready_after is None else f"ready after {ready_after:.1f} s"
    text.append(f"{opened.path}", style="bold").append(f"  {state}\n")
    if not plane:
        text.append("the control plane is away; traffic goes on\n", style="yellow")
    for gateway in opened.file.gateways:
        for port in gateway.ports:
            scheme = "https" if port.port == 443 or port.name.startswith("https") else "http"
            bound = f"{gateway.address or 'localhost'}:{port.target_port or port.port}"
            text.append(f"{gateway.name} {scheme}://{bound}\n")
    if agent:
        text.append(f"capture: {agent['capture']}\n", style="yellow" if agent["bypassable"] else "")
    text.append(f"logs: {mesh.state / 'logs'}   stop: Ctrl-C\n", style="dim")
    return text
