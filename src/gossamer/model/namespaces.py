"""Which namespaces a label selector means.

Invariant: a namespace that no document declares has one label, its name, as every namespace has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gossamer.api.gateway_api.gateway import LabelSelector, LabelSelectorRequirement, SelectorOperator
from gossamer.api.kubernetes import Namespace
from gossamer.api.resource import Resource
from gossamer.core.frozen import EMPTY, FrozenMap

NAME: Final = "kubernetes.io/metadata.name"
Labels = FrozenMap[str, FrozenMap[str, str]]
"""By namespace."""


def namespace_labels(namespaces: tuple[Resource[Namespace], ...]) -> Labels:
    """The labels of the namespaces that documents declare."""
    return FrozenMap({one.name: one.labels for one in namespaces})


def selects(selector: LabelSelector, namespace: str, labels: Labels) -> bool:
    """Whether a selector means a namespace: all that it says must hold."""
    own = {**labels.get(namespace, EMPTY), NAME: namespace}
    return selector.match_labels.items() <= own.items() and all(
        _holds(requirement, own) for requirement in selector.match_expressions
    )


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.IN:
            return value in requirement.values
        case SelectorOperator.NOT_IN:
            return value not in requirement.values
        case SelectorOperator.EXISTS:
            return value is not None
    return value is None
