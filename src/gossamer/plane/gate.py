"""The judge before the door: new versions of EnvoyFilters and extensions are tried on Envoy, and the guilty found.

Invariant: a broken patch hurts nobody but its own resource. Judging waits for nothing on the way of a push, and ends:
the number of trials is bounded by the number of new versions and of their patches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from gossamer.api.config import Config
from gossamer.api.envoy_filter import EnvoyFilter
from gossamer.compile.patches.check import check_envoy_filter
from gossamer.core.diagnostics import Diagnostic, Severity, diagnostic_about
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.model.modules import Modules
from gossamer.plane.admission import (
    REFUSED,
    Admission,
    Candidate,
    Candidates,
    Refusal,
    kept,
    unjudged,
    with_candidates,
)
from gossamer.plane.envoy_check import EnvoyCheck, EnvoyUnavailableError, Trial

_LOG = logging.getLogger(__name__)

Trials = Callable[[Config, Modules], Iterator[tuple[Trial, Trial]]]
"""What Envoy is shown of a configuration, each beside the same without what users change."""
_PATCHES: Final = 32
"""Patches of a refused EnvoyFilter that are looked through for the guilty one."""
STAYS: Final = "; as long as this is not resolved, the last version that Envoy took stays in use"


class Gate:
    """Judges with one Envoy."""

    def __init__(self, check: EnvoyCheck, trials: Trials) -> None:
        self._check = check
        self._trials = trials

    async def judge(self, config: Config, wanted: Candidates, admission: Admission) -> Admission:
        """The admission after everything that is asked for has been judged."""
        before = kept(admission, wanted)
        new = {one.resource.id: one for one in unjudged(wanted, before)}
        refused = dict(before.refused)
        for id_, candidate in list(new.items()):
            found = _static_errors(candidate)
            if found is not None:
                refused[id_] = Refusal(candidate=candidate, diagnostic=found)
                del new[id_]
        try:
            taken = await self._taken(config, before.taken, new, refused)
        except EnvoyUnavailableError as error:
            doubts = tuple(_doubt(one, str(error)) for one in new.values())
            return Admission(
                taken=FrozenMap({**before.taken, **new}),
                refused=FrozenMap({id_: one for id_, one in refused.items() if id_ not in new}),
                doubts=doubts,
            )
        return Admission(
            taken=FrozenMap(taken),
            refused=FrozenMap({id_: one for id_, one in refused.items() if taken.get(id_) != wanted[id_]}),
        )

    async def _taken(
        self, config: Config, before: Candidates, new: Candidates, refused: dict[ResourceId, Refusal]
    ) -> dict[ResourceId, Candidate]:
        everything = {**before, **new}
        if not await self._said(config, everything):
            return everything
        taken: dict[ResourceId, Candidate] = dict(before) if new else {}
        if new and before and await self._said(config, before):
            taken = {}  # what was taken once does not fit what has changed around it
        for id_, candidate in everything.items():
            if taken.get(id_) == candidate:
                continue
            said = await self._said(config, {**taken, id_: candidate})
            if not said:
                taken[id_] = candidate
            else:
                guilty = await self._guilty_patch(config, taken, candidate)
                refused[id_] = Refusal(candidate=candidate, diagnostic=_refusal(candidate, said, guilty, before))
        return taken

    async def _said(self, config: Config, used: Candidates) -> str:
        """What Envoy has against a configuration with these; empty if it takes it. What it says without them too is
        nobody's fault here."""
        try:
            for trial, plain in self._trials(*with_candidates(config, used)):
                await asyncio.sleep(0)
                said = await self._check.judge(trial)
                if said and said != await self._check.judge(plain):
                    return said
        except EnvoyUnavailableError:
            raise
        except Exception:
            _LOG.exception("trial-failed", extra={"resources": sorted(str(id_) for id_ in used)})
            return "it cannot be compiled; the control plane's log says why"  # an error of ours must not reach proxies
        return ""

    async def _guilty_patch(self, config: Config, taken: Candidates, candidate: Candidate) -> int | None:
        """The patch without which Envoy takes the resource; None if that is not one patch."""
        spec = candidate.resource.spec
        if not isinstance(spec, EnvoyFilter) or len(spec.config_patches) > _PATCHES:
            return None
        if len(spec.config_patches) == 1:
            return 0
        for index in range(len(spec.config_patches)):
            patches = (*spec.config_patches[:index], *spec.config_patches[index + 1 :])
            resource = replace(candidate.resource, spec=replace(spec, config_patches=patches))
            if not await self._said(config, {**taken, resource.id: Candidate(resource=resource)}):
                return index
        return None


def _static_errors(candidate: Candidate) -> Diagnostic | None:
    if not isinstance(candidate.resource.spec, EnvoyFilter):
        return None
    errors = (one for one in check_envoy_filter(candidate.resource) if one.is_error)
    return next(errors, None)


def _refusal(candidate: Candidate, said: str, patch: int | None, before: Candidates) -> Diagnostic:
    resource = candidate.resource
    stays = STAYS if resource.id in before else ""
    path = "" if patch is None else f"spec.configPatches[{patch}]"
    return diagnostic_about(resource.id, REFUSED, path, f"Envoy refuses this: {said}{stays}", severity=Severity.ERROR)


def _doubt(candidate: Candidate, why: str) -> Diagnostic:
    message = f"Envoy could not be asked whether it takes this: {why}"
    return diagnostic_about(candidate.resource.id, "envoy-not-asked", "", message)
