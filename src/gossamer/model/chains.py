"""What of a chain's connections no chain before it takes.

Invariant: the parts that are given out never overlap in one listener: Envoy refuses all of a listener with two chains
for the same name, network and source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gossamer.model.view import Chain

Taken = set[tuple[str, str, str]]
"""Server names, networks and sources ("" for any) that chains have."""


def untaken(chain: Chain, taken: Taken) -> Iterator[Chain]:
    """The chain, in as few parts as may be, without what is taken; takes the rest."""
    parts: dict[tuple[_Names, _Names], list[str]] = {}
    for name in dict.fromkeys(chain.server_names) or ("",):
        networks: dict[_Names, list[str]] = {}
        for network in dict.fromkeys(chain.subnets) or ("",):
            wanted = dict.fromkeys(chain.sources) or ("",)
            free = tuple(source for source in wanted if (name, network, source) not in taken)
            taken.update((name, network, source) for source in free)
            if free:
                networks.setdefault(free, []).append(network)
        for free, among in networks.items():
            parts.setdefault((tuple(among), free), []).append(name)
    for (subnets, sources), names in parts.items():
        yield replace(chain, server_names=_said(names), subnets=_said(subnets), sources=_said(sources))


_Names = tuple[str, ...]


def _said(names: Iterable[str]) -> _Names:
    return tuple(name for name in names if name)
