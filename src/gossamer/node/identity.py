"""A workload's key and certificates as one value.

The key is made on this host and never leaves it; what is shown or logged of the value never contains it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedCertificate:
    """A private key, the certificates that speak for it, and the roots to verify others by; all PEM.

    `chain_pem` begins with the leaf and goes on with intermediates, without the root; `roots_pem` may hold several
    roots, all of them trusted. Times are those of the leaf, in UTC.
    """

    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    roots_pem: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity(KeyedCertificate):
    """What one sidecar proves itself with."""

    spiffe_id: str
    dns_name: str
