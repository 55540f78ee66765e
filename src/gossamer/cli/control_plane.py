"""`gossamer control-plane`: the control plane by itself, for agents on this and other hosts."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gossamer.api.profile import Profile, profile_lifetime
from gossamer.cli.durations import LifetimeOption, load_duration
from gossamer.cli.inputs import ProfileOption
from gossamer.cli.lifecycle import run_until_stopped
from gossamer.cli.logs import log_events
from gossamer.cli.render import print_diagnostics, texts_of
from gossamer.core.errors import EnvoyError, UsageError
from gossamer.node.binary import find_envoy
from gossamer.plane.bundle_endpoint import BundleEndpoint, serving_bundle
from gossamer.plane.ca_api import AuthorityView, ca_routes
from gossamer.plane.control_plane import ControlPlane, open_control_plane
from gossamer.plane.local_api import View, local_routes
from gossamer.plane.settings import Settings, clock
from gossamer.plane.snapshot import view_snapshot
from gossamer.rpc.local import PLANE_SOCKET, serving
from gossamer.sources.state import lock, private_folder, runtime_folder, state_folder, write_private

_LOG = logging.getLogger(__name__)
ADDRESSES = "control-plane.json"


def control_plane(settings: Settings) -> int:
    """Serve until stopped; returns the exit code."""
    log_events()
    state = private_folder(settings.state)
    with lock(state, "control plane"):
        plane = open_control_plane(settings)
        return run_until_stopped(lambda stop: _serve(plane, stop))


async def _serve(plane: ControlPlane, stop: asyncio.Event) -> int:
    runtime = runtime_folder(plane.settings.state)
    async with plane.serving() as bound:
        addresses = {"xds": bound.xds, "join": bound.join}
        view = View(
            keys=plane.keys.status,
            bound=lambda: addresses,
            ready=lambda: plane.pipeline.ready,
            diagnostics=lambda: plane.pipeline.diagnostics,
            proxies=plane.xds.status,
            registrations=lambda: tuple(plane.registry.snapshot.values()),
            generation=lambda: plane.pipeline.generation,
            endpoints=plane.reports.answer,
            seen=plane.view_seen,
            snapshot=lambda: view_snapshot(plane),
            authority=plane.authority,
            ledger=plane.ledger,
            since=datetime.now(UTC),
        )
        write_private(runtime / ADDRESSES, json.dumps(addresses).encode())
        authority = AuthorityView(
            rotating=plane.rotating, revoking=plane.revoking, clock=clock, federated=plane.view_federated
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                serving(runtime / PLANE_SOCKET, [*local_routes(view), *ca_routes(authority)])
            )
            if plane.settings.bundle is not None:
                port = await stack.enter_async_context(serving_bundle(plane.settings.bundle, plane.authority))
                addresses["bundle"] = f"{plane.settings.bundle.listen.rpartition(':')[0]}:{port}"
            _LOG.info("listening", extra=addresses | {"ready": plane.pipeline.ready})
            await plane.follow(stop)
    _LOG.info("stopped")
    return 0


def _bundle(listen: str, certificate: Path | None, key: Path | None) -> BundleEndpoint | None:
    if not listen and certificate is None and key is None:
        return None
    if not listen or certificate is None or key is None:
        raise UsageError("publishing the roots takes --bundle-listen, --bundle-certificate and --bundle-key")
    return BundleEndpoint(listen=listen, certificate=certificate, key=key)


def _envoy() -> Path | None:
    """The Envoy that patches are tried on; None where there is none: they are let out untried."""
    try:
        return find_envoy()
    except EnvoyError:
        return None


def _checked(attestors: Path | None) -> Path | None:
    """The file, if all is well with it; its mistakes are shown, and end the command."""
    if attestors is None:
        return None
    if not attestors.is_file():
        raise UsageError(f"--attestors {attestors}: there is no such file")
    from gossamer.plane.attestors import AttestorFile  # noqa: PLC0415 - most meshes have none

    if diagnostics := AttestorFile(path=attestors).load():
        print_diagnostics(diagnostics, texts_of(diagnostics), file=sys.stderr)
        raise typer.Exit(1)
    return attestors


def command(
    config: Annotated[
        list[Path], typer.Option("--config", "-c", help="A file or folder of configuration. May be repeated.")
    ],
    state: Annotated[Path | None, typer.Option(help="Where keys and last good configuration are kept.")] = None,
    mesh_config: Annotated[Path | None, typer.Option(help="A file with a bare MeshConfig.")] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT for proxies and agents (mutual TLS).")] = "127.0.0.1:15012",
    join_listen: Annotated[str, typer.Option(help="HOST:PORT for hosts that join.")] = "127.0.0.1:15013",
    ca: Annotated[
        Path | None, typer.Option(help="A CA folder: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem.")
    ] = None,
    trust_domain: Annotated[
        str, typer.Option(help="The trust domain of every identity; by default MeshConfig's, else cluster.local.")
    ] = "",
    name: Annotated[
        list[str] | None, typer.Option(help="A further name or address by which hosts dial us. May be repeated.")
    ] = None,
    lifetime: LifetimeOption = "",
    profile: ProfileOption = Profile.NONE,
    attestors: Annotated[
        Path | None,
        typer.Option(help="A file of those who vouch for hosts: Kubernetes clusters, clouds, CI systems."),
    ] = None,
    bundle_listen: Annotated[
        str, typer.Option(help="HOST:PORT at which other trust domains fetch our roots (a SPIFFE bundle, HTTPS).")
    ] = "",
    bundle_certificate: Annotated[
        Path | None,
        typer.Option(help="The certificate chain (PEM) that is shown there; they verify it as the web does."),
    ] = None,
    bundle_key: Annotated[Path | None, typer.Option(help="The key (PEM) of that certificate.")] = None,
    private_redirects: Annotated[
        bool,
        typer.Option(
            "--allow-private-redirects",
            help="Follow redirects to private addresses when keys of token issuers and modules of plugins are fetched.",
        ),
    ] = False,
) -> None:
    """Run the control plane: read configuration, sign identities, tell proxies what to do."""
    settings = Settings(
        config=tuple(config),
        state=state_folder(state),
        mesh_config=mesh_config,
        listen=listen,
        join_listen=join_listen,
        ca_folder=ca,
        trust_domain=trust_domain,
        names=tuple(name or ()),
        lifetime=load_duration(lifetime) if lifetime else profile_lifetime(profile),
        profile=profile,
        private_redirects=private_redirects,
        attestors=_checked(attestors),
        bundle=_bundle(bundle_listen, bundle_certificate, bundle_key),
        envoy=_envoy(),
    )
    raise typer.Exit(control_plane(settings))
