"""Tables of nftables, written over netlink in one transaction each; the library has the messages, not the rules.

Invariant: a table is there whole or not at all.
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
ACCEPT: Final = 1
DROP: Final = 0
_HOOKS: Final = {"prerouting": 0, "input": 1, "output": 3}
_OWNED: Final = 2
"""The table belongs to the socket that made it."""

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
    policy: int = ACCEPT
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


def load_table(name: str, chains: Iterable[Chain]) -> None:
    """Write a table of family `inet` into this thread's network namespace, in one transaction.

    OSError with the kernel's reason if it refuses any of it.
    """
    with _open() as netlink:
        _send(netlink, _whole_table(name, chains, 0))


def hold_table(name: str, chains: Iterable[Chain]) -> socket.socket:
    """Like `load_table`, but the kernel drops the table when the returned socket is closed, by a kill too.

    Needs Linux 5.12: OSError before.
    """
    netlink = _open()
    try:
        _send(netlink, _whole_table(name, chains, _OWNED))
    except BaseException:
        netlink.close()
        raise
    return netlink


def _whole_table(name: str, chains: Iterable[Chain], flags: int) -> _Batch:
    batch = _Batch(name)
    batch.bound(_BATCH_BEGIN)
    attributes = [("NFTA_TABLE_NAME", name), ("NFTA_TABLE_FLAGS", flags)]
    batch.change(nft_table_msg(), NFT_MSG_NEWTABLE, attributes, NLM_F_CREATE | NLM_F_EXCL)
    for chain in chains:
        _add_chain(batch, chain)
    batch.bound(_BATCH_END)
    return batch


def drop_table(name: str) -> None:
    """Delete a table; nothing if there is none. OSError if the kernel refuses."""
    batch = _Batch(name)
    batch.bound(_BATCH_BEGIN)
    batch.change(nft_table_msg(), NFT_MSG_DELTABLE, [("NFTA_TABLE_NAME", name)], 0)
    batch.bound(_BATCH_END)
    try:
        with _open() as netlink:
            _send(netlink, batch)
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


def _open() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    netlink.settimeout(5)
    netlink.bind((0, 0))
    return netlink


def _send(netlink: socket.socket, batch: _Batch) -> None:
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
