"""`gossamer status`: the meshes of this host at a glance."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli.overview import Section, Told, overview
from gossamer.cli.parts import STATUS, answers, folders, proxies_of
from gossamer.cli.render import Output, paint_for, print_data
from gossamer.rpc.local import AGENT_SOCKET, PLANE_SOCKET


def command(
    state: Annotated[Path | None, typer.Option(help="The mesh's state folder, where several run on this host.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.TABLE,
) -> None:
    """Show whether the mesh is well: control plane, configuration, proxies, what could be bypassed, certificates."""
    found = [(told.folder, overview(told)) for told in _meshes(state)]
    if output is not Output.TABLE:
        rows = [
            {
                "folder": folder,
                "well": not any(one.worry for one in sections.values()),
                **{name: one.data for name, one in sections.items()},
            }
            for folder, sections in found
        ]
        print_data({"meshes": rows}, output)
        return
    for folder, sections in found:
        if len(found) > 1:
            typer.echo(folder)
        _print(sections)


def _meshes(state: Path | None) -> list[Told]:
    """One for each mesh of this user on this host. UnavailableError if there is none."""
    places = folders(state)
    proxies_of(places)  # says so if nobody is there
    now = datetime.now(UTC)
    planes, agents = dict(answers(places, PLANE_SOCKET, STATUS)), dict(answers(places, AGENT_SOCKET, STATUS))
    return [
        Told(
            folder=str(place),
            plane=planes.get(place, {}),
            agent=agents.get(place, {}),
            proxies=proxies_of([place]),
            now=now,
        )
        for place in places
        if place in planes or place in agents
    ]


def _print(sections: dict[str, Section]) -> None:
    paint = paint_for(sys.stdout)
    width = max(map(len, sections))
    for name, section in sections.items():
        title = name.replace("_", " ").ljust(width)
        lines = [*section.lines, *section.more]
        for number, line in enumerate(lines):
            head = paint(title, "red" if section.worry else "green", bold=True) if number == 0 else " " * width
            typer.echo(f"{head}  {line}")
