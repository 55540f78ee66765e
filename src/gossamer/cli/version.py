"""`gossamer version`: of what it is made, which Envoys run here, and which security advisories apply to them."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gossamer import __version__
from gossamer.cli.advisories import (
    Advisories,
    Advisory,
    applying,
    load_advisories,
    read_github,
    write_advisories,
)
from gossamer.cli.parts import STATUS, answers, folders
from gossamer.cli.render import Output, print_data, print_table
from gossamer.node.binary import envoy_version, find_envoy
from gossamer.rpc.local import AGENT_SOCKET
from gossamer.sources.state import private_folder, state_folder, write_private

KEPT: Final = "envoy-advisories.json"
"""In the state folder: what the last refresh found."""


def command(
    advisories: Annotated[
        bool,
        typer.Option("--advisories", help="List the security advisories that apply to Envoy; exit code 1 if any does."),
    ] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Take the newest list of advisories first.")] = False,
    source: Annotated[
        str,
        typer.Option("--from", help="URL or file of GitHub's list of advisories; by default that of envoyproxy/envoy."),
    ] = "",
    envoy: Annotated[str | None, typer.Option(help="The Envoy to look at, instead of the one installed.")] = None,
    state: Annotated[Path | None, typer.Option(help="The state folder that keeps a refreshed list.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.TABLE,
) -> None:
    """Print the versions of Gossamer, its Envoy and what else it is made of; with --advisories, which known
    vulnerabilities that Envoy has (exit code 0: none that is listed, 1: some, or nobody can tell)."""
    binary = find_envoy(envoy)
    version = envoy_version(binary)
    running = _running(state)
    if not (advisories or refresh or source):
        _show_versions(binary, version, running, output)
        return
    folder = state_folder(state)
    if refresh or source:
        _refresh(folder, source)
    known = load_advisories(folder / KEPT)
    found = {one: applying(known, one) for one in sorted({version, *running})}
    if output is Output.TABLE:
        _show_advisories(known, found)
    else:
        print_data(_document(known, found), output)
    raise typer.Exit(1 if any(found.values()) else 0)


def _show_versions(binary: Path, version: str, running: dict[str, int], output: Output) -> None:
    rows = {
        "gossamer": __version__,
        "envoy": version,
        "envoy_binary": str(binary),
        "envoy_running": running,
        "python": platform.python_version(),
        "xds_protos": _package("xds-protos"),
        "platform": f"{platform.system().lower()} {platform.machine()}",
    }
    if output is not Output.TABLE:
        print_data(rows, output)
        return
    lines = {
        "gossamer": rows["gossamer"],
        "envoy": f"{version} ({binary})",
        "python": rows["python"],
        "xds-protos": rows["xds_protos"],
        "platform": rows["platform"],
    }
    for name, value in lines.items():
        typer.echo(f"{name} {value}")
    for one, count in running.items():
        typer.echo(f"running envoy {one} ({count} {'proxy' if count == 1 else 'proxies'})")


def _running(state: Path | None) -> dict[str, int]:
    """How many proxies of this host run which version of Envoy."""
    counts: dict[str, int] = {}
    for _, agent in answers(folders(state), AGENT_SOCKET, STATUS):
        for workload in agent["workloads"]:
            if version := workload.get("envoy_version", ""):
                counts[version] = counts.get(version, 0) + 1
    return dict(sorted(counts.items()))


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _refresh(folder: Path, source: str) -> None:
    from gossamer.cli.advisory_source import GITHUB, read_pages  # noqa: PLC0415 - offline needs no HTTP

    wanted = source or GITHUB
    found = read_github(read_pages(wanted), wanted, datetime.now(UTC).date())
    write_private(private_folder(folder) / KEPT, write_advisories(found).encode())
    sys.stderr.write(f"{len(found.advisories)} advisories from {wanted}\n")


def _show_advisories(known: Advisories, found: dict[str, tuple[Advisory, ...]]) -> None:
    for version, some in found.items():
        if some:
            typer.echo(
                f"Envoy {version}: {len(some)} known {'advisory applies' if len(some) == 1 else 'advisories apply'}"
            )
            rows = [
                (one.name, one.severity or "-", ", ".join(one.fixed) or "-", one.published, one.summary) for one in some
            ]
            print_table(("ADVISORY", "SEVERITY", "FIXED IN", "PUBLISHED", "WHAT"), rows)
        else:
            typer.echo(f"Envoy {version}: no known advisory applies")
    days = (datetime.now(UTC).date() - date.fromisoformat(known.as_of)).days
    typer.echo(
        f"{len(known.advisories)} advisories are known as of {known.as_of}, {days} days ago, and none of later; "
        "--refresh takes the newest"
    )


def _document(known: Advisories, found: dict[str, tuple[Advisory, ...]]) -> dict[str, Any]:
    return {
        "as_of": known.as_of,
        "source": known.source,
        "known": len(known.advisories),
        "envoys": [
            {
                "version": version,
                "advisories": [
                    {
                        "id": one.id,
                        "cve": one.cve,
                        "severity": one.severity,
                        "published": one.published,
                        "summary": one.summary,
                        "affected": [part.range for part in one.vulnerable if part.range],
                        "fixed": list(one.fixed),
                    }
                    for one in some
                ],
            }
            for version, some in found.items()
        ],
    }
