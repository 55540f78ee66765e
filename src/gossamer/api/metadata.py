"""Who a resource is: its `metadata`.

Invariant: names and namespaces are those that Kubernetes would take, and the default namespace is written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.rules.common import check
from gossamer.api.structure import closest, describe
from gossamer.core.frozen import EMPTY, FrozenMap

DEFAULT_NAMESPACE: Final = "default"
_FIELDS: Final = (
    "name", "namespace", "labels", "annotations", "creationTimestamp", "generateName", "uid", "resourceVersion",
    "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields",
    "selfLink",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """`namespace` is empty for kinds that have none; `creation` is RFC 3339 in UTC, empty when not written."""

    name: str
    namespace: str
    labels: FrozenMap[str, str] = EMPTY
    annotations: FrozenMap[str, str] = EMPTY
    creation: str = ""


def read_metadata(raw: Any, at: At, *, namespaced: bool) -> Metadata | None:
    """The metadata of a resource, with errors said at `at`; None when they leave open which resource this is."""
    if not isinstance(raw, dict):
        at.error("required", "Required value: metadata with a name must be set")
        return None
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        given = "" if name is None else f", not {describe(name)}"
        hint = "names are given here, not generated" if raw.get("generateName") else ""
        at["name"].error("required", f"Required value: metadata.name must be a string{given}", hint)
        return None
    namespace = raw.get("namespace")
    if namespace is None or namespace == "":
        namespace = DEFAULT_NAMESPACE
    if not isinstance(namespace, str):
        at["namespace"].error("invalid-type", f"expected a string, not {describe(namespace)}")
        return None
    for key in raw:
        if key not in _FIELDS:
            at[key].error("unknown-field", f'unknown field "{key}"', closest(key, _FIELDS), on_key=True)
    check(names.object_name_problem(name), at["name"], "invalid-name")
    if namespaced:
        check(names.namespace_problem(namespace), at["namespace"], "invalid-name")
    return Metadata(
        name=name,
        namespace=namespace if namespaced else "",
        labels=_read_map(raw.get("labels"), at["labels"], labels=True),
        annotations=_read_map(raw.get("annotations"), at["annotations"], labels=False),
        creation=_read_time(raw.get("creationTimestamp"), at["creationTimestamp"]),
    )


def _read_map(raw: Any, at: At, *, labels: bool) -> FrozenMap[str, str]:
    if not raw:
        return EMPTY
    if not isinstance(raw, Mapping):
        at.error("invalid-type", f"expected a mapping, not {describe(raw)}")
        return EMPTY
    found: dict[str, str] = {}
    for key, value in raw.items():
        if value is None:
            found[key] = ""
        elif not isinstance(value, str):
            at[key].error("invalid-type", f"expected a string, not {describe(value)}", "put it in quotes")
        elif not labels or check(names.label_problem(key, value), at[key], "invalid-label"):
            found[key] = value
    return FrozenMap(found)


def _read_time(raw: Any, at: At) -> str:
    if raw is None:
        return ""
    try:
        moment = datetime.fromisoformat(raw)
        utc = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        at.error("invalid-value", f"{describe(raw)} is not a time, such as 2026-01-31T12:00:00Z")
        return ""
    return utc.isoformat().replace("+00:00", "Z")
