"""Answers questions about endpoints: what the control plane holds, what agents reported, put together when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gossamer.core.errors import UsageError
from gossamer.core.resources import Resources
from gossamer.model.proxy import Proxy
from gossamer.plane.ages import Ages
from gossamer.plane.pipeline import Pipeline
from gossamer.sources.ejections import Ejections
from gossamer.sources.registry import Registration

Registrations = Mapping[tuple[str, str], Registration]


@dataclass(slots=True, kw_only=True)
class EndpointReports:
    """`answer` is one question's; `look` keeps endpoints' ages."""

    pipeline: Pipeline
    registrations: Callable[[], Registrations]
    ejections: Ejections = field(default_factory=Ejections)
    ages: Ages = field(default_factory=Ages)

    def look(self) -> None:
        """Take note of a new build."""
        if self.pipeline.built is not None:
            self.ages.look(self.pipeline.built[1], time.monotonic())

    def answer(self, service: str, caller: str = "") -> list[dict[str, Any]]:
        """Rows for every endpoint of the services of this name, as all registered callers see them, or one
        (`namespace/name`). UsageError where there is no such service or caller."""
        if self.pipeline.built is None:
            return []
        # it simulates: nothing that a control plane needs to start
        from gossamer.plane.explain_endpoints import Known, explain, find_services  # noqa: PLC0415

        mesh, endpoints = self.pipeline.built
        found = find_services(mesh, service)
        if not found:
            raise UsageError(f"the mesh has no service {service!r}; name it as in gossamer endpoints NAME.NAMESPACE")
        now = time.monotonic()
        known = Known(
            mesh=mesh,
            endpoints=endpoints,
            registrations=self.registrations(),
            ejections=self.ejections.current(now),
            ages=self.ages,
            now=now,
        )
        told = tuple(self._told(caller))
        return [row for one in found for row in explain(one, known, told)]

    def _told(self, caller: str) -> Iterable[tuple[Proxy, Resources]]:
        proxies = [entry.proxy for entry in self.registrations().values()]
        if caller:
            proxies = [proxy for proxy in proxies if caller in (f"{proxy.namespace}/{proxy.name}", proxy.name)]
            if not proxies:
                raise UsageError(f"no workload {caller!r} is registered; gossamer proxy list names those that are")
        for proxy in proxies:
            resources = self.pipeline.resources(proxy)
            if resources is not None:
                yield proxy, resources
