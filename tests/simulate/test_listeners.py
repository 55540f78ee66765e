"""Which listener and which filter chain take a connection."""

from __future__ import annotations

import pytest
from envoy.extensions.filters.http.lua.v3 import lua_pb2 as _lua  # noqa: F401 - ParseDict needs the type

from gossamer.core.resources import Resources
from gossamer.simulate.outcome import Verdict
from gossamer.simulate.request import Address, Arrival
from gossamer.simulate.simulator import simulate
from tests.simulate import build
from tests.simulate.build import (
    ONE,
    Json,
    ask,
    captured,
    chain,
    listener,
    tcp,
)


class TestListeners:
    def capturing(self) -> Resources:
        unbound: Json = {"bind_to_port": False}
        return build.resources(
            listeners=[
                listener(15001, [chain([tcp("any")])], "virtualOutbound", "0.0.0.0", use_original_dst=True),
                listener(80, [chain([tcp("wild")])], address="0.0.0.0", **unbound),
                listener(80, [chain([tcp("exact")])], address="10.1.1.1", **unbound),
                listener(81, [chain([tcp("wild6")])], address="::", **unbound),
                listener(
                    15006,
                    [chain([tcp("in90")], {"destination_port": 90}), chain([tcp("in")])],
                    "virtualInbound",
                    "0.0.0.0",
                    listener_filters=[build.inspector("original_dst")],
                ),
            ],
            clusters=[build.static(name, ONE) for name in ("any", "wild", "exact", "wild6", "in90", "in")],
        )

    @pytest.mark.parametrize(
        ("ip", "port", "cluster"),
        [
            ("10.1.1.1", 80, "exact"),
            ("10.1.1.2", 80, "wild"),
            ("::ffff:10.1.1.1", 80, "exact"),
            ("10.1.1.1", 79, "any"),
            ("2001:db8::1", 81, "wild6"),
            ("2001:db8::1", 80, "any"),
            ("10.1.1.1", 81, "any"),
        ],
    )
    def test_a_captured_connection_is_handed_to_the_listener_of_its_destination(
        self, ip: str, port: int, cluster: str
    ) -> None:
        assert simulate(self.capturing(), captured(port, ip)).cluster == cluster

    @pytest.mark.parametrize(("port", "cluster"), [(90, "in90"), (80, "in")])
    def test_inbound_stays_where_it_is_captured(self, port: int, cluster: str) -> None:
        outcome = simulate(self.capturing(), captured(port, "10.1.1.1", Arrival.INBOUND))
        assert (outcome.listener, outcome.cluster) == ("virtualInbound", cluster)

    def test_what_is_not_bound_cannot_be_dialled(self) -> None:
        outcome = simulate(self.capturing(), captured(80, "10.1.1.1", Arrival.DIRECT))
        assert (outcome.verdict, outcome.reason) == (Verdict.REFUSED, "nothing listens at 10.1.1.1:80")

    def test_nothing_captures(self) -> None:
        assert simulate(build.resources(), captured(80)).reason == "nothing listens for outbound traffic"

    def test_inspectors_that_are_switched_off_see_nothing(self) -> None:
        off = {"not_match": {"or_match": {"rules": [{"destination_port_range": {"start": 80, "end": 81}}] * 2}}}
        chains = [chain([tcp("http")], {"application_protocols": ["http/1.1"]}), chain([tcp("raw")])]
        for disabled, cluster in ((None, "http"), ({"any_match": True}, "raw"), (off, "http")):
            inspector = build.inspector("http") | ({"filter_disabled": disabled} if disabled else {})
            resources = build.resources(
                listeners=[listener(80, chains, listener_filters=[inspector])],
                clusters=[build.static("http", ONE), build.static("raw", ONE)],
            )
            assert ask(resources).cluster == cluster


class TestChains:
    @pytest.mark.parametrize(
        ("source", "ip", "name"),
        [
            ("10.2.0.1", "10.1.0.1", "to-16"),
            ("10.2.0.1", "10.1.1.1", "to-24"),
            ("10.1.2.1", "10.3.0.1", "from-16"),
            ("10.3.0.1", "10.3.0.1", "local"),
            ("127.0.0.1", "10.3.0.1", "local"),
            ("10.2.0.1", "10.3.0.1", "rest"),
        ],
    )
    def test_addresses(self, source: str, ip: str, name: str) -> None:
        def block(prefix: str, bits: int) -> list[Json]:
            return [{"address_prefix": prefix, "prefix_len": bits}]

        wishes: dict[str, Json] = {
            "to-16": {"prefix_ranges": block("10.1.0.0", 16)},
            "to-24": {"prefix_ranges": [*block("10.9.0.0", 16), *block("10.1.1.0", 24)]},
            "from-16": {"source_prefix_ranges": block("10.1.0.0", 16)},
            "local": {"source_type": "SAME_IP_OR_LOOPBACK"},
            "rest": {},
        }
        chains = [chain([tcp("a")], match, found) for found, match in wishes.items()]
        resources = build.resources(
            listeners=[
                listener(15001, chains, "virtualOutbound", "0.0.0.0", use_original_dst=True),
            ],
            clusters=[build.static("a", ONE)],
        )
        request = captured(80, ip, source=Address(ip=source, port=4000))
        assert simulate(resources, request).filter_chain == name

    def test_there_is_no_going_back(self) -> None:
        """A chain for the port exists, so chains without one are out, though none of the port's fits."""
        chains = [
            chain([tcp("a")], {"destination_port": 80, "transport_protocol": "tls"}, "tls-80"),
            chain([tcp("a")], {"transport_protocol": "raw_buffer"}, "plain"),
        ]
        resources = build.resources(
            listeners=[listener(80, chains), listener(81, chains)], clusters=[build.static("a", ONE)]
        )
        refused = ask(resources)
        assert (refused.verdict, refused.filter_chain, refused.flag) == (Verdict.REFUSED, "", "NR")
        assert simulate(resources, build.get(81)).filter_chain == "plain"

    def test_equal_chains_are_said(self) -> None:
        resources = build.resources(
            listeners=[listener(80, [chain([tcp("a")], name="x"), chain([tcp("a")], name="y")])],
            clusters=[build.static("a", ONE)],
        )
        assert "x, y" in ask(resources).notes[0]
