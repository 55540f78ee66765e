"""The steps of the tour, in their order: each a function of the scene that returns a report.

What was measured is one thing and what it means another: a step gathers, a pure `report` judges, and tests give the
latter measurements by hand.
"""

from __future__ import annotations

from typing import Final

from gossamer.cli.tour.report import Step
from gossamer.cli.tour.steps import canary, control_plane, deny, edits, fault, instance, mtls, routing

STEPS: Final = (
    Step(title="Mutual TLS", run=mtls.tour_mtls),
    Step(title="Canary by weight", run=canary.tour_canary),
    Step(title="Routing by header", run=routing.tour_routing),
    Step(title="Fault and timeout", run=fault.tour_fault),
    Step(title="Denial by policy", run=deny.tour_deny),
    Step(title="Instance killed", run=instance.tour_instance),
    Step(title="Control plane killed", run=control_plane.tour_control_plane),
    Step(title="Live edits", run=edits.tour_edits),
)
