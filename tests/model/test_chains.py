"""Chains of one listener do not overlap."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from gossamer.model.chains import Taken, untaken
from gossamer.model.view import Chain


def triples(chain: Chain) -> set[tuple[str, str, str]]:
    return set(product(chain.server_names or ("",), chain.subnets or ("",), chain.sources or ("",)))


CHAINS = st.builds(
    lambda names, subnets, sources: Chain(server_names=names, subnets=subnets, sources=sources),
    *(st.lists(st.sampled_from(parts), max_size=2).map(tuple) for parts in (("a", "b"), ("1", "2"), ("x", "y"))),
)


@given(st.lists(CHAINS, max_size=5))
def test_every_connection_is_the_first_chains_that_wants_it(chains: list[Chain]) -> None:
    taken: Taken = set()
    wanted: set[tuple[str, str, str]] = set()
    for chain in chains:
        parts = list(untaken(chain, taken))
        given_out = [triple for part in parts for triple in triples(part)]
        assert len(given_out) == len(set(given_out))
        assert set(given_out) == triples(chain) - wanted
        wanted |= triples(chain)
    assert taken == wanted
