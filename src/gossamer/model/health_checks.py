"""HealthChecks: which of them speak for a service's ports.

Invariant: a service is checked as its own namespace says and nobody else; of several checks of one port the one that
names the port comes first, then the older.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossamer.api.health_check import HealthCheck
from gossamer.api.resource import Resource
from gossamer.core.frozen import FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.names import qualified
from gossamer.model.settings import MeshSettings

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Check(Value):
    """A HealthCheck, its host resolved."""

    host: str
    spec: HealthCheck
    origin: Origin


def build_checks(
    resources: tuple[Resource[HealthCheck], ...], settings: MeshSettings, memo: Memo
) -> FrozenMap[Key, tuple[Check, ...]]:
    """All checks by (hostname, namespace) of their service, the one to prefer first."""
    found: dict[Key, list[Check]] = {}
    for resource in sorted(resources, key=lambda one: one.age_key):
        check = memo(_check, resource, settings.domain)
        found.setdefault((check.host, resource.namespace), []).append(check)
    return FrozenMap({key: tuple(sorted(checks, key=lambda c: not c.spec.port)) for key, checks in found.items()})


def _check(resource: Resource[HealthCheck], domain: str) -> Check:
    host = qualified(resource.spec.host, resource.namespace, domain)
    return Check(host=host, spec=resource.spec, origin=Origin(resource=resource.id))


def check_on(checks: Iterable[Check], port: int) -> Check | None:
    """The check of a port."""
    return next((check for check in checks if check.spec.port in (0, port)), None)
