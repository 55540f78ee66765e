"""The control-plane process: sources, pipeline, identities and ports, wired.

Everything that changes ends in one place: `_rebuild` reads the newest files and registrations, builds once, and lets
every connected proxy have what follows. Changes that come while it works are taken together by the next turn.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc.aio

from gossamer.api.profile import Profile
from gossamer.ca.attestation import Attest
from gossamer.ca.authority import Authority, Lifetimes
from gossamer.ca.bundle import Beside
from gossamer.ca.custody import Custody, open_custody
from gossamer.ca.ledger import Ledger
from gossamer.ca.peer import ends_of, refusal_of, serial_of
from gossamer.ca.revocation import Revocations
from gossamer.ca.rotation import Standing
from gossamer.ca.service import IdentityService
from gossamer.ca.serving import ServerIdentity
from gossamer.ca.token_service import TokenService
from gossamer.ca.witness import Witness
from gossamer.core.diagnostics import Diagnostic
from gossamer.core.errors import IdentityError, UsageError
from gossamer.core.latest import Latest
from gossamer.model.anchors import bundle_urls
from gossamer.plane.bundle_endpoint import BundleEndpoint
from gossamer.plane.bundles import BundleStore
from gossamer.plane.endpoint_reports import EndpointReports
from gossamer.plane.federated import view_federated
from gossamer.plane.judging import Judging
from gossamer.plane.kept import (
    keep,
    keep_admitted,
    keep_seen,
    load_admitted,
    load_last_good,
    load_registry,
    load_seen,
)
from gossamer.plane.keys import KeyStore
from gossamer.plane.pipeline import Pipeline
from gossamer.plane.proxies import Proxies, Refreshed
from gossamer.plane.registry_service import Authenticate, Granted, RegistryService
from gossamer.plane.revoking import PASSES, Revoking, send_away
from gossamer.plane.rotating import Rotating
from gossamer.plane.seen import SeenStore
from gossamer.plane.seen_view import view_seen
from gossamer.plane.standings import by_hand, view_standings
from gossamer.plane.tuning import settle_heap
from gossamer.rpc.calls import Context
from gossamer.sources.files import FileSource
from gossamer.sources.registry import Registry
from gossamer.sources.state import load_document, save_document
from gossamer.xds.service import SERVER_OPTIONS, Peer, Service

_LOG = logging.getLogger(__name__)

MESH_FILE = "mesh.json"
"""What commands on this host need to know of the mesh: its trust domain, and its CA folder if one is plugged in."""
EXPIRE_S = 1.0
TIDY_TURNS = 3600
"""After so many turns certificates that have ended are taken from the lists of what was revoked."""
_PASSING = frozenset({"selects-nothing"})
"""True as long as the workloads that are meant do not run: shown to who asks, and no event."""
PREPARED = 32
"""Namespaces that are compiled for before anybody of them connects."""
PATIENCE_S = 5.0
"""How long the report of a push waits for proxies that read slowly."""
MUCH_S = 0.2
"""Work of a push after which the heap is set aside anew: a small mesh never needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a control plane is started with. Ports may be 0: the system chooses; `serve` tells which."""

    config: tuple[Path, ...]
    state: Path
    mesh_config: Path | None = None
    listen: str = "127.0.0.1:15012"
    join_listen: str = "127.0.0.1:15013"
    ca_folder: Path | None = None
    trust_domain: str = ""
    """Empty: what MeshConfig says, else `cluster.local`."""
    names: tuple[str, ...] = ()
    """Further names and addresses by which hosts dial this control plane; they go into its certificate."""
    lifetime: timedelta = timedelta(hours=24)
    profile: Profile = Profile.NONE
    drain_s: float = 5.0
    private_redirects: bool = False
    """Whether an issuer of tokens may redirect whoever fetches its keys to a private address."""
    attestors: Path | None = None
    """The file of those who vouch for hosts without a join token."""
    bundle: BundleEndpoint | None = None
    """Where the mesh's roots are published for other trust domains; None: nowhere."""
    envoy: Path | None = None
    """The Envoy that EnvoyFilters and extensions are tried on; None: nobody is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The addresses that a control plane really listens on."""

    xds: str
    join: str


