"""`gossamer proxy`: what the proxies of the meshes on this host are told, do and say.

The control plane knows what it has sent and what was accepted, the agent how its Envoys are: both are asked, over their
sockets on this host.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gossamer.cli.durations import load_duration
from gossamer.cli.parts import answers, folders, proxies_of
from gossamer.cli.render import Output, print_data, print_table
from gossamer.core.errors import GossamerError, UnavailableError, UsageError
from gossamer.rpc.local import AGENT_SOCKET, call

app = typer.Typer(no_args_is_help=True)
StateOption = Annotated[Path | None, typer.Option(help="The mesh's state folder, where several run on this host.")]
NameArgument = Annotated[str, typer.Argument(help="NAMESPACE/NAME, or the name alone.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")]

UPGRADE_S: Final = 120.0
"""How long an exchange may take: its checks, and the start of an Envoy."""


class Kind(StrEnum):
    """Parts of an Envoy's configuration."""

    ALL = "all"
    LISTENERS = "listeners"
    CLUSTERS = "clusters"
    ROUTES = "routes"
    ENDPOINTS = "endpoints"
    SECRETS = "secrets"
    BOOTSTRAP = "bootstrap"


_DUMPS: Final = {
    Kind.LISTENERS: "Listeners",
    Kind.CLUSTERS: "Clusters",
    Kind.ROUTES: "Routes",
    Kind.ENDPOINTS: "Endpoints",
    Kind.SECRETS: "Secrets",
    Kind.BOOTSTRAP: "Bootstrap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One workload of this host, and the agent that runs it."""

    agent: Path
    namespace: str
    name: str


@app.command("list")
def list_command(state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the proxies: what they were told, how they are, and whether an application could get round them."""
    rows = proxies_of(folders(state))
    if output is not Output.TABLE:
        print_data(rows, output)
        return
    columns = ("PROXY", "TYPE", "CONFIGURATION", "ENVOY", "APPLICATION", "HOST", "CAPTURE", "CERTIFICATE ENDS")
    print_table(columns, [_cells(row) for row in rows])
    for row in rows:
        for rejection in row["rejections"]:
            origins = f" (from {', '.join(rejection['origins'])})" if rejection["origins"] else ""
            typer.secho(f"{row['name']} refused {rejection['name']}{origins}: {rejection['message']}", fg="red")


@app.command()
def config(
    name: NameArgument,
    kind: Annotated[Kind, typer.Argument(help="Which part.")] = Kind.ALL,
    state: StateOption = None,
    output: OutputOption = Output.JSON,
) -> None:
    """Print the configuration that an Envoy has now, as it says itself."""
    found = _find(name, state)
    dump = _ask(found, "config?resource=" if kind is Kind.ALL else "config").json()
    if kind is not Kind.ALL:
        wanted = f"{_DUMPS[kind]}ConfigDump"
        dump = [part for part in dump.get("configs", ()) if part["@type"].endswith(wanted)]
    print_data(dump, Output.JSON if output is Output.TABLE else output)


@app.command()
def stats(
    name: NameArgument,
    pattern: Annotated[str, typer.Argument(help="A regular expression that the counter's name contains.")] = "",
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print an Envoy's counters and gauges."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression: {error}") from error
    values = {key: value for key, value in _ask(_find(name, state), "stats").json().items() if re.search(pattern, key)}
    if output is Output.TABLE:
        print_table(("NAME", "VALUE"), [(key, str(value)) for key, value in values.items() if value])
    else:
        print_data(values, output)


@app.command()
def log(
    name: NameArgument,
    application: Annotated[bool, typer.Option("--application", "-a", help="The application's log instead.")] = False,
    size: Annotated[int, typer.Option("--bytes", help="How much of its end.")] = 16_384,
    state: StateOption = None,
) -> None:
    """Print the end of an Envoy's log: what it says, and its access log."""
    of = "application" if application else "envoy"
    sys.stdout.write(_ask(_find(name, state), f"log?of={of}&bytes={size}").text)


@app.command()
def upgrade(
    name: Annotated[str, typer.Argument(help="NAMESPACE/NAME, or the name alone.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every proxy of this host, one after the other.")] = False,
    envoy: Annotated[Path | None, typer.Option(help="The Envoy to run; by default the one its agent was told.")] = None,
    drain: Annotated[str, typer.Option(help="How long open connections have to end; the drain time at least.")] = "0s",
    state: StateOption = None,
) -> None:
    """Exchange a proxy's Envoy while connections go on, for another binary or as its ProxyConfig is now.

    The new one takes the listening sockets over; the old one ends what it has, and then itself. The first that cannot
    be exchanged ends the command, and goes on as it was.
    """
    if bool(name) == all_:
        raise UsageError("name one proxy, or say --all")
    seconds = math.ceil(load_duration(drain).total_seconds()) if drain not in ("0", "0s") else 0
    body = {"envoy": str(envoy.resolve()) if envoy else "", "shutdown_seconds": seconds}
    for found in _all(state) if all_ else (_find(name, state),):
        path = f"/v1/workloads/{found.namespace}/{found.name}/upgrade"
        done = call(found.agent, "POST", path, body=body, timeout_s=UPGRADE_S).json()
        what = f"Envoy {done['now']}" + (f", before {done['before']}" if done["before"] != done["now"] else "")
        typer.echo(f"{found.namespace}/{found.name}: {what}, process {done['pid']}")


def _all(state: Path | None) -> list[Found]:
    """The workloads of this host. UnavailableError if there are none."""
    found = [
        Found(agent=folder / AGENT_SOCKET, namespace=row["namespace"], name=row["name"])
        for folder, status in answers(folders(state), AGENT_SOCKET, "/v1/status")
        for row in status["workloads"]
    ]
    if not found:
        raise UnavailableError("no agent runs on this host; start one with `gossamer up` or `gossamer agent`")
    return found


def _find(name: str, state: Path | None) -> Found:
    """The workload of this name; GossamerError when there is none, or more than one."""
    all_found = _all(state)
    chosen = [one for one in all_found if name in (one.name, f"{one.namespace}/{one.name}")]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(sorted(f"{one.namespace}/{one.name}" for one in (chosen or all_found)))
    what = "is more than one proxy; name a namespace, or a mesh by --state" if chosen else "is no proxy of this host"
    raise GossamerError(f"{name} {what}: {names}")


def _ask(found: Found, what: str) -> Any:
    return call(found.agent, "GET", f"/v1/workloads/{found.namespace}/{found.name}/{what}", timeout_s=30.0)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    capture = f"{row['capture']} (bypassable)" if row["bypassable"] else row["capture"]
    if row["type"] == "router":
        capture = "-"
    keys = ("name", "type", "configuration", "envoy", "application", "host")
    return (*(row[key] or "-" for key in keys), capture or "-", row["certificate_ends"] or "-")
