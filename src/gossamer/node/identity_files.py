"""Where the last certificates of a host and its workloads are kept, so that an agent starts without a control plane.

Key, chain and roots are one file, replaced as one: what is loaded always fits together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from gossamer.ca.files import dump_document, load_document, private_folder, write_private
from gossamer.core.errors import IdentityError, StateError
from gossamer.node.identity import (
    HostIdentity,
    HostTerms,
    KeyedCertificate,
    Trust,
    WorkloadIdentity,
    host_identity,
    workload_identity,
)

SCHEMA: Final = 1
_LONGEST_FILE: Final = 200


class IdentityFiles:
    """The last certificates of this host and its workloads, in a folder of its own (0700, files 0600)."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._workloads = private_folder(folder / "workloads")

    def load_host(self) -> HostIdentity | None:
        """What this host joined with, or None. StateError if damaged or from a newer version."""
        path = self._folder / "host.json"
        content = load_document(path, SCHEMA)
        if content is None:
            return None
        try:
            terms = HostTerms(
                trust_domain=content["trust_domain"], host=content["host"], grants=tuple(content["grants"])
            )
            return host_identity(*_pems(content), terms)
        except (KeyError, TypeError, IdentityError) as error:
            raise StateError(f"{path} is damaged ({error}); move it away and join again") from error

    def save_host(self, identity: HostIdentity) -> None:
        content = _texts(identity) | {
            "trust_domain": identity.trust_domain,
            "host": identity.host,
            "grants": list(identity.grants),
        }
        write_private(self._folder / "host.json", dump_document(SCHEMA, content))

    def remove_host(self) -> None:
        """Forget what this host joined with."""
        (self._folder / "host.json").unlink(missing_ok=True)

    def load_workload(self, dns_name: str) -> WorkloadIdentity | None:
        """The last certificate of a workload of this host, or None, also if what is kept is damaged: it is replaced."""
        try:
            content = load_document(self._workload(dns_name), SCHEMA)
            return None if content is None else workload_identity(*_pems(content))
        except (KeyError, TypeError, IdentityError, StateError):
            return None

    def save_workload(self, identity: WorkloadIdentity) -> None:
        write_private(self._workload(identity.dns_name), dump_document(SCHEMA, _texts(identity)))

    def remove_workload(self, dns_name: str) -> None:
        """Forget a workload's key."""
        self._workload(dns_name).unlink(missing_ok=True)

    def remove_workloads_but(self, dns_names: Iterable[str]) -> None:
        """Forget the keys of all other workloads."""
        kept = {self._workload(name) for name in dns_names}
        for path in self._workloads.glob("*.json"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def load_trust(self) -> Trust | None:
        """What the mesh trusted when it was last heard of, or None, also if what is kept is damaged."""
        try:
            content = load_document(self._folder / "trust.json", SCHEMA)
            return None if content is None else _trust_of(content)
        except (KeyError, TypeError, ValueError, StateError):
            return None

    def save_trust(self, trust: Trust) -> None:
        content = {
            "roots": trust.roots_pem.decode(),
            "signer": trust.signer_key_id,
            "version": trust.version,
            "verify": trust.verify_pem.decode(),
        }
        write_private(self._folder / "trust.json", dump_document(SCHEMA, content))

    def joining_key(self) -> bytes | None:
        """The key (PEM) of a join that was begun and not finished, or None."""
        path = self._folder / "joining-key.pem"
        return path.read_bytes() if path.exists() else None

    def save_joining_key(self, key_pem: bytes | None) -> None:
        """Keep the key of a join before its token is used, so that a lost answer can be asked for again; None: done."""
        path = self._folder / "joining-key.pem"
        if key_pem is None:
            path.unlink(missing_ok=True)
        else:
            write_private(path, key_pem)

    def _workload(self, dns_name: str) -> Path:
        short = dns_name if len(dns_name) <= _LONGEST_FILE else hashlib.sha256(dns_name.encode()).hexdigest()
        return self._workloads / f"{short}.json"


def _trust_of(content: dict[str, Any]) -> Trust:
    return Trust(
        roots_pem=content["roots"].encode(),
        signer_key_id=content["signer"],
        version=content["version"],
        verify_pem=content["verify"].encode(),
    )


def _texts(identity: KeyedCertificate) -> dict[str, Any]:
    return {
        "key": identity.key_pem.decode(),
        "chain": identity.chain_pem.decode(),
        "roots": identity.roots_pem.decode(),
    }


def _pems(content: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    return content["key"].encode(), content["chain"].encode(), content["roots"].encode()
