"""How one workload's Envoy and application are started, from what was asked for and how it is captured.

Invariant: equal arguments give equal settings, so that the next agent adopts what this one started.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from gossamer.compile.bootstrap import BootstrapSettings, compile_bootstrap
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import DEFAULT_CLUSTER, Proxy
from gossamer.model.started import ProxySettings
from gossamer.node.application import ApplicationSettings
from gossamer.node.capture.workloads import Captured
from gossamer.node.envoy_settings import EnvoySettings
from gossamer.node.groups import default_probe
from gossamer.node.health import Probe
from gossamer.node.host import RESTARTS, Host
from gossamer.node.hot_restart import possible as hot_restart_possible
from gossamer.node.readiness import Readiness
from gossamer.node.sandbox import Command
from gossamer.node.users import login_environment
from gossamer.node.workload import WorkloadSpec
from gossamer.node.workload_socket import VARIABLE, endpoint, workload_folder

HOSTS_FOLDER: Final = "hosts"


def envoy_log(host: Host, spec: WorkloadSpec) -> Path:
    return host.settings.state / "logs" / f"{spec.slug}.envoy.log"


def envoy_name(spec: WorkloadSpec) -> str:
    """By which the warden knows its Envoy."""
    return f"envoy {spec.slug}"


def application_log(host: Host, spec: WorkloadSpec) -> Path:
    return host.settings.state / "logs" / f"{spec.slug}.log"


def hosts_file(host: Host, spec: WorkloadSpec) -> Path:
    """The names of services, for an application in explicit capture."""
    return host.settings.state / HOSTS_FOLDER / spec.slug


def envoy_settings(
    host: Host, spec: WorkloadSpec, captured: Captured, readiness: Readiness, socket: Path
) -> EnvoySettings:
    """How its Envoy is started; `socket` is where the agent serves it."""
    admin = socket.with_name("admin.sock")
    start = host.starts.of(spec.key)
    settings = BootstrapSettings(
        xds_socket=str(socket),
        sds_socket=str(socket),
        admin_socket=str(admin),
        domain=host.domain,
        ready_address=readiness.address,
        ready_port=readiness.port,
        ready_network=readiness.network,
    )
    return EnvoySettings(
        name=envoy_name(spec),
        binary=host.settings.envoy,
        bootstrap=compile_bootstrap(_proxy(host, spec, captured), settings, start.settings, start.patches),
        folder=socket.parent,
        admin_socket=admin,
        log=envoy_log(host, spec),
        concurrency=1 if start.settings.concurrency is None else start.settings.concurrency,
        environment=start.settings.environment,
        drain_seconds=drain_seconds(host, spec),
        stop_seconds=_stop_seconds(host, start.settings),
        flush_seconds=1.0 if start.settings.flush_interval_s is None else start.settings.flush_interval_s,
        flush_kb=start.settings.flush_kb,
        restarts_in=host.settings.runtime / RESTARTS if hot_restart_possible() else None,
    )


def drain_seconds(host: Host, spec: WorkloadSpec) -> int:
    """How long connections of its Envoy have to end when their listener changes."""
    asked = host.starts.of(spec.key).settings.drain_s
    return host.settings.drain_seconds if asked is None else asked


def _stop_seconds(host: Host, settings: ProxySettings) -> float | None:
    """How long they have when it stops; a drain time that was asked for is not meant for that."""
    if settings.termination_drain_s is None and settings.drain_s is not None:
        return float(host.settings.drain_seconds)
    return settings.termination_drain_s


def _proxy(host: Host, spec: WorkloadSpec, captured: Captured) -> Proxy:
    return Proxy(
        type=spec.type,
        namespace=spec.namespace,
        name=spec.name,
        service_account=spec.service_account,
        labels=spec.labels,
        addresses=captured.addresses,
        trust_domain=host.trust_domain,
        cluster=spec.place.cluster or DEFAULT_CLUSTER,
        network=spec.place.network,
        locality=spec.place.locality,
        capture=captured.capture,
    )


def application_settings(host: Host, spec: WorkloadSpec, captured: Captured) -> ApplicationSettings:
    """How its application is started."""
    # our own settings, and whatever lets this host join, are not the application's
    attestation = host.settings.attestation
    left_out = {"HOST", "PORT", "HOSTNAME", VARIABLE, attestation.variable if attestation is not None else ""}
    inherited = {
        name: value for name, value in os.environ.items() if name not in left_out and not name.startswith("GOSSAMER_")
    }
    own = {"HOSTNAME": spec.name} | (dict(login_environment(spec.users[0])) if spec.users and spec.command else {})
    folder = workload_folder(host, spec)
    if folder is not None:
        own[VARIABLE] = endpoint(folder)
    command = Command(
        argv=spec.command,
        shown=folder,
        env=FrozenMap(inherited | own | dict(spec.env) | dict(captured.environment)),
        cwd=spec.cwd,
        log=None if spec.terminal else application_log(host, spec),
        network=captured.network,
        hosts=hosts_file(host, spec) if captured.names and not host.choice.nameless else None,
        user=spec.users[0] if spec.users else "",
    )
    return ApplicationSettings(
        name=f"app {spec.slug}",
        command=command,
        health=_addressed(spec.health or default_probe(host.starts.of(spec.key).settings.readiness_probe), captured),
        restart=spec.restart,
        incidental=frozenset(inherited) - set(spec.env),
    )


def _addressed(health: Probe | None, captured: Captured) -> Probe | None:
    """A probe that names no address asks where the application listens."""
    if health is None or health.check is None or health.check.address:
        return health
    address = captured.capture.application_address or "127.0.0.1"
    return replace(health, check=replace(health.check, address=address))
