"""`gossamer agent`: this host in a mesh, with a sidecar for every workload of its file."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from gossamer.cli.lifecycle import Stop, run_until_stopped
from gossamer.cli.logs import log_events
from gossamer.cli.whereabouts import Cluster, Locality, Network, here_of
from gossamer.core.address import split_address
from gossamer.core.errors import UnavailableError, UsageError
from gossamer.node.agent import Agent, open_agent
from gossamer.node.binary import find_envoy
from gossamer.node.capture.choose import Way
from gossamer.node.evidence import Attestation, parse_attestation, token_folder
from gossamer.node.host import AgentSettings
from gossamer.node.local_api import local_routes
from gossamer.node.workload import Here, WorkloadSpec, load_specs
from gossamer.rpc.local import AGENT_SOCKET, serving
from gossamer.sources.state import lock, private_folder, private_places, runtime_folder, state_folder

_LOG = logging.getLogger(__name__)
_TOLD_S: Final = 1.0


AttestOption = Annotated[
    str | None,
    typer.Option(
        envvar="GOSSAMER_ATTEST",
        help="In place of a join token, one of somebody whom the control plane believes (its --attestors): "
        "kubernetes:FILE or oidc:FILE, or env:VARIABLE in place of FILE.",
    ),
]
RootOption = Annotated[
    str,
    typer.Option(envvar="GOSSAMER_ROOT", help="With --attest, the mesh's root: its SHA-256, or a file that holds it."),
]


class OnStop(StrEnum):
    """What becomes of this host's workloads when SIGTERM ends their agent."""

    DRAIN = "drain"
    """They are drained and ended."""
    LEAVE = "leave"
    """They run on, and the next agent adopts them: an agent can be upgraded, or its service restarted, under traffic.
    Ctrl-C drains them even so."""


def agent(settings: AgentSettings, specs: Sequence[WorkloadSpec], on_stop: OnStop = OnStop.DRAIN) -> int:
    """Serve until stopped; returns the exit code."""
    log_events()
    with lock(private_folder(settings.state), "agent"):
        return run_until_stopped(lambda stop: _serve(settings, specs, stop, on_stop))


async def _serve(settings: AgentSettings, specs: Sequence[WorkloadSpec], stop: Stop, on_stop: OnStop) -> int:
    async with (
        open_agent(settings, specs, stop) as running,
        serving(settings.runtime / AGENT_SOCKET, local_routes(running)),
    ):
        _LOG.info("agent-started", extra={"workloads": len(specs), "capture": str(running.host.choice)})
        lost = await _until_stopped(stop, running.host.sandbox.gone)
        if on_stop is OnStop.LEAVE and stop.number in (signal.SIGTERM, signal.SIGHUP):
            await _leave(running)
        _LOG.info("agent-stopping")
    if lost:
        # all that ran here has ended with it: the next agent starts it anew
        raise UnavailableError("the process that holds this host's workloads was killed; start the agent again")
    _LOG.info("agent-stopped")
    return 0


async def _leave(running: Agent) -> NoReturn:
    """End at once, as if killed: what an agent does in order when it ends is to end what runs here."""
    await running.host.registration.told(_TOLD_S)
    _LOG.info("agent-left", extra={"workloads": len(running.sidecars)})
    logging.shutdown()
    os._exit(0)


async def _until_stopped(stop: asyncio.Event, gone: asyncio.Event) -> bool:
    """Wait for one of the two; returns whether it was `gone`."""
    waiting = [asyncio.create_task(event.wait()) for event in (stop, gone)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return not stop.is_set()


def command(
    control_plane: Annotated[str, typer.Option(help="HOST:PORT of the control plane.")],
    join: Annotated[str, typer.Option(help="HOST:PORT where hosts join; by default the port after.")] = "",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A gossamer.yaml: its workloads and gateways run here.")
    ] = None,
    workloads: Annotated[Path | None, typer.Option(hidden=True, help="Workloads as `up` writes them.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="GOSSAMER_TOKEN", help="The join token (better in the environment).")
    ] = None,
    attest: AttestOption = None,
    root: RootOption = "",
    address: Annotated[
        str,
        typer.Option(help="The address at which other hosts dial this one; by default the way to the control plane."),
    ] = "",
    capture: Annotated[Way, typer.Option(help="How traffic reaches sidecars.")] = Way.AUTO,
    locality: Locality = "",
    network: Network = "",
    cluster: Cluster = "",
    state: Annotated[Path | None, typer.Option(help="Where keys and the last configuration are kept.")] = None,
    envoy: Annotated[str | None, typer.Option(help="The Envoy to run, instead of the one installed.")] = None,
    on_stop: Annotated[
        OnStop, typer.Option(help="What SIGTERM does to workloads: end them, or leave them to the next agent.")
    ] = OnStop.DRAIN,
) -> None:
    """Run this host's workloads in a mesh: one Envoy beside each, their keys, their certificates."""
    folder = state_folder(state)
    specs = load_specs(workloads.read_text(encoding="utf-8")) if workloads else ()
    if file:
        specs += _specs_of(file, here_of(locality, network, cluster))
    attestation = attestation_of(attest, root, token)
    settings = AgentSettings(
        state=folder,
        runtime=runtime_folder(folder),
        control_plane=control_plane,
        join=join or next_port(control_plane),
        envoy=find_envoy(envoy),
        token=token,
        attestation=attestation,
        address=address or address_towards(control_plane),
        way=capture,
        hidden=(*private_places(), *hidden_by(attestation, folder)),
    )
    raise typer.Exit(agent(settings, specs, on_stop))


def attestation_of(attest: str | None, root: str, token: str | None) -> Attestation | None:
    """What the options of a command say of how its host is attested. UsageError if they disagree."""
    if not attest:
        return None
    if token:
        raise UsageError("a host joins by --token or by --attest, not by both")
    return parse_attestation(attest, root)


def hidden_by(attestation: Attestation | None, state: Path) -> tuple[Path, ...]:
    """Folders that no application may see because this host's token is there."""
    if attestation is None:
        return ()
    return token_folder(attestation, (state, Path.cwd(), Path.home(), Path(sys.prefix), Path(tempfile.gettempdir())))


def _specs_of(file: Path, here: Here) -> tuple[WorkloadSpec, ...]:
    """The workloads of a mesh file; its mistakes are shown, and end the command."""
    from gossamer.cli.mesh_file import open_mesh  # noqa: PLC0415 - an agent that is told its workloads reads no YAML
    from gossamer.cli.render import print_diagnostics  # noqa: PLC0415

    opened, diagnostics = open_mesh(file, here)
    if opened is None:
        print_diagnostics(diagnostics, {str(file): file.read_text(encoding="utf-8")}, file=sys.stderr)
        raise typer.Exit(1)
    return opened.specs


def next_port(address: str) -> str:
    """The join port that belongs to a control plane's `HOST:PORT`, unless it says otherwise."""
    host, port = split_address(address)
    return f"{host}:{port + 1}"


def address_towards(control_plane: str) -> str:
    """The address of this host on the way to `host:port`: where others of that network can dial us."""
    host, _, port = control_plane.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # sends nothing: it only asks for the route
            return str(probe.getsockname()[0])
    except (OSError, ValueError) as error:
        raise UsageError(f"no way to the control plane {control_plane!r}: {error}; give --address") from error
