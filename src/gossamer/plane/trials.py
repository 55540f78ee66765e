"""What Envoy is shown of a configuration before it is let out.

Invariant: nobody's real secrets or proxies are needed for it, and files on proxies' hosts are left out: they are not
here to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from gossamer.api.config import Config
from gossamer.compile.bootstrap import BootstrapSettings, compile_bootstrap
from gossamer.compile.compile import compile_plain, compile_proxy
from gossamer.compile.patches.patch import bootstrap_patches
from gossamer.compile.trial import trial_of, unchanged_of
from gossamer.core.memo import Memo
from gossamer.model.build_endpoints import Endpoints
from gossamer.model.build_view import metadata_for, view_for
from gossamer.model.inbound import inbound_ports
from gossamer.model.mesh import build_mesh
from gossamer.model.modules import Modules
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.representatives import made_up_instances, representatives
from gossamer.model.sidecars import sidecar_for
from gossamer.plane.envoy_check import Trial

_SOCKETS: Final = BootstrapSettings(xds_socket="/xds.sock", sds_socket="/sds.sock", admin_socket="/admin.sock")


def trials_of(
    config: Config, modules: Modules, endpoints: Endpoints, running: Iterable[Proxy], memo: Memo
) -> Iterator[tuple[Trial, Trial]]:
    """The changed resources of each kind of proxy that this configuration changes something for, and bootstraps; beside
    each the same without the changes."""
    mesh = build_mesh(config, memo, replace(modules, local=False))
    for proxy in representatives(config, mesh, running):
        view = view_for(mesh, endpoints, proxy, memo)
        if not proxy.name and proxy.type is ProxyType.SIDECAR:
            sidecar = sidecar_for(mesh.sidecars, proxy.namespace, proxy.labels)
            instances = made_up_instances(mesh, proxy)
            view = replace(view, inbound=inbound_ports(instances, sidecar, proxy.capture.mode))
        plain = compile_plain(view, memo)
        trial = trial_of(plain, compile_proxy(view, memo))
        if trial is not None:
            yield trial, unchanged_of(trial, plain)
        bootstrap = bootstrap_patches(mesh.patches.for_bootstrap(proxy, metadata_for(mesh, proxy)))
        if bootstrap:
            started = mesh.proxies.for_proxy(proxy)
            yield compile_bootstrap(proxy, _SOCKETS, started, bootstrap), compile_bootstrap(proxy, _SOCKETS, started)
