"""Patches of the bootstrap: what an Envoy is started with.

Invariant: an Envoy goes on speaking to its agent, whatever is patched: who it is, its admin socket and where its
configuration comes from stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from gossamer.compile.patches.merge import merge
from gossamer.compile.patches.value import build_value

_OURS: Final = ("node", "admin", "dynamic_resources")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapPatch:
    """One patch: JSON to be merged."""

    value: str
    replace_lists: bool = False


def patch_bootstrap(bootstrap: Bootstrap, patches: Iterable[BootstrapPatch]) -> None:
    """Apply the patches in their order; one that is no Bootstrap changes nothing (`check` says so)."""
    before = Bootstrap()
    before.CopyFrom(bootstrap)
    for patch in patches:
        value = build_value("BOOTSTRAP", patch.value)
        if isinstance(value, Bootstrap):
            merge(bootstrap, value, replace_lists=patch.replace_lists)
    for name in _OURS:
        getattr(bootstrap, name).CopyFrom(getattr(before, name))
