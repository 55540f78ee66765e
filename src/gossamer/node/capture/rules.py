"""The nftables rules that bring a workload's traffic to its Envoy, written over netlink.

The rules of a workload's namespace, as `nft` would print them (`inet`: IPv4 and IPv6 alike):

    chain redirect_output { type nat hook output priority -100;
        oifname "lo" accept                    # the workload talking to itself, Envoy talking to the workload
        udp dport 53 redirect to :15053
        tcp dport 53 redirect to :15053
        meta l4proto tcp redirect to :15001 }
    chain redirect_input { type nat hook prerouting priority -100;
        iifname "lo" accept
        meta l4proto tcp redirect to :15006 }
    chain only_redirected { type filter hook output priority 0; policy drop;
        oifname "lo" accept
        ct status dnat accept                  # what was redirected; its first route still names the link
        meta l4proto ipv6-icmp accept }
    chain only_envoy { type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct status dnat accept
        meta l4proto icmp accept
        meta l4proto ipv6-icmp accept }

Where processes that run already are captured by their user instead, the same is said of what that user sends, on the
host's own network, and of the ports that it serves (`host_chains`).

Invariant: nothing that a workload sends leaves its namespace by itself: what is not redirected is dropped, so a rule
that is missing or an Envoy that is down fails closed.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from pyroute2.netlink.nfnetlink.nftsocket import Meta

from gossamer.node.capture.nftables import (
    ACCEPT,
    DROP,
    Chain,
    Expression,
    connection,
    destination_port,
    interface,
    meta,
    protocol,
    redirect,
    verdict,
)

_DNAT_PRIORITY: Final = -100
_CT_STATE: Final = 0
_CT_STATUS: Final = 2
_STATUS_DNAT: Final = 1 << 5
_ESTABLISHED_RELATED: Final = 2 | 4


def workload_chains(outbound_port: int, inbound_port: int, dns_port: int) -> tuple[Chain, ...]:
    """The chains in the module's docstring."""
    tcp, udp = protocol(socket.IPPROTO_TCP), protocol(socket.IPPROTO_UDP)
    outward = interface(Meta.NFT_META_OIFNAME, "lo") + verdict(ACCEPT)
    inward = interface(Meta.NFT_META_IIFNAME, "lo") + verdict(ACCEPT)
    return (
        Chain(
            name="redirect_output",
            kind="nat",
            hook="output",
            priority=_DNAT_PRIORITY,
            rules=(
                outward,
                udp + destination_port(53) + redirect(dns_port),
                tcp + destination_port(53) + redirect(dns_port),
                tcp + redirect(outbound_port),
            ),
        ),
        Chain(
            name="redirect_input",
            kind="nat",
            hook="prerouting",
            priority=_DNAT_PRIORITY,
            rules=(inward, tcp + redirect(inbound_port)),
        ),
        Chain(
            name="only_redirected",
            kind="filter",
            hook="output",
            priority=0,
            policy=DROP,
            rules=(
                outward,
                connection(_CT_STATUS, _STATUS_DNAT) + verdict(ACCEPT),
                # neighbour discovery, without which no link that is added later could carry an answer
                protocol(socket.IPPROTO_ICMPV6) + verdict(ACCEPT),
            ),
        ),
        Chain(
            name="only_envoy",
            kind="filter",
            hook="input",
            priority=0,
            policy=DROP,
            rules=(
                inward,
                connection(_CT_STATUS, _STATUS_DNAT) + verdict(ACCEPT),
                protocol(socket.IPPROTO_ICMP) + verdict(ACCEPT),
                protocol(socket.IPPROTO_ICMPV6) + verdict(ACCEPT),
            ),
        ),
    )


def host_chains(
    uids: tuple[int, ...], ports: tuple[int, ...], outbound_port: int, inbound_port: int, dns_port: int
) -> tuple[Chain, ...]:
    """Chains for the host's own network: what users `uids` send, and what comes to the TCP `ports` that they serve.

    What these users send otherwise is dropped, but for answers and for the host itself; nobody from outside reaches
    Envoy's own ports but by being redirected.
    """
    tcp, udp = protocol(socket.IPPROTO_TCP), protocol(socket.IPPROTO_UDP)
    outward = interface(Meta.NFT_META_OIFNAME, "lo") + verdict(ACCEPT)
    redirected = connection(_CT_STATUS, _STATUS_DNAT) + verdict(ACCEPT)
    sent: list[tuple[Expression, ...]] = []
    kept: list[tuple[Expression, ...]] = []
    for uid in uids:
        who = meta(Meta.NFT_META_SKUID, struct.pack("=I", uid))
        # before loopback is left alone: the host's resolver may be there
        sent += [who + udp + destination_port(53) + redirect(dns_port)]
        sent += [who + outward, who + tcp + redirect(outbound_port)]
        kept += [who + outward, who + redirected]
        kept += [who + connection(_CT_STATE, _ESTABLISHED_RELATED) + verdict(ACCEPT), who + verdict(DROP)]
    inward = interface(Meta.NFT_META_IIFNAME, "lo") + verdict(ACCEPT)
    served = [tcp + destination_port(port) + redirect(inbound_port) for port in ports]
    own = [
        kind + destination_port(port) + verdict(DROP)
        for kind, port in ((tcp, outbound_port), (tcp, inbound_port), (udp, dns_port))
    ]
    return (
        Chain(name="redirect_output", kind="nat", hook="output", priority=_DNAT_PRIORITY, rules=tuple(sent)),
        Chain(name="redirect_input", kind="nat", hook="prerouting", priority=_DNAT_PRIORITY, rules=(inward, *served)),
        Chain(name="only_redirected", kind="filter", hook="output", priority=0, rules=tuple(kept)),
        Chain(name="only_envoy", kind="filter", hook="input", priority=0, rules=(inward, redirected, *own)),
    )
