"""The control-plane process: sources, pipeline, identities and ports, wired.

Everything that changes ends in one place: `_build` reads the newest files and registrations, and `pushing` lets every
connected proxy have what follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from gossamer.ca.authority import Authority
from gossamer.ca.bundle import Beside
from gossamer.ca.custody import Custody, open_custody
from gossamer.ca.ledger import Ledger
from gossamer.ca.peer import read_peer, refusal_of
from gossamer.ca.rotation import Standing
from gossamer.ca.witness import Witness
from gossamer.core.errors import UsageError
from gossamer.core.latest import Latest
from gossamer.model.anchors import bundle_urls
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
from gossamer.plane.ports import open_ports
from gossamer.plane.proxies import Proxies
from gossamer.plane.pushing import Pushing
from gossamer.plane.revoking import Revoking
from gossamer.plane.rotating import Rotating
from gossamer.plane.seen import SeenStore
from gossamer.plane.seen_view import view_seen
from gossamer.plane.settings import Bound, Settings, clock, lifetimes_of
from gossamer.plane.standings import by_hand, view_standings
from gossamer.sources.files import FileSource
from gossamer.sources.registry import Registry
from gossamer.sources.state import load_document, save_document
from gossamer.xds.service import Peer, Service

MESH_FILE = "mesh.json"
"""What commands on this host need to know of the mesh: its trust domain, and its CA folder if one is plugged in."""
EXPIRE_S = 1.0
TIDY_TURNS = 3600
"""After so many turns certificates that have ended are taken from the lists of what was revoked."""


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
    pushing: Pushing = field(init=False)

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
        self.proxies.refuses = lambda pem: refusal_of(pem, self.settings.trust_domain, self.revoking.latest.value)
        self.xds = Service(self.proxies.authorize, drain_s=self.settings.drain_s, lasts=self._lasts)
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
        self.pushing = Pushing(
            changed=self.changed, pipeline=self.pipeline, proxies=self.proxies, xds=self.xds, build=self._build
        )

    def _lasts(self, peer: Peer) -> float | None:
        """Seconds for which the certificate of a peer is still valid; None without one."""
        if not peer.certificate:
            return None
        return (read_peer(peer.certificate, self.settings.trust_domain).not_after - clock()).total_seconds()

    def _standings(self) -> dict[str, Standing]:
        found = view_standings(self.ledger, self.registry, self.witness, clock(), lifetimes_of(self.settings))
        return found | by_hand(self.revoking.issued.valid(clock()), self.rotating.trust)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Bound]:
        """Listen on both ports while the context lasts; configuration is followed by `follow`."""
        self._build()
        if await self.keys.first() or self.changed.is_set():
            self._build()
        await self.judging.first()
        async with open_ports(self) as bound:
            yield bound

    def view_federated(self) -> list[dict[str, Any]]:
        """The foreign trust domains, as JSON values."""
        loaded, built = self.pipeline.loaded, self.pipeline.built
        return view_federated(loaded.config.mesh, built[0].settings, self.bundles) if loaded and built else []

    async def follow(self, stop: asyncio.Event) -> None:
        """Keep every connected proxy up to date until `stop` is set."""
        self.pushing.tell_diagnostics()
        self.source.latest.subscribe(lambda _: self.changed.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(self.source.watch(stop))
            group.create_task(keep(self.settings.state, self.registry, lambda: self.pipeline.last_good, stop))
            group.create_task(keep_admitted(self.settings.state, lambda: self.pipeline.admitted_texts, stop))
            group.create_task(keep_seen(self.settings.state, self.seen, stop))
            running = (
                *(self.pushing.prepare(), self.pushing.follow(), self._expire()),
                *(self.judging.follow(), self.keys.follow(), self.bundles.follow(), self.rotating.follow()),
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
