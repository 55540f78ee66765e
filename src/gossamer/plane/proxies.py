"""The proxies that are connected now: who each is, and the newest resources made for it.

A proxy is who its certificate says it is. Its labels, addresses and capture come from its registry entry; one that has
none yet is known by its certificate alone. Proxies are compiled when they connect and again when something changed;
nobody is compiled who does not listen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gossamer.ca.spiffe import WorkloadId, parse_workload
from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.core.resources import Resources
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.sources.registry import Registration
from gossamer.xds.codec import Node
from gossamer.xds.service import Peer

_LOG = logging.getLogger(__name__)
Compile = Callable[[Proxy], Resources | None]
"""What a proxy is told now; None while the plane has no configuration to give."""
REGISTERS = "agent~"
"""Begins the node id of a proxy whose agent registers it: until then it is told nothing, since policies select it by
its registration. Claiming it can only narrow what a proxy gets."""
SLICE = 16
"""Proxies compiled before the event loop has a turn: streams already told move on while others are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """How many proxies got something different, and how long it took to find out, the turns of others left out."""

    changed: int
    seconds: float


class Subscription:
    """One connected proxy."""

    def __init__(self, proxy: Proxy, latest: Latest[Resources | None], gone: Callable[[Subscription], None]) -> None:
        self.proxy = proxy
        self._latest = latest
        self._gone = gone

    @property
    def name(self) -> str:
        return f"{self.proxy.namespace}/{self.proxy.name}"

    @property
    def latest(self) -> Latest[Resources | None]:
        return self._latest

    def close(self) -> None:
        self._gone(self)


class Proxies:
    """Connected proxies by identity; `refresh` recompiles them all."""

    def __init__(
        self, trust_domain: str, registrations: Callable[[], Mapping[tuple[str, str], Registration]], compile_: Compile
    ) -> None:
        self._trust_domain = trust_domain
        self._registrations = registrations
        self._compile = compile_
        self.refuses: Callable[[bytes], str] = lambda _: ""
        """Why a workload with this certificate (PEM) gets nothing; empty if it does."""
        self._subscriptions: set[Subscription] = set()

    async def authorize(self, peer: Peer, node: Node) -> Subscription:
        """The subscription of a peer. IdentityError unless its certificate names one workload of this mesh."""
        workload = _workload(peer, self._trust_domain)
        if refusal := self.refuses(peer.certificate):
            raise IdentityError(refusal)
        proxy = self._proxy(workload, node)
        resources = self._compiled(proxy)
        if resources is None:
            raise UnavailableError("the control plane has no configuration to give to this proxy yet")
        subscription = Subscription(proxy, Latest(resources), self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    async def prepare(self, namespaces: Iterable[str]) -> None:
        """Compile for the proxies that are about to come, so that they find done what takes long: those that are
        registered, and in each of these namespaces one that is not."""
        registered = [registration.proxy for registration in self._registrations().values()]
        known = {proxy.namespace for proxy in registered}
        strangers = [
            Proxy(type=ProxyType.SIDECAR, namespace=namespace, trust_domain=self._trust_domain)
            for namespace in namespaces
            if namespace not in known
        ]
        for proxy in (*registered, *strangers):
            self._compiled(proxy)
            await asyncio.sleep(0)

    async def refresh(self) -> Refreshed:
        """Compile every connected proxy anew."""
        changed, spent, began = 0, 0.0, time.perf_counter()
        registrations = self._registrations()
        for number, subscription in enumerate(tuple(self._subscriptions)):
            registration = registrations.get((subscription.proxy.namespace, subscription.proxy.name))
            if registration is not None and registration.proxy.spiffe_id == subscription.proxy.spiffe_id:
                subscription.proxy = registration.proxy
            resources = self._compiled(subscription.proxy)
            if resources is not None:
                changed += subscription.latest.publish(resources)
            if number % SLICE == SLICE - 1:
                spent += time.perf_counter() - began
                await asyncio.sleep(0)
                began = time.perf_counter()
        return Refreshed(changed=changed, seconds=spent + time.perf_counter() - began)

    def _compiled(self, proxy: Proxy) -> Resources | None:
        """What a proxy is told now; None if there is nothing, or it cannot be compiled: others are not concerned, and
        this one keeps what it has."""
        try:
            return self._compile(proxy)
        except Exception:
            _LOG.exception("compile-failed", extra={"proxy": f"{proxy.namespace}/{proxy.name}"})
            return None

    def _proxy(self, workload: WorkloadId, node: Node) -> Proxy:
        registration = self._registrations().get((workload.spiffe_id.namespace, workload.name))
        if registration is None and node.id.startswith(REGISTERS):
            raise UnavailableError(f"{workload.dns_name} is not registered yet")
        if registration is None:
            return Proxy(
                type=ProxyType.SIDECAR,  # a gateway is one by its registration: it is given secrets
                namespace=workload.spiffe_id.namespace,
                name=workload.name,
                service_account=workload.spiffe_id.service_account,
                trust_domain=self._trust_domain,
            )
        if registration.proxy.spiffe_id != str(workload.spiffe_id):
            raise IdentityError(
                f"{workload.dns_name} is registered as {registration.proxy.spiffe_id}, not as {workload.spiffe_id}"
            )
        return registration.proxy


def _workload(peer: Peer, trust_domain: str) -> WorkloadId:
    if len(peer.uris) != 1 or len(peer.dns_names) != 1:
        raise IdentityError("this needs a workload's certificate: exactly one SPIFFE ID and one DNS name")
    workload = parse_workload(peer.uris[0], peer.dns_names[0])
    if workload.spiffe_id.trust_domain != trust_domain:
        raise IdentityError(f"{workload.spiffe_id} is not of this mesh's trust domain {trust_domain}")
    return workload
