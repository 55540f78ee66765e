"""References from one namespace into another.

Invariant: without a ReferenceGrant of the namespace that is referred to, there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from gossamer.api.gateway_api.reference_grant import ReferenceGrant
from gossamer.api.resource import Resource


class Reference(Protocol):
    """A reference to an object."""

    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...


def is_granted(
    grants: Iterable[Resource[ReferenceGrant]], source: tuple[str, str, str], reference: Reference, namespace: str
) -> bool:
    """Whether an object of `source` (group, kind, namespace) may refer to this one in `namespace`."""
    if source[2] == namespace:
        return True
    return any(
        any((one.group, one.kind, one.namespace) == source for one in grant.spec.from_)
        and any(
            (one.group, one.kind) == (reference.group, reference.kind) and one.name in ("", reference.name)
            for one in grant.spec.to
        )
        for grant in grants
        if grant.namespace == namespace
    )
