"""What Envoy has to be shown before a proxy's changes are let out: the changed resources, and what they need around
them.

Invariant: it costs what was changed, however large the mesh is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, EXTENSION, LISTENER, ROUTE, TYPES, Resource, Resources, Table

MOST: Final = 200
"""Resources of a type that are shown at most: what is wrong with one is wrong with its likes."""


def trial_of(plain: Resources, changed: Resources) -> Resources | None:
    """Those resources of `changed` that differ from `plain`, with what they refer to; None if nothing differs."""
    found: dict[str, dict[str, Resource]] = {type_url: {} for type_url in TYPES}
    for type_url in TYPES:
        for resource in _differing(plain.of_type(type_url), changed.of_type(type_url)):
            if len(found[type_url]) < MOST:
                found[type_url][resource.name] = resource
    if not any(found.values()):
        return None
    for listener in _holders(found[ROUTE], found[LISTENER], changed):
        found[LISTENER][listener.name] = listener
    for resource in (*found[LISTENER].values(), *found[ROUTE].values(), *found[EXTENSION].values()):
        for type_url in (CLUSTER, EXTENSION):
            for name in sorted(ref.name for ref in resource.references or () if ref.type_url == type_url):
                needed = changed.get(type_url, name)
                if needed is not None:
                    found[type_url].setdefault(name, needed)
    return Resources(tables=FrozenMap({kind: (Table(kind, group.values()),) for kind, group in found.items() if group}))


def unchanged_of(trial: Resources, plain: Resources) -> Resources:
    """The resources of a trial as they are without what users change."""
    found = {
        type_url: [one for name in table if (one := plain.get(type_url, name)) is not None]
        for type_url, tables in trial.tables.items()
        for table in tables
    }
    return Resources(tables=FrozenMap({kind: (Table(kind, group),) for kind, group in found.items() if group}))


def _differing(plain: tuple[Table, ...], changed: tuple[Table, ...]) -> Iterator[Resource]:
    known = {id(table) for table in plain}
    before: dict[str, Resource] = {}
    for table in plain:
        before.update(table)
    for table in changed:
        if id(table) not in known:
            yield from (resource for name, resource in table.items() if before.get(name) != resource)


def _holders(routes: Iterable[str], listeners: dict[str, Resource], changed: Resources) -> Iterator[Resource]:
    """For every route table a listener that serves it: Envoy reads routes only where they are served."""
    missing = set(routes)
    for listener in listeners.values():
        missing -= {ref.name for ref in listener.references or () if ref.type_url == ROUTE}
    for listener in changed.all_of(LISTENER) if missing else ():
        served = missing & {ref.name for ref in listener.references or () if ref.type_url == ROUTE}
        if served:
            missing -= served
            yield listener