@dataclass(slots=True, kw_only=True)
class ControlPlane:
    """One control plane. `run` serves until cancelled."""

    settings: Settings
    custody: Custody
    ledger: Ledger
    source: FileSource
    registry: Registry
    pipeline: Pipeline
    seen: SeenStore = field(default_factory=SeenStore)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    witness: Witness = field(default_factory=Witness)
    authority: Latest[Authority] = field(init=False)
    rotating: Rotating = field(init=False)
    revoking: Revoking = field(init=False)
    proxies: Proxies = field(init=False)
    xds: Service = field(init=False)
    judging: Judging = field(init=False)
    keys: KeyStore = field(init=False)
    bundles: BundleStore = field(init=False)
    reports: EndpointReports = field(init=False)
    _told: frozenset[Diagnostic] = frozenset()

    def __post_init__(self) -> None:
        self.authority = Latest(self.custody.authority(clock()))
        self.revoking = Revoking(self.settings.state, self.ledger, clock)
        self.rotating = Rotating(
            custody=self.custody,
            authority=self.authority,
            beside=Latest(Beside()),
            clock=clock,
            standings=self._standings,
            compose=lambda custody: Beside(verify_pem=self.revoking.verify_pem(custody.parties.values())),
        )
        self.rotating.publish()
        self.witness.heard = self.rotating.woken.set
        self.proxies = Proxies(self.settings.trust_domain, lambda: self.registry.snapshot, self.pipeline.resources)
        self.proxies.refuses = lambda workload, pem: self.revoking.latest.value.refuses(workload, serial_of(pem))
        self.xds = Service(self.proxies.authorize, drain_s=self.settings.drain_s, lasts=_lasts)
        self.reports = EndpointReports(pipeline=self.pipeline, registrations=lambda: self.registry.snapshot)
        self.keys = KeyStore(
            folder=self.settings.state / "keys",
            changed=self.changed.set,
            private_redirects=self.settings.private_redirects,
        )
        self.bundles = BundleStore(folder=self.settings.state / "bundles", changed=self.changed.set)
        self.judging = Judging(
            pipeline=self.pipeline,
            envoy=self.settings.envoy,
            state=self.settings.state,
            running=lambda: [entry.proxy for entry in self.registry.snapshot.values()],
            rebuild=self._build,
            changed=self.changed.set,
            private_redirects=self.settings.private_redirects,
        )

    def _standings(self) -> dict[str, Standing]:
        found = view_standings(self.ledger, self.registry, self.witness, clock(), _lifetimes(self.settings))
        return found | by_hand(self.revoking.issued.valid(clock()), self.rotating.trust)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Bound]:
        """Listen on both ports while the context lasts; configuration is followed by `follow`."""
        self._build()
        if await self.keys.first() or self.changed.is_set():
            self._build()
        await self.judging.first()
        identity = IdentityService(
            authority=self.authority,
            ledger=self.ledger,
            clock=clock,
            lifetimes=_lifetimes(self.settings),
            attest=_attest(self.settings.attestors),
            owner=lambda namespace, name: self.registry.owner(namespace, name, time.monotonic()),
            beside=self.rotating.beside,
            witness=self.witness,
            revocations=self.revoking.latest,
            issued=self.revoking.issued,
        )
        registry = RegistryService(
            self.registry,
            _authenticator(identity),
            self.changed.set,
            lambda: self.pipeline.services,
            self.pipeline.start,
        )
        registry.web_services = lambda: self.pipeline.web_services
        registry.session = identity.session
        registry.revoked = self.revoking.refuses_workload
        self.revoking.latest.subscribe(lambda revocations: self._send_away(revocations, identity, registry))
        registry.groups = lambda: self.pipeline.groups
        registry.seen = self.seen
        registry.ejections, registry.watches = self.reports.ejections, lambda: self.pipeline.watches
        names, addresses = _names(self.settings)
        tls = ServerIdentity(self.authority, clock, lifetimes=identity.lifetimes, dns=names, addresses=addresses)
        main, join = grpc.aio.server(options=SERVER_OPTIONS), grpc.aio.server(options=SERVER_OPTIONS)
        tokens = TokenService(
            trust_domain=self.settings.trust_domain,
            path=self.settings.state / "tokens" / "keys.json",
            clock=clock,
            entitled=identity,
        )
        handlers = (self.xds.handler(), identity.certificates_handler(), tokens.handler(), registry.handler())
        main.add_generic_rpc_handlers(handlers)
        join.add_generic_rpc_handlers((identity.join_handler(),))
        bound = Bound(
            xds=_listen(main, self.settings.listen, tls.mutual_tls()),
            join=_listen(join, self.settings.join_listen, tls.join_tls()),
        )
        await main.start()
        await join.start()
        try:
            yield bound
        finally:
            await asyncio.gather(main.stop(0.2), join.stop(0.2))

    def view_federated(self) -> list[dict[str, Any]]:
        """The foreign trust domains, as JSON values."""
        loaded, built = self.pipeline.loaded, self.pipeline.built
        return view_federated(loaded.config.mesh, built[0].settings, self.bundles) if loaded and built else []

    def _send_away(self, revocations: Revocations, identity: IdentityService, registry: RegistryService) -> None:
        """Let nobody stay who was revoked; whom proxies let in before goes when their lists have arrived."""
        self.rotating.publish()
        asyncio.get_running_loop().call_later(PASSES.total_seconds() + 0.1, self.changed.set)
        gone = {record.host for record in self.ledger.hosts() if record.revoked}
        send_away(revocations, gone, identity.sessions, registry)
        self.xds.end(lambda peer: refusal_of(peer.certificate, self.settings.trust_domain, revocations))

    async def follow(self, stop: asyncio.Event) -> None:
        """Keep every connected proxy up to date until `stop` is set."""
        self._tell_diagnostics()
        self.source.latest.subscribe(lambda _: self.changed.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(self.source.watch(stop))
            group.create_task(keep(self.settings.state, self.registry, lambda: self.pipeline.last_good, stop))
            group.create_task(keep_admitted(self.settings.state, lambda: self.pipeline.admitted_texts, stop))
            group.create_task(keep_seen(self.settings.state, self.seen, stop))
            running = (
                *(
                    self._prepare(),
                    self._push(),
                    self._expire(),
                    self.judging.follow(),
                    self.keys.follow(),
                    self.bundles.follow(),
                ),
                self.rotating.follow(),
            )
            tasks = [group.create_task(task) for task in running]
            await stop.wait()
            for task in tasks:
                task.cancel()

    def view_seen(self) -> dict[str, Any]:
        """What sidecars have seen, as JSON."""
        loaded = self.pipeline.loaded
        peers, index = (loaded.config.peer_authentications, loaded.index) if loaded else ((), None)
        return view_seen(self.seen, self.pipeline.built, self.registry.snapshot, time.time(), peers, index)

    def _build(self) -> None:
        registrations = tuple(entry.workload for entry in self.registry.snapshot.values())
        self.pipeline.keys, self.pipeline.bundles = self.keys.keys, self.bundles.bundles
        self.pipeline.revoked = self.revoking.revised
        self.pipeline.build(self.source.latest.value, registrations)
        if self.pipeline.loaded is not None and self.keys.want(self.pipeline.loaded.config):
            self.changed.set()
        if self.pipeline.loaded is not None and self.bundles.want(bundle_urls(self.pipeline.loaded.config.mesh)):
            self.changed.set()
        self.judging.built()
        self.reports.look()

    async def _prepare(self) -> None:
        began = time.perf_counter()
        await self.proxies.prepare(self.pipeline.namespaces[:PREPARED])
        _settle_after(time.perf_counter() - began)

    async def _push(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await self.changed.wait()
                self.changed.clear()
                began = time.perf_counter()
                self._build()
                built = time.perf_counter()
                refreshed = await self.proxies.refresh()
                self.pipeline.settle()
                group.create_task(self._report(began, built, refreshed))

    async def _report(self, began: float, built: float, refreshed: Refreshed) -> None:
        """Say how a push went, once it is sent or has waited long enough for slow proxies."""
        generation = self.pipeline.generation
        waiting = await self.xds.unsent.none(PATIENCE_S)
        sent = time.perf_counter()
        _LOG.info(
            "config-pushed",
            extra={
                "generation": generation,
                "proxies": refreshed.changed,
                "unsent": waiting,
                "build_ms": round((built - began) * 1000, 1),
                "compile_ms": round(refreshed.seconds * 1000, 1),
                "send_ms": round((sent - built - refreshed.seconds) * 1000, 1),
            },
        )
        self._tell_diagnostics()
        _settle_after(built - began + refreshed.seconds)

    def _tell_diagnostics(self) -> None:
        """Log what is wrong with the configuration now, and was not a push ago."""
        found = [one for one in self.pipeline.diagnostics if one.code not in _PASSING]
        for diagnostic in found:
            if diagnostic not in self._told:
                _LOG.warning("diagnostic", extra={"diagnostic": diagnostic.to_json()})
        self._told = frozenset(found)

    async def _expire(self) -> None:
        for turn in count(1):
            await asyncio.sleep(EXPIRE_S)
            if turn % TIDY_TURNS == 0:
                self.revoking.forget_ended()
            before = self.registry.snapshot
            self.registry.expire(time.monotonic())
            if self.registry.snapshot is not before:
                self.changed.set()


def open_control_plane(settings: Settings) -> ControlPlane:
    """Read everything that a control plane starts with. Errors are of `core.errors`."""
    now = clock()
    mesh = (settings.mesh_config,) if settings.mesh_config else ()
    source = FileSource([*settings.config, *mesh])
    pipeline = Pipeline(
        mesh_config=str(settings.mesh_config) if settings.mesh_config else None,
        last_good=load_last_good(settings.state),
        admitted=load_admitted(settings.state) if settings.envoy is not None else None,
        profile=settings.profile,
    )
    pipeline.build(source.latest.value, ())
    trust_domain = pipeline.trust_domain
    if settings.trust_domain not in ("", trust_domain):
        raise UsageError(
            f"--trust-domain says {settings.trust_domain}, MeshConfig says {trust_domain}: proxies are configured by "
            "MeshConfig, so set trustDomain there, and leave the option out"
        )
    settings = replace(settings, trust_domain=trust_domain)
    earlier = load_document(settings.state / MESH_FILE, 1)
    own = earlier is not None and not earlier[1].get("ca")
    save_document(settings.state / MESH_FILE, 1, {"trust_domain": trust_domain, "ca": str(settings.ca_folder or "")})
    custody = open_custody(settings.state, settings.ca_folder, trust_domain, now, own=own)
    custody.settle()
    return ControlPlane(
        settings=settings,
        custody=custody,
        ledger=Ledger(settings.state / "joined"),
        source=source,
        registry=load_registry(settings.state, trust_domain, time.monotonic()),
        pipeline=pipeline,
        seen=load_seen(settings.state),
    )


def _settle_after(seconds: float) -> None:
    if seconds > MUCH_S:
        settle_heap()


def clock() -> datetime:
    """The time."""
    return datetime.now(UTC)


def _attest(file: Path | None) -> Attest | None:
    if file is None:
        return None
    from gossamer.plane.attestors import open_attestors  # noqa: PLC0415 - most meshes have none

    return open_attestors(file)


def _lasts(peer: Peer) -> float | None:
    """Seconds for which the certificate of a peer is still valid; None without one."""
    return (ends_of(peer.certificate) - clock()).total_seconds() if peer.certificate else None


def _lifetimes(settings: Settings) -> Lifetimes:
    return Lifetimes(workload=settings.lifetime, control_plane=settings.lifetime)


def _names(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names, and the addresses, by which this control plane is dialled."""
    named = {"localhost", "127.0.0.1", "::1", *settings.names}
    named |= {listen.rpartition(":")[0].strip("[]") for listen in (settings.listen, settings.join_listen)}
    addresses = {name for name in named if _is_address(name)}
    return tuple(sorted(named - addresses)), tuple(sorted(addresses))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _authenticator(identity: IdentityService) -> Authenticate:
    def authenticate(context: Context) -> tuple[str, Granted] | None:
        try:
            host = identity.known_host(context)
        except IdentityError:
            return None
        return host.host, host.problem

    return authenticate


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{address!r} is not HOST:PORT")
    try:
        bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise UsageError(f"cannot listen on {address}: is another control plane running there?") from error
    return f"{host}:{bound}"
