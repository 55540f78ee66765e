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

Invariant: nothing that a workload sends leaves its namespace by itself: what is not redirected is dropped, so a rule
that is missing or an Envoy that is down fails closed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    Cmp,
    Meta,
    nft_chain_msg,
    nft_rule_msg,
    nft_table_msg,
)

_INET: Final = 1
_NETLINK_NETFILTER: Final = 12
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NLMSG_ERROR: Final = 2
_REGISTER: Final = 1
_VERDICT_REGISTER: Final = 0
_ACCEPT, _DROP = 1, 0
_DNAT_PRIORITY: Final = -100
_HOOKS: Final = {"prerouting": 0, "input": 1, "output": 3}
_CT_STATUS: Final = 2
_STATUS_DNAT: Final = 1 << 5

Expression = dict[str, Any]


def _expression(name: str, data: object) -> Expression:
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", data)]}


def _attributes(prefix: str, **values: object) -> dict[str, Any]:
    return {"attrs": [(f"NFTA_{prefix}_{key.upper()}", value) for key, value in values.items()]}


def _value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _equals(data: bytes, operation: Cmp = Cmp.NFT_CMP_EQ) -> Expression:
    return _expression("cmp", _attributes("CMP", sreg=_REGISTER, op=operation, data=_value(data)))


def meta(key: Meta, data: bytes) -> tuple[Expression, ...]:
    """Match a packet's metadata."""
    return (_expression("meta", _attributes("META", key=key, dreg=_REGISTER)), _equals(data))


def interface(key: Meta, name: str) -> tuple[Expression, ...]:
    return meta(key, name.encode().ljust(16, b"\0"))


def protocol(number: int) -> tuple[Expression, ...]:
    return meta(Meta.NFT_META_L4PROTO, bytes([number]))


def destination_port(port: int) -> tuple[Expression, ...]:
    payload = _attributes("PAYLOAD", dreg=_REGISTER, base=2, offset=2, len=2)
    return (_expression("payload", payload), _equals(struct.pack("!H", port)))


def connection(key: int, mask: int) -> tuple[Expression, ...]:
    """Match when any bit of `mask` is set in the connection's state or status."""
    bits = struct.pack("=I", mask)
    return (
        _expression("ct", _attributes("CT", key=key, dreg=_REGISTER)),
        _expression(
            "bitwise",
            _attributes(
                "BITWISE", sreg=_REGISTER, dreg=_REGISTER, len=4, mask=_value(bits), xor=_value(struct.pack("=I", 0))
            ),
        ),
        _equals(struct.pack("=I", 0), Cmp.NFT_CMP_NEQ),
    )


def verdict(code: int) -> tuple[Expression, ...]:
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return (_expression("immediate", _attributes("IMMEDIATE", dreg=_VERDICT_REGISTER, data=data)),)


