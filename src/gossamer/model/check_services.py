"""What of services does not take effect, for want of others.

Invariant: nothing here stops a resource from working; it says what of it leads nowhere. No diagnostic has a position
yet.
"""

from __future__ import annotations

from gossamer.api.config import Config
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Severity
from gossamer.core.memo import Memo
from gossamer.model.build_services import Services, build_services
from gossamer.model.settings import build_settings


def check_services(config: Config, memo: Memo) -> Diagnostics:
    """What of a configuration's services leads nowhere."""
    settings = memo(build_settings, config.mesh)
    services = memo.keep("", build_services, config.services, config.service_entries, config.namespaces, settings, memo)
    return memo.keep("", _without_target, services)


def _without_target(services: Services) -> Diagnostics:
    """ExternalName services of hosts that the mesh does not have: outside Kubernetes nobody resolves their names."""
    known = {service.hostname for service in services.all}
    return tuple(
        Diagnostic(
            severity=Severity.INFO,
            code="unknown-host",
            message=f"the mesh has no {service.alias_of}: it routes no call to it and answers no lookup of this name",
            kind="Service",
            namespace=service.namespace,
            name=service.name,
            path="spec.externalName",
            hint=f"declare {service.alias_of} with a ServiceEntry",
        )
        for service in services.all
        if service.alias_of and service.alias_of not in known
    )
