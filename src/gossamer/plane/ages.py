"""Since when endpoints that documents declare are as they are: nobody registers them, so the control plane looks.

Invariant: looking costs what changed; a control plane that restarts begins anew.
"""

from __future__ import annotations

from gossamer.model.build_endpoints import Endpoints
from gossamer.model.service import Endpoint, Health, ServiceEndpoints

Key = tuple[str, str]
Place = tuple[int, str, int]


class Ages:
    """`look` at every build; `since` tells when an endpoint was first seen in its present health."""

    def __init__(self) -> None:
        self._seen: dict[Key, ServiceEndpoints] = {}
        self._since: dict[Key, dict[Place, tuple[Health, float]]] = {}

    def look(self, endpoints: Endpoints, now: float) -> None:
        for key, found in endpoints.by_service.items():
            if self._seen.get(key) is not found:
                self._seen[key] = found
                self._since[key] = _dated(found, self._since.get(key, {}), now)
        for key in self._seen.keys() - endpoints.by_service.keys():
            del self._seen[key], self._since[key]

    def since(self, service: Key, port: int, endpoint: Endpoint) -> float | None:
        found = self._since.get(service, {}).get((port, endpoint.address, endpoint.port))
        return found[1] if found else None


def _dated(
    found: ServiceEndpoints, before: dict[Place, tuple[Health, float]], now: float
) -> dict[Place, tuple[Health, float]]:
    dated = {}
    for port, members in found.by_port.items():
        for member in members:
            place = (port, member.address, member.port)
            known = before.get(place)
            dated[place] = known if known is not None and known[0] is member.health else (member.health, now)
    return dated
