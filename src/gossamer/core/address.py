"""Addresses as people write them."""

from __future__ import annotations

from gossamer.core.errors import UsageError


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` (an IPv6 host stays in its brackets); UsageError if it is none."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{address!r} is not HOST:PORT")
    return host, int(port)
