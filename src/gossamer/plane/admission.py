"""Which EnvoyFilters and extensions are in force: those that Envoy took, each in the last version that it took.

Invariant: a version that was not judged is told to no proxy. One that was refused leaves the version before it in
force; an extension that has none stands in its chains without its code, and so denies unless it says that it opens on
failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gossamer.api.config import Config
from gossamer.api.document import read_document
from gossamer.api.envoy_filter import EnvoyFilter
from gossamer.api.resource import Resource
from gossamer.api.source_index import SourceIndex
from gossamer.core.diagnostics import Diagnostic, Diagnostics
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.model.extensions import module_key
from gossamer.model.modules import Module, ModuleKey, Modules

KINDS: Final = ("envoy_filters", "wasm_plugins", "traffic_extensions")
"""Of a Config, what Envoy is asked about."""
REFUSED: Final = "envoy-refuses"
"""The code of a diagnostic that tells what Envoy said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A resource, and the module that it would run. `text` is the document that gave it."""

    resource: Resource[Any]
    key: ModuleKey | None = None
    module: Module | None = None
    text: str = field(default="", compare=False, repr=False)


Candidates = Mapping[ResourceId, Candidate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A version that is not used, and why; the diagnostic has no position."""

    candidate: Candidate
    diagnostic: Diagnostic


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What was judged so far. `doubts` are diagnostics about versions that were taken without Envoy's word."""

    taken: FrozenMap[ResourceId, Candidate] = field(default_factory=FrozenMap)
    refused: FrozenMap[ResourceId, Refusal] = field(default_factory=FrozenMap)
    doubts: Diagnostics = ()

    @property
    def diagnostics(self) -> Diagnostics:
        """What is to be said; what is seen without Envoy (`compile.check`) is said there."""
        refusals = (refusal.diagnostic for refusal in self.refused.values())
        return (*(one for one in refusals if one.code == REFUSED), *self.doubts)


def candidates_of(config: Config, modules: Modules, index: SourceIndex) -> dict[ResourceId, Candidate]:
    """All that is asked for."""
    resources = (resource for kind in KINDS for resource in getattr(config, kind))
    return {one.id: candidate_of(one, modules, index[one.id].text if one.id in index else "") for one in resources}


def candidate_of(resource: Resource[Any], modules: Modules, text: str) -> Candidate:
    """A resource with the module that it asks for, if that is there."""
    key = module_key(resource)
    if key is None:
        return Candidate(resource=resource, text=text)
    return Candidate(resource=resource, key=key, module=modules.fetched.get(key), text=text)


def admission_of(texts: Mapping[ResourceId, str]) -> Admission:
    """What an earlier control plane's Envoy took, from the documents that were kept."""
    taken: dict[ResourceId, Candidate] = {}
    for id_, text in texts.items():
        for entry in read_document(text).entries:
            if entry.resource is not None and entry.id == id_:
                taken[id_] = candidate_of(entry.resource, Modules(), text)
    return Admission(taken=FrozenMap(taken))


def unjudged(wanted: Candidates, admission: Admission) -> list[Candidate]:
    """What is asked for and was not judged as it stands."""
    return [
        candidate
        for id_, candidate in wanted.items()
        if admission.taken.get(id_) != candidate
        and not (id_ in admission.refused and admission.refused[id_].candidate == candidate)
    ]


def in_force(config: Config, wanted: Candidates, admission: Admission) -> tuple[Config, Modules]:
    """The configuration with what is in force in the place of what is asked for, and the modules that it runs."""
    used = {id_: admission.taken[id_] for id_ in wanted if id_ in admission.taken}
    broken = {
        id_: admission.refused[id_].candidate
        for id_, candidate in wanted.items()
        if id_ not in used and id_ in admission.refused and not isinstance(candidate.resource.spec, EnvoyFilter)
    }
    return with_candidates(config, {**used, **broken}, frozenset(broken))


def with_candidates(
    config: Config, used: Candidates, broken: frozenset[ResourceId] = frozenset()
) -> tuple[Config, Modules]:
    """The configuration with these candidates and no others."""
    chosen: dict[str, Any] = {
        kind: tuple(used[resource.id].resource for resource in getattr(config, kind) if resource.id in used)
        for kind in KINDS
    }
    fetched = {one.key: one.module for one in used.values() if one.key is not None and one.module is not None}
    return replace(config, **chosen), Modules(fetched=FrozenMap(fetched), broken=broken)


def kept(admission: Admission, wanted: Iterable[ResourceId]) -> Admission:
    """Without what nobody asks for any more."""
    ids = set(wanted)
    return replace(
        admission,
        taken=FrozenMap({id_: one for id_, one in admission.taken.items() if id_ in ids}),
        refused=FrozenMap({id_: one for id_, one in admission.refused.items() if id_ in ids}),
    )
