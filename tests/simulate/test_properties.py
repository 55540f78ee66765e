"""What must hold of every request: choices do not depend on order, and mean what their rule says."""

from __future__ import annotations

import ipaddress
from random import Random

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.wrappers_pb2 import UInt32Value
from hypothesis import given
from hypothesis import strategies as st

from gossamer.simulate.matchers import happens, prefix_length
from gossamer.simulate.paths import canonical_path
from gossamer.simulate.request import Tls
from gossamer.simulate.simulator import simulate
from tests.simulate import build
from tests.simulate.build import Json, ask, captured, chain, direct, host, listener, serving, table, tcp

LABELS = st.sampled_from(["a", "b", "foo", "bar"])
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
DOMAINS = st.one_of(
    NAMES,
    NAMES.map(lambda name: f"*.{name}"),
    NAMES.map(lambda name: f"*{name}"),
    NAMES.map(lambda name: f"{name}.*"),
    st.just("*"),
)


def best_domain(domains: list[str], name: str) -> str | None:
    """Envoy's documented order, written down anew: exact, longest suffix, longest prefix, any."""

    def fits(domain: str) -> tuple[int, int]:
        if domain == "*":
            return (1, 0)
        if domain.startswith("*"):
            long_enough = name.endswith(domain[1:]) and len(name) >= len(domain)
            return (3, len(domain)) if long_enough else (0, 0)
        if domain.endswith("*"):
            long_enough = name.startswith(domain[:-1]) and len(name) >= len(domain)
            return (2, len(domain)) if long_enough else (0, 0)
        return (4, 0) if domain == name else (0, 0)

    best = max(domains, key=fits, default=None)
    return best if best is not None and fits(best) > (0, 0) else None


@given(st.lists(DOMAINS, unique=True, max_size=8), NAMES)
def test_virtual_hosts(domains: list[str], name: str) -> None:
    resources = serving(table(*(host(domain, [domain], [direct(domain)]) for domain in domains)))
    assert (ask(resources, authority=name).virtual_host or None) == best_domain(domains, name)


BLOCKS = st.tuples(
    st.sampled_from(["10.0.0.0", "10.1.0.0", "10.1.1.0", "10.1.1.1"]), st.sampled_from([0, 8, 16, 24, 32])
)
WISHES = st.fixed_dictionaries(
    {},
    optional={
        "destination_port": st.sampled_from([80, 81]),
        "prefix_ranges": st.lists(
            BLOCKS.map(lambda block: {"address_prefix": block[0], "prefix_len": block[1]}), min_size=1, max_size=2
        ),
        "server_names": st.lists(st.sampled_from(["a.example", "*.example", "b.a.example"]), min_size=1, unique=True),
        "transport_protocol": st.sampled_from(["tls", "raw_buffer"]),
        "application_protocols": st.lists(st.sampled_from(["h2", "http/1.1", "istio"]), min_size=1, unique=True),
    },
)
HELLOS = st.one_of(
    st.none(),
    st.builds(
        lambda name, alpn: Tls(server_name=name, alpn=tuple(alpn)),
        st.sampled_from(["", "a.example", "b.a.example", "c"]),
        st.lists(st.sampled_from(["h2", "http/1.1", "istio"]), unique=True),
    ),
)


@given(
    st.lists(WISHES, max_size=6),
    HELLOS,
    st.sampled_from(["10.1.1.1", "10.1.2.3", "10.9.9.9", "192.0.2.1"]),
    st.randoms(),
)
def test_the_order_of_chains_does_not_matter(wishes: list[Json], tls: Tls | None, ip: str, random: Random) -> None:
    def taken(order: list[tuple[int, Json]]) -> set[str]:
        chains = [chain([tcp("a")], match, f"chain {number}") for number, match in order]
        capture = listener(
            15001,
            chains,
            "virtualOutbound",
            "0.0.0.0",
            use_original_dst=True,
            listener_filters=[build.inspector("tls"), build.inspector("http")],
        )
        resources = build.resources(listeners=[capture], clusters=[build.static("a", build.ONE)])
        outcome = simulate(resources, captured(80, ip, tls=tls))
        twins = {note.partition(": ")[2] for note in outcome.notes if "equal matches" in note}
        return set(twins.pop().split(", ")) if twins else {outcome.filter_chain}

    order = list(enumerate(wishes))
    shuffled = list(order)
    random.shuffle(shuffled)
    assert taken(order) == taken(shuffled)


@given(st.text(alphabet="/.ab%2eE5cC\\", max_size=20))
def test_a_normal_path_stays_as_it_is(path: str) -> None:
    once = canonical_path(f"/{path}")
    assert once.startswith("/")
    assert not {".", ".."} & set(once.split("/"))
    if "%" not in once:  # what is escaped twice is unescaped once
        assert canonical_path(once) == once


@given(st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_a_fraction_happens_as_often_as_it_says(percent: int, chance: float) -> None:
    fraction = FractionalPercent(numerator=percent, denominator=FractionalPercent.HUNDRED)
    assert happens(fraction, chance) == (int(chance * 100) < percent)


Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_mapped(address: Ip) -> bool:
    """Whether it is an IPv4 address in IPv6's clothes, which counts as the IPv4 address."""
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


PLAIN_IPS = st.ip_addresses().filter(lambda address: not is_mapped(address))


@given(PLAIN_IPS, PLAIN_IPS, st.integers(0, 128))
def test_blocks(address: Ip, network: Ip, length: int) -> None:
    bits = min(length, network.max_prefixlen)
    block = CidrRange(address_prefix=str(network), prefix_len=UInt32Value(value=bits))
    assert prefix_length(block, str(network)) == bits
    inside = prefix_length(block, str(address)) is not None
    assert inside == (address in ipaddress.ip_network(f"{network}/{bits}", strict=False))
