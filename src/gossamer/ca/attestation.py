"""How a host that has no join token proves what it is: by evidence that somebody else vouches for.

One interface for all kinds of it. Invariant: what is believed of a host comes from verified evidence and from rules of
the mesh's own; nothing that the host says of itself is among it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from gossamer.ca.spiffe import check_host
from gossamer.ca.tokens import Grant, HostRecord
from gossamer.core.errors import IdentityError

_LONGEST_PART = 22
_DIGITS = 16
"""Enough that nobody makes keys until he has another's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a host shows: of which kind, and the token itself."""

    kind: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What evidence proves. `subject` is whom its issuer speaks of, `instance` what tells several hosts of one subject
    apart (empty: nothing does, and each key is a host of its own)."""

    attestor: str
    subject: str
    grants: tuple[Grant, ...]
    digest: str
    """Of what the issuer signed: the same for the same token, however its signature is spelt."""
    expires: datetime
    lifetime: timedelta
    """How long it is believed."""
    instance: str = ""
    label: str = ""
    """What the host is called among people, in part: a pod's name."""
    reuse: bool = False

    def host_of(self, key: str) -> str:
        """The name of the host that shows this with the key of this fingerprint."""
        told_apart = hashlib.sha256(f"{self.attestor} {self.subject} {self.instance or key}".encode()).hexdigest()[
            :_DIGITS
        ]
        parts = (self.attestor[:_LONGEST_PART], self.label[:_LONGEST_PART].replace(".", "-"), told_apart)
        return check_host("-".join(part.strip("-") for part in parts if part))


class Attest(Protocol):
    """Verifies evidence. TokenError if it is refused, UnavailableError if that cannot be known now."""

    def __call__(self, evidence: Evidence) -> Awaitable[Attested]: ...


def attested_host(attested: Attested, known: HostRecord | None, host: str, key: str, now: datetime) -> HostRecord:
    """The record of a host that joins by evidence. IdentityError if it was revoked: that is for people to take back."""
    if known is not None and known.revoked:
        raise IdentityError(f"host {host} ({attested.subject}) was revoked")
    if known is not None and (known.attestor, known.subject) != (attested.attestor, attested.subject):
        raise IdentityError(f"there is a host {host} already, by {known.how}")
    return HostRecord(
        host=host,
        grants=attested.grants,
        keys=(key,),
        token=attested.digest,
        joined=now,
        renewed=now,
        attestor=attested.attestor,
        subject=attested.subject,
        lifetime=attested.lifetime,
    )
