"""How agents are told to start their Envoys.

Invariant: it is said in answer to a registration and at no other time: what runs is not started again for it.
"""

from __future__ import annotations

from gossamer.compile.patches.bootstrap import BootstrapPatch
from gossamer.model.proxy import INBOUND_PORT, OUTBOUND_PORT, Proxy
from gossamer.model.started import ProxySettings
from gossamer.rpc import gossamer_pb2 as rpc


def start_message(proxy: Proxy, settings: ProxySettings, patches: tuple[BootstrapPatch, ...]) -> rpc.Start:
    """The word on one workload's Envoy."""
    start = rpc.Start(
        workload=rpc.WorkloadKey(namespace=proxy.namespace, name=proxy.name),
        environment=settings.environment,
        runtime=settings.runtime,
        statsd=settings.statsd,
        flush_kb=settings.flush_kb,
        readiness_probe=settings.readiness_probe,
        outbound_port=settings.outbound_port if settings.outbound_port != OUTBOUND_PORT else 0,
        inbound_port=settings.inbound_port if settings.inbound_port != INBOUND_PORT else 0,
        patches=[rpc.BootstrapPatch(value=one.value, replace_lists=one.replace_lists) for one in patches],
    )
    if settings.concurrency is not None:
        start.concurrency = settings.concurrency
    if settings.termination_drain_s is not None:
        start.termination_drain_seconds = settings.termination_drain_s
    if settings.flush_interval_s is not None:
        start.flush_interval_seconds = settings.flush_interval_s
    if settings.max_connections is not None:
        start.max_connections = settings.max_connections
    if settings.drain_s is not None:
        start.drain_seconds = settings.drain_s
    if settings.listener_connections is not None:
        start.listener_connections = settings.listener_connections
    return start
