"""Who was revoked, and the lists (RFC 5280) by which Envoys refuse the certificates that they have.

Invariant: a revoked name gets no certificate, and each of its certificates that has not ended is on the list; what has
ended is on no list, so lists stay small. A list says that it is current for long: it must not end before what it names
while the control plane is away, since a list that has ended refuses everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from gossamer.ca.certificates import Issuer
from gossamer.ca.issued import Issued
from gossamer.ca.spiffe import HostId, WorkloadId
from gossamer.core.errors import IdentityError

LARGEST: Final = 10_000
"""Certificates on a list: some 400 kB, which every host gets."""
_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----\n?")
CURRENT: Final = timedelta(days=3650)


class Kind(StrEnum):
    WORKLOAD = "workload"
    HOST = "host"
    SERIAL = "serial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One. `name` is `NAMESPACE/NAME`, a host's name or a serial number in hexadecimal digits; `serials` are the
    certificates that it takes with it, with their ends."""

    kind: Kind
    name: str
    when: datetime
    serials: tuple[tuple[int, datetime], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """All of them, by kind and name."""

    entries: tuple[Revocation, ...] = ()
    revised: str = ""
    """Names the last revocation that took certificates with it; taking one back does not change it."""
    _names: frozenset[tuple[Kind, str]] = field(init=False, repr=False, compare=False)
    _serials: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset((entry.kind, entry.name) for entry in self.entries))
        serials = frozenset(serial for entry in self.entries for serial, _ in entry.serials)
        object.__setattr__(self, "_serials", serials)

    def refuses(self, who: WorkloadId | HostId, serial: int | None = None) -> str:
        """Why the holder of this certificate is refused; empty if it is not. A host that joined again is another one,
        so hosts are refused by their certificates, and by what the ledger says of them."""
        if isinstance(who, WorkloadId) and (refusal := self.refuses_workload(who.spiffe_id.namespace, who.name)):
            return refusal
        return f"the certificate of {who} is revoked" if serial in self._serials else ""

    def refuses_workload(self, namespace: str, name: str) -> str:
        """Why a workload of this name is refused; empty if it is not."""
        return (
            f"workload {namespace}/{name} is revoked" if (Kind.WORKLOAD, f"{namespace}/{name}") in self._names else ""
        )

    def current(self, now: datetime) -> Revocations:
        """Without certificates that have ended, nor revocations of single certificates that have."""
        entries = []
        for entry in self.entries:
            serials = tuple((serial, ends) for serial, ends in entry.serials if ends > now)
            if serials or entry.kind is not Kind.SERIAL:
                entries.append(replace(entry, serials=serials))
        return replace(self, entries=tuple(entries))


def revoke(revocations: Revocations, kind: Kind, name: str, issued: Iterable[Issued], now: datetime) -> Revocations:
    """With one more; `issued` are the certificates that have not ended. IdentityError if there is nobody of that name,
    or the lists would grow too long."""
    match kind:
        case Kind.WORKLOAD:
            chosen = [one for one in issued if one.workload == name]
        case Kind.HOST:
            chosen = [one for one in issued if one.host == name]
        case Kind.SERIAL:
            chosen = [one for one in issued if f"{one.serial:x}" == name]
            if not chosen:
                raise IdentityError(f"no certificate of serial number {name} was issued here and has not ended")
    serials = tuple((one.serial, one.not_after) for one in chosen)
    entry = Revocation(kind=kind, name=name, when=now, serials=serials)
    kept = tuple(one for one in revocations.current(now).entries if (one.kind, one.name) != (kind, name))
    if sum(len(one.serials) for one in (*kept, entry)) > LARGEST:
        raise IdentityError(
            f"more than {LARGEST} certificates would be on the list that every host holds: replace the root instead "
            "(gossamer ca rotate start), or let certificates be shorter-lived"
        )
    return Revocations(entries=(*kept, entry), revised=now.isoformat() if serials else revocations.revised)


def undo(revocations: Revocations, kind: Kind, name: str) -> Revocations:
    """Without that one. IdentityError if there is none."""
    kept = tuple(one for one in revocations.entries if (one.kind, one.name) != (kind, name))
    if len(kept) == len(revocations.entries):
        raise IdentityError(f"{kind} {name} is not revoked")
    return replace(revocations, entries=kept)


def build_list(issuer: Issuer, revocations: Revocations, now: datetime, number: int) -> bytes:
    """The list of one issuer, as PEM. Serial numbers of others on it hurt nobody: they are random."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - timedelta(hours=1))
        .next_update(now + CURRENT)
        .add_extension(issuer.authority_key_identifier, critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial, when in sorted({(serial, entry.when) for entry in revocations.entries for serial, _ in entry.serials}):
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when.replace(microsecond=0))
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@lru_cache(maxsize=16)
def lists_in(pem: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    """All lists of a PEM text; IdentityError if one is damaged."""
    try:
        return tuple(x509.load_pem_x509_crl(one) for one in _LIST.findall(pem))
    except ValueError as error:
        raise IdentityError(f"a list of revoked certificates is damaged: {error}") from error


def serials_on(pem: bytes) -> frozenset[int]:
    """The certificates on all lists of a PEM text; IdentityError if one is damaged."""
    return frozenset(entry.serial_number for one in lists_in(pem) for entry in one)


def split_lists(pem: bytes) -> tuple[bytes, bytes]:
    """The certificates and the lists of a PEM text."""
    lists = b"".join(_LIST.findall(pem))
    return (_LIST.sub(b"", pem), lists) if lists else (pem, b"")


def dump_revocations(revocations: Revocations) -> dict[str, Any]:
    """All of them as JSON values."""
    return {
        "revised": revocations.revised,
        "entries": [
            {
                "kind": entry.kind.value,
                "name": entry.name,
                "when": entry.when.isoformat(),
                "serials": [[f"{serial:x}", ends.isoformat()] for serial, ends in entry.serials],
            }
            for entry in revocations.entries
        ],
    }


def load_revocations(content: dict[str, Any]) -> Revocations:
    """What `dump_revocations` wrote; KeyError, TypeError or ValueError for anything else."""
    return Revocations(
        revised=str(content["revised"]),
        entries=tuple(
            Revocation(
                kind=Kind(entry["kind"]),
                name=str(entry["name"]),
                when=datetime.fromisoformat(entry["when"]),
                serials=tuple((int(serial, 16), datetime.fromisoformat(ends)) for serial, ends in entry["serials"]),
            )
            for entry in content["entries"]
        ),
    )
