"""`gossamer run -- COMMAND`: one process with a sidecar, in front, with the terminal and the exit code of the command.

It is a host of its own in the mesh: it joins with a token (which it makes itself where the control plane runs on this
machine and is this user's), and when the command ends nothing of it stays behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from gossamer.api.names import namespace_problem
from gossamer.ca.tokens import Grant, allows
from gossamer.cli.agent import AttestOption, RootOption, address_towards, attestation_of, hidden_by, next_port
from gossamer.cli.lifecycle import run_until_stopped
from gossamer.cli.logs import log_events
from gossamer.cli.whereabouts import Cluster, Locality, Network, here_of
from gossamer.core.errors import GossamerError, UnavailableError, UsageError
from gossamer.core.frozen import FrozenMap
from gossamer.node.agent import open_agent
from gossamer.node.application import RestartPolicy
from gossamer.node.binary import find_envoy
from gossamer.node.capture.choose import Way
from gossamer.node.host import AgentSettings
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.local_api import local_routes
from gossamer.node.sandbox import Lifeline
from gossamer.node.workload import ServedPort, WorkloadSpec
from gossamer.rpc.local import AGENT_SOCKET, PLANE_SOCKET, call, serving
from gossamer.sources.state import lock, private_folder, private_places, runtime_folder, runtime_folders, state_folder

DEFAULT_NAMESPACE = "default"


def command(
    command_line: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARG]...", help="What to run.")],
    name: Annotated[str, typer.Option(help="The workload's name; by default the command's.")] = "",
    namespace: Annotated[str, typer.Option(help="Its namespace.")] = DEFAULT_NAMESPACE,
    service_account: Annotated[
        str, typer.Option(help="Its service account: who it is to others; by default its group's, or default.")
    ] = "",
    group: Annotated[str, typer.Option(help="A WorkloadGroup of its namespace, for what is not said here.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, by which services select it.")] = None,
    port: Annotated[list[str] | None, typer.Option(help="PORT or PORT/PROTOCOL that it serves.")] = None,
    control_plane: Annotated[str, typer.Option(help="HOST:PORT; by default the one that runs on this host.")] = "",
    join: Annotated[str, typer.Option(help="HOST:PORT where hosts join; by default the port after.")] = "",
    token: Annotated[str | None, typer.Option(envvar="GOSSAMER_TOKEN", help="A join token.")] = None,
    attest: AttestOption = None,
    root: RootOption = "",
    address: Annotated[str, typer.Option(help="The address at which other hosts dial this one.")] = "",
    capture: Annotated[Way, typer.Option(help="How traffic reaches the sidecar.")] = Way.AUTO,
    capture_user: Annotated[
        list[str] | None,
        typer.Option(
            help="As root: run as this user on this machine's own network; all that the user does is captured."
        ),
    ] = None,
    workload_api: Annotated[
        bool,
        typer.Option("--workload-api", help="Serve it SPIFFE's Workload API: it gets a key and identities of its own."),
    ] = False,
    locality: Locality = "",
    network: Network = "",
    cluster: Cluster = "",
    weight: Annotated[int, typer.Option(min=0, help="Its share of traffic among its service's instances.")] = 0,
    state: Annotated[Path | None, typer.Option(help="Where its keys are kept.")] = None,
) -> None:
    """Run one command with a sidecar: it starts when the sidecar is ready, and stops before it."""
    spec = WorkloadSpec(
        name=name or _name_of(command_line[0]),
        namespace=namespace,
        service_account=service_account or ("" if group else "default"),
        group=group,
        labels=FrozenMap(_pair(text) for text in label or ()),
        here=here_of(locality, network, cluster),
        weight=weight,
        ports=tuple(_port(text) for text in port or ()),
        command=tuple(command_line),
        env=FrozenMap({"HOSTNAME": name or _name_of(command_line[0])}),
        users=tuple(capture_user or ()),
        workload_api=workload_api,
        cwd=str(Path.cwd()),
        restart=RestartPolicy.NEVER,
        terminal=True,
    )
    if problem := namespace_problem(spec.name) or namespace_problem(spec.namespace):
        raise UsageError(f"--name {spec.name}, --namespace {spec.namespace}: {problem}")
    if workload_api and capture_user:
        raise UsageError("--workload-api: processes on the machine's own network cannot be told apart by a socket")
    folder = private_folder(state or state_folder() / "run" / spec.slug)
    if attest and not control_plane:
        raise UsageError("--attest needs --control-plane; a control plane of yours on this host gives tokens by itself")
    if not control_plane:
        control_plane, join, token = _local_plane(spec)
    attestation = attestation_of(attest, root, token)
    settings = AgentSettings(
        state=folder,
        runtime=runtime_folder(folder),
        control_plane=control_plane,
        join=join or next_port(control_plane),
        envoy=find_envoy(),
        token=token,
        attestation=attestation,
        address=address or address_towards(control_plane),
        way=capture,
        lifeline=Lifeline.DIE,
        hidden=(*private_places(), *hidden_by(attestation, folder)),
    )
    log_events(logging.WARNING)
    with lock(folder, "run"):
        _forget_useless(IdentityFiles(folder / "identity"), spec)
        raise typer.Exit(run_until_stopped(lambda stop: _serve(settings, spec, stop)))


async def _serve(settings: AgentSettings, spec: WorkloadSpec, stop: asyncio.Event) -> int:
    async with (
        open_agent(settings, [spec], stop) as agent,
        serving(settings.runtime / AGENT_SOCKET, local_routes(agent)),
    ):
        sidecar = agent.sidecars[spec.key]
        if agent.host.choice.mode.value == "explicit":
            sys.stderr.write(f"gossamer: capture is {agent.host.choice}\n")
        ended = asyncio.create_task(agent.finish(spec.key))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, stopping):
            task.cancel()
        if sidecar.problem and not stop.is_set():
            raise GossamerError(sidecar.problem)
    return sidecar.exit_code


def _forget_useless(files: IdentityFiles, spec: WorkloadSpec) -> None:
    """Forget the identity of an earlier run that may not be who this one is to be: it joins anew, by its token."""
    known = files.load_host()
    if known is not None and not allows(map(Grant.parse, known.grants), spec.namespace, spec.service_account or "*"):
        files.remove_host()


def _local_plane(spec: WorkloadSpec) -> tuple[str, str, str]:
    """Addresses and a fresh token of the one control plane that runs on this host for this user."""
    found = []
    for folder in runtime_folders():
        if (folder / PLANE_SOCKET).exists():
            try:
                found.append((folder, call(folder / PLANE_SOCKET, "GET", "/v1/status").json()))
            except UnavailableError:
                continue
    if not found:
        raise UsageError("no control plane of yours runs on this host: name one by --control-plane, with --token")
    if len(found) > 1:
        addresses = ", ".join(status["xds"] for _, status in found)
        raise UsageError(
            f"several control planes run on this host ({addresses}): choose by --control-plane, with --token"
        )
    folder, status = found[0]
    grant = f"{spec.namespace}/{spec.service_account or '*'}"
    digest = hashlib.sha256(spec.slug.encode()).hexdigest()[:8]  # no two slugs may share a host's name
    body = {"host": f"run-{spec.name[:40]}-{digest}", "grants": [grant]}
    token = call(folder / PLANE_SOCKET, "POST", "/v1/tokens", body=body).json()["token"]
    return status["xds"], status["join"], token


def _name_of(program: str) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in Path(program).name.lower()).strip("-")
    return name or "workload"


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--label {text}: write KEY=VALUE")
    return key, value


def _port(text: str) -> ServedPort:
    number, _, protocol = text.partition("/")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise UsageError(f"--port {text}: write a port, such as 8080 or 8080/http")
    return ServedPort(number=int(number), name=protocol)
