"""GatewayClass: who makes the Gateways of a class.

Invariant: every field of `v1` is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.api.common import STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayClass:
    """`GatewayClass`."""

    __pydantic_config__ = STRICT
    controller_name: str
    parameters_ref: ParametersReference | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersReference:
    """`GatewayClass.parametersRef`."""

    group: str
    kind: str
    name: str
    namespace: str = ""
