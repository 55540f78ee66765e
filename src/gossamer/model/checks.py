"""All that is wrong between resources, each of which is well by itself.

Invariant: nothing here has a position; `source_index.placed` gives it the one that is known.
"""

from __future__ import annotations

from gossamer.api.config import Config
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.memo import Memo
from gossamer.model.check_credentials import check_credentials
from gossamer.model.check_destinations import check_destinations
from gossamer.model.check_gateways import check_gateways
from gossamer.model.check_policies import check_policies
from gossamer.model.check_proxies import check_proxies
from gossamer.model.check_routes import check_routes
from gossamer.model.check_selectors import check_selectors
from gossamer.model.check_services import check_services
from gossamer.model.check_sidecars import check_sidecars
from gossamer.model.known import known_workloads
from gossamer.model.service import Workload


def check_resources(config: Config, memo: Memo, running: tuple[Workload, ...] = ()) -> Diagnostics:
    """What of a configuration does not take effect, or not as it was meant; `running` workloads are registered."""
    known = known_workloads(config, running, memo)
    return (
        *check_policies(config),
        *check_proxies(config),
        *check_routes(config, memo),
        *check_destinations(config, memo),
        *check_services(config, memo),
        *check_gateways(config, memo),
        *check_sidecars(config, memo, known),
        *check_credentials(config, memo, known),
        *check_selectors(config, memo, known),
    )
