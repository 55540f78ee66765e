"""What is kept of workloads that are not of this host any more: keys, last copies, ports, names, how they were started.

Invariant: of a workload that is asked for, nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable

from gossamer.ca.spiffe import workload_id
from gossamer.node.host import RESTARTS, AgentSettings, Host
from gossamer.node.hot_restart import forget_generations, read_note
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.sandbox import Isolation, Sandbox
from gossamer.node.sidecar_settings import HOSTS_FOLDER
from gossamer.node.workload import WorkloadSpec


def forget_all_but(host: Host, files: IdentityFiles, specs: Iterable[WorkloadSpec]) -> None:
    """Forget all workloads but these."""
    kept = {spec.slug: spec for spec in specs}
    files.remove_workloads_but(_dns_name(spec, host.trust_domain) for spec in kept.values())
    host.starts.keep(spec.key for spec in kept.values())
    host.capturer.ports.keep(kept)
    for file in (host.settings.state / HOSTS_FOLDER).glob("*"):
        if file.name not in kept:
            file.unlink()
    for slug in host.store.sidecars():
        if slug not in kept:
            host.store.forget(slug)
    forget_restarts(host.settings, host.sandbox)


def forget_restarts(settings: AgentSettings, sandbox: Sandbox) -> None:
    """Forget by what Envoys that have ended would have found their successors."""
    found = [read_note(child.note)[1] for child in sandbox.children.values() if child.note and child.returncode is None]
    used = [generation.base for generation in found if generation]
    forget_generations(settings.runtime / RESTARTS, used, shared=sandbox.isolation is Isolation.NONE)


def _dns_name(spec: WorkloadSpec, trust_domain: str) -> str:
    account = spec.service_account or "default"
    found = workload_id(trust_domain=trust_domain, namespace=spec.namespace, service_account=account, name=spec.name)
    return found.dns_name
