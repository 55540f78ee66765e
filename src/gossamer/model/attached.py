"""Gateways, and routes of gateways, that no Istio resource declares: Ingresses and the Kubernetes Gateway API.

Invariant: after this they are like those of Istio's own resources, and nothing else tells them apart.
"""

from __future__ import annotations

from gossamer.api.config import Config
from gossamer.core.memo import Memo
from gossamer.model.build_services import Services
from gossamer.model.ingress import Attached, build_ingress_settings, build_ingresses
from gossamer.model.kubernetes_gateway import Surroundings, build_kubernetes_gateways
from gossamer.model.namespaces import namespace_labels
from gossamer.model.settings import MeshSettings


def build_attached(config: Config, services: Services, settings: MeshSettings, memo: Memo) -> Attached:
    """All of them; the same object again when nothing of them differs."""
    asked = memo(build_ingress_settings, config.mesh)
    ingresses = memo.keep("", build_ingresses, config.ingresses, config.ingress_classes, asked, services, settings)
    around = memo.keep(
        "",
        Surroundings,
        settings=settings,
        grants=config.reference_grants,
        namespaces=memo.keep("", namespace_labels, config.namespaces),
    )
    gateways = memo.keep(
        "", build_kubernetes_gateways, config.k8s_gateways, config.gateway_classes, config.http_routes, around
    )
    return memo.keep("", _joined, ingresses, gateways)


def _joined(one: Attached, other: Attached) -> Attached:
    return Attached(gateways=one.gateways + other.gateways, routings=one.routings + other.routings)