def redirect(port: int) -> tuple[Expression, ...]:
    load = _attributes("IMMEDIATE", dreg=_REGISTER, data=_value(struct.pack("!H", port)))
    return (
        _expression("immediate", load),
        _expression("redir", _attributes("REDIR", reg_proto_min=_REGISTER)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    name: str
    kind: str
    hook: str
    priority: int
    policy: int = _ACCEPT
    rules: tuple[tuple[Expression, ...], ...] = ()


@dataclass(slots=True)
class _Batch:
    """Messages of one transaction: all of them take effect, or none."""

    table: str
    data: bytearray = field(default_factory=bytearray)
    sequence: int = 0

    def add(self, message: Any, kind: int, flags: int) -> None:
        self.sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = NLM_F_REQUEST | flags
        message["header"]["sequence_number"] = self.sequence
        message.encode()
        self.data += message.data

    def bound(self, kind: int) -> None:
        message = nfgen_msg()
        message["res_id"] = socket.htons(NFNL_SUBSYS_NFTABLES)
        self.add(message, kind, 0)

    def change(self, message: Any, kind: int, attributes: list[tuple[str, Any]], flags: int) -> None:
        message["nfgen_family"] = _INET
        message["attrs"] = attributes
        self.add(message, NFNL_SUBSYS_NFTABLES << 8 | kind, flags | NLM_F_ACK)


def workload_chains(outbound_port: int, inbound_port: int, dns_port: int) -> tuple[Chain, ...]:
    """The chains in the module's docstring."""
    tcp, udp = protocol(socket.IPPROTO_TCP), protocol(socket.IPPROTO_UDP)
    outward = interface(Meta.NFT_META_OIFNAME, "lo") + verdict(_ACCEPT)
    inward = interface(Meta.NFT_META_IIFNAME, "lo") + verdict(_ACCEPT)
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
            policy=_DROP,
            rules=(
                outward,
                connection(_CT_STATUS, _STATUS_DNAT) + verdict(_ACCEPT),
                # neighbour discovery, without which no link that is added later could carry an answer
                protocol(socket.IPPROTO_ICMPV6) + verdict(_ACCEPT),
            ),
        ),
        Chain(
            name="only_envoy",
            kind="filter",
            hook="input",
            priority=0,
            policy=_DROP,
            rules=(
                inward,
                connection(_CT_STATUS, _STATUS_DNAT) + verdict(_ACCEPT),
                protocol(socket.IPPROTO_ICMP) + verdict(_ACCEPT),
                protocol(socket.IPPROTO_ICMPV6) + verdict(_ACCEPT),
            ),
        ),
    )


def load_table(name: str, chains: Iterable[Chain]) -> None:
    """Write a table of family `inet` into this thread's network namespace, in one transaction.

    OSError with the kernel's reason if it refuses any of it.
    """
    batch = _Batch(name)
    batch.bound(_BATCH_BEGIN)
    batch.change(nft_table_msg(), NFT_MSG_NEWTABLE, [("NFTA_TABLE_NAME", name)], NLM_F_CREATE | NLM_F_EXCL)
    for chain in chains:
        _add_chain(batch, chain)
    batch.bound(_BATCH_END)
    _send(batch)


def drop_table(name: str) -> None:
    """Delete a table; nothing if there is none. OSError if the kernel refuses."""
    batch = _Batch(name)
    batch.bound(_BATCH_BEGIN)
    batch.change(nft_table_msg(), NFT_MSG_DELTABLE, [("NFTA_TABLE_NAME", name)], 0)
    batch.bound(_BATCH_END)
    try:
        _send(batch)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _add_chain(batch: _Batch, chain: Chain) -> None:
    hook = {"attrs": [("NFTA_HOOK_HOOKNUM", _HOOKS[chain.hook]), ("NFTA_HOOK_PRIORITY", chain.priority)]}
    attributes = [
        ("NFTA_CHAIN_TABLE", batch.table),
        ("NFTA_CHAIN_NAME", chain.name),
        ("NFTA_CHAIN_HOOK", hook),
        ("NFTA_CHAIN_POLICY", chain.policy),
        ("NFTA_CHAIN_TYPE", chain.kind),
    ]
    batch.change(nft_chain_msg(), NFT_MSG_NEWCHAIN, attributes, NLM_F_CREATE | NLM_F_EXCL)
    for rule in chain.rules:
        attributes = [
            ("NFTA_RULE_TABLE", batch.table),
            ("NFTA_RULE_CHAIN", chain.name),
            ("NFTA_RULE_EXPRESSIONS", list(rule)),
        ]
        batch.change(nft_rule_msg(), NFT_MSG_NEWRULE, attributes, NLM_F_CREATE | 0x800)


def _send(batch: _Batch) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        netlink.settimeout(5)
        netlink.bind((0, 0))
        netlink.sendall(bytes(batch.data))
        wanted = batch.sequence - 2  # one answer for each message between the bounds
        while wanted > 0:
            data = netlink.recv(1 << 16)
            while len(data) >= 20:
                length, kind, _, _, _, number = struct.unpack_from("=IHHIIi", data)
                if kind == _NLMSG_ERROR:
                    if number:
                        raise OSError(-number, f"nftables: {os.strerror(-number)}")
                    wanted -= 1
                data = data[(length + 3) & ~3 :]
