"""The authority in JSON values, for people and scripts: nothing of it is secret."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cryptography import x509

from gossamer.ca.certificates import fingerprint
from gossamer.ca.custody import Custody
from gossamer.ca.issued import Issued, latest
from gossamer.ca.revocation import Revocations
from gossamer.ca.rotation import Phase, Rotation


def describe_authority(
    custody: Custody, revocations: Revocations, issued: list[Issued], now: datetime
) -> dict[str, Any]:
    """The authority as JSON values: roots, rotation, certificates that have not ended, what is revoked."""
    authority = custody.authority(now)
    return {
        "trust_domain": authority.trust_domain,
        "plugged_in": str(custody.plugged or ""),
        "signer": {"key_id": authority.signer_key_id, "ends": _ends(authority.issuer.certificate)},
        "roots": [_root(root, custody) for root in authority.roots],
        "rotation": _rotation(custody.rotation),
        "certificates": _certificates(issued),
        "revoked": [
            {
                "kind": entry.kind.value,
                "name": entry.name,
                "since": _time(entry.when),
                "certificates": len(entry.serials),
            }
            for entry in revocations.current(now).entries
        ],
    }


def _root(root: x509.Certificate, custody: Custody) -> dict[str, Any]:
    other = custody.other
    if root == custody.signer.root:
        role = "signs"
    elif other is None or root not in other.roots:
        role = "trusted"
    else:
        role = "coming" if custody.rotation.phase is Phase.DISTRIBUTING else "going"
    return {
        "fingerprint": fingerprint(root),
        "subject": root.subject.rfc4514_string(),
        "ends": _ends(root),
        "role": role,
    }


def _rotation(rotation: Rotation) -> dict[str, Any]:
    under_way = rotation.phase is not Phase.STEADY
    return {
        "phase": rotation.phase.value,
        "since": _time(rotation.since),
        "started": _time(rotation.started) if under_way else "",
        "deadline": _time(rotation.deadline) if under_way else "",
        "reverted": rotation.reverted,
        "awaited": [],
        "refused": list(rotation.refused),
    }


def _certificates(issued: Iterable[Issued]) -> dict[str, Any]:
    valid = list(issued)
    nearest = min(latest(valid), key=lambda one: one.not_after, default=None)
    return {
        "valid": len(valid),
        "holders": len(latest(valid)),
        "nearest": {"name": nearest.name, "ends": _time(nearest.not_after)} if nearest else None,
    }


def _ends(certificate: x509.Certificate) -> str:
    return _time(certificate.not_valid_after_utc)


def _time(when: datetime) -> str:
    return when.isoformat(timespec="seconds")
