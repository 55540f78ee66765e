"""`gossamer compile`: what configuration tells one Envoy.

Contract: `-o json` prints one object `{listeners, routes, clusters, endpoints}` of Envoy v3 resources in protobuf JSON
with original field names, with what comes by ECDS inline; problems go to standard error; the exit code is 0 unless
nothing can be compiled (no listener at all is a success), 2 for wrong usage.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from gossamer.api.profile import Profile
from gossamer.cli.inputs import (
    FileOption,
    MeshConfigOption,
    MoreFiles,
    ProfileOption,
    given_files,
    load_inputs,
    load_labels,
)
from gossamer.cli.offline import build_fleet
from gossamer.cli.render import Output, print_data, print_diagnostics, print_table
from gossamer.compile.to_json import resources_to_json
from gossamer.core.errors import UsageError
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.proxy import Proxy, ProxyType

Json = Mapping[str, Any]
_UNREADABLE: Final = frozenset({"invalid-yaml", "unreadable-file"})


class Kind(StrEnum):
    """Which proxy to compile for."""

    SIDECAR = "sidecar"
    ROUTER = "router"


def command(
    files: FileOption = None,
    more: MoreFiles = None,
    kind: Annotated[Kind, typer.Option("--type", help="A workload's sidecar, or a gateway (router).")] = Kind.SIDECAR,
    namespace: Annotated[str, typer.Option(help="The proxy's namespace.")] = "default",
    name: Annotated[str, typer.Option(help="The workload's name.")] = "",
    ip: Annotated[list[str] | None, typer.Option(help="An address of the workload; may be repeated.")] = None,
    labels: Annotated[str, typer.Option(metavar="K=V,K=V", help="The workload's labels.")] = "",
    service_account: Annotated[str, typer.Option(help="The workload's service account.")] = "default",
    mesh_config: MeshConfigOption = None,
    profile: ProfileOption = Profile.NONE,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="A list of the resources, or all that is in them.")
    ] = Output.TABLE,
) -> None:
    """Show what configuration tells one Envoy: listeners, routes, clusters, endpoints.

    Problems of the configuration go to standard error and hinder nothing: what is wrong is left out, or denies.

    [dim]gossamer compile -f config/ --namespace default --labels app=reviews,version=v1 --ip 10.1.2.3 -o yaml[/dim]
    """
    proxy = Proxy(
        type=ProxyType(kind.value),
        namespace=namespace,
        name=name,
        service_account=service_account,
        labels=FrozenMap(load_labels(labels)),
        addresses=tuple(_address(text) for text in ip or ()),
    )
    memo = Memo()
    inputs = load_inputs(given_files(files, more), mesh_config, memo, profile=profile)
    print_diagnostics(inputs.diagnostics, inputs.texts, file=sys.stderr)
    if not inputs.loaded.index and any(diagnostic.code in _UNREADABLE for diagnostic in inputs.diagnostics):
        typer.echo("error: nothing is compiled: none of these files can be read", err=True)
        raise typer.Exit(1)
    show(resources_to_json(build_fleet(inputs.loaded.config, memo).resources(proxy)), output)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise UsageError(f"--ip {text}: no IP address; write one such as 10.1.2.3") from error


def show(compiled: Mapping[str, Sequence[Json]], output: Output) -> None:
    """Print the resources, or a list of them."""
    if output is not Output.TABLE:
        print_data(compiled, output)
        return
    print_table(("KIND", "NAME", "WHAT"), [*_rows(compiled)])


def _rows(compiled: Mapping[str, Sequence[Json]]) -> Iterator[tuple[str, str, str]]:
    for listener in compiled["listeners"]:
        chains = len(listener.get("filter_chains", [])) + ("default_filter_chain" in listener)
        yield "listener", listener["name"], f"{_socket(listener)}, {_count(chains, 'filter chain')}"
    for table in compiled["routes"]:
        hosts = table.get("virtual_hosts", [])
        routes = sum(len(host.get("routes", [])) for host in hosts)
        yield "routes", table["name"], f"{_count(len(hosts), 'virtual host')}, {_count(routes, 'route')}"
    for cluster in compiled["clusters"]:
        extension = cluster.get("cluster_type", {}).get("name", "").rpartition(".")[2]
        yield "cluster", cluster["name"], extension or cluster.get("type", "STATIC")
    for assignment in compiled["endpoints"]:
        places = sum(len(group.get("lb_endpoints", [])) for group in assignment.get("endpoints", []))
        yield "endpoints", assignment["cluster_name"], _count(places, "endpoint")


def _socket(listener: Json) -> str:
    address = listener.get("address", {})
    socket = address.get("socket_address")
    return f"{socket['address']}:{socket.get('port_value', 0)}" if socket else str(address.get("pipe", {}).get("path"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 or noun.endswith('s') else 's'}"
