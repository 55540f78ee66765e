"""What the configuration means as a whole: names joined, defaults filled in, precedence settled.

Invariant: nothing here depends on which proxy asks or on which instances run. A part whose resources did not change is
the same object as before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from gossamer.api.config import Config
from gossamer.api.kubernetes import ConfigMap, Secret
from gossamer.api.resource import Resource
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.attached import build_attached
from gossamer.model.authorizers import build_authorizers
from gossamer.model.build_policies import PolicyIndex, build_policies
from gossamer.model.build_routings import build_routings
from gossamer.model.build_services import Services, build_services
from gossamer.model.credentials import with_authority
from gossamer.model.decisions import decided_at_destinations
from gossamer.model.destinations import Destinations, build_destinations
from gossamer.model.discovery import discovered
from gossamer.model.extensions import ExtensionIndex, build_extensions
from gossamer.model.gateways import GatewayRule, build_gateways
from gossamer.model.groups import Groups, build_groups
from gossamer.model.health_checks import Check, build_checks
from gossamer.model.modules import NO_MODULES, Modules
from gossamer.model.patches import PatchIndex, build_patches
from gossamer.model.proxy_settings import ProxySettingsIndex, build_proxy_settings
from gossamer.model.routing import Routing, asked_labels
from gossamer.model.service_routes import build_service_routings
from gossamer.model.settings import MeshSettings, build_settings, looking_up
from gossamer.model.sidecars import Sidecars, build_sidecars
from gossamer.model.tokens import KeySource, Tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The mesh. Policies and secrets wait, indexed or as written, until a proxy asks for them."""

    settings: MeshSettings
    services: Services
    routings: tuple[Routing, ...] = ()
    decided: tuple[Routing, ...] = ()
    """The routings that destinations decide."""
    destinations: Destinations
    checks: FrozenMap[tuple[str, str], tuple[Check, ...]] = EMPTY
    """Active health checks by (hostname, namespace)."""
    gateways: tuple[GatewayRule, ...] = ()
    sidecars: Sidecars = field(default_factory=Sidecars)
    groups: Groups = EMPTY
    policies: PolicyIndex
    patches: PatchIndex = field(default_factory=PatchIndex)
    extensions: ExtensionIndex = field(default_factory=ExtensionIndex)
    proxies: ProxySettingsIndex = field(default_factory=ProxySettingsIndex)
    secrets: tuple[Resource[Secret], ...] = ()
    config_maps: tuple[Resource[ConfigMap], ...] = ()
    asked_labels: frozenset[tuple[str, str]] = frozenset()
    """Labels by which some resource tells clients apart."""


def build_mesh(
    config: Config, memo: Memo, modules: Modules = NO_MODULES, keys: FrozenMap[KeySource, str] = EMPTY
) -> Mesh:
    """The mesh that a configuration makes: the same object again when nothing of it differs. `modules` are the Wasm
    modules that it names, as far as they are there, `keys` those of its token issuers."""
    config = memo.keep("", discovered, config)
    settings = memo(build_settings, config.mesh)
    root = settings.root_namespace
    services = memo.keep("", build_services, config.services, config.service_entries, config.namespaces, settings, memo)
    if services.looks_up:
        settings = memo(looking_up, settings)
    attached = build_attached(config, services, settings, memo)
    routings = memo.keep(
        "",
        _joined,
        memo.keep(
            "",
            _by_age,
            memo.keep("", build_routings, config.virtual_services, settings, memo),
            _service_routings(config, settings, memo),
        ),
        attached.routings,
    )
    destinations = memo.keep("", build_destinations, config.destination_rules, settings, memo)
    return memo.keep(
        "",
        Mesh,
        settings=settings,
        services=services,
        routings=routings,
        decided=memo.keep("", decided_at_destinations, routings),
        destinations=destinations,
        checks=memo.keep("", build_checks, config.health_checks, settings, memo),
        gateways=memo.keep("", _joined, memo.keep("", build_gateways, config.gateways, memo), attached.gateways),
        sidecars=memo.keep("", build_sidecars, config.sidecars, settings, memo),
        groups=memo.keep("", build_groups, config.workload_groups),
        policies=memo.keep(
            "",
            build_policies,
            settings,
            config.authorization_policies,
            config.peer_authentications,
            memo.keep("", build_authorizers, config.mesh.extension_providers, services.all),
            memo.keep("", Tokens, resources=config.request_authentications, keys=keys),
        ),
        patches=memo.keep("", build_patches, config.envoy_filters, root),
        proxies=memo.keep("", build_proxy_settings, config.mesh, config.proxy_configs),
        extensions=memo.keep("", build_extensions, config.wasm_plugins, config.traffic_extensions, root, modules),
        secrets=config.secrets,
        config_maps=memo.keep("", with_authority, config.config_maps),
        asked_labels=memo.keep("", asked_labels, routings) | destinations.asked_labels,
    )


def _service_routings(config: Config, settings: MeshSettings, memo: Memo) -> tuple[Routing, ...]:
    grants, entries = config.reference_grants, config.service_entries
    return memo.keep("", build_service_routings, config.http_routes, grants, entries, settings, memo)


def _by_age(one: tuple[Routing, ...], other: tuple[Routing, ...]) -> tuple[Routing, ...]:
    return tuple(sorted((*one, *other), key=lambda routing: routing.age_key)) if other else one


def _joined(*parts: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(one for part in parts for one in part)
