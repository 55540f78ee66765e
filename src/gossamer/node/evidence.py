"""What a host shows in place of a join token: a token that somebody else gave it, in a file or a variable.

Invariant: it is read anew each time that it is shown, since whoever gives it renews it; it is kept nowhere.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gossamer.ca.certificates import chain_pem, fingerprint, load_chain
from gossamer.core.errors import IdentityError, UsageError
from gossamer.rpc import gossamer_pb2 as pb

KINDS: Final = ("kubernetes", "oidc")
_VARIABLE: Final = "env:"
_FINGERPRINT: Final = re.compile(r"(?:sha-?256[ :])?([0-9a-f]{64})", re.IGNORECASE)
_LONGEST: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """How a host that has no join token joins. `root` pins the mesh's root, which such a token does not: by the SHA-256
    of its certificate, or as PEM that holds it."""

    kind: str
    file: Path | None = None
    variable: str = ""
    root_fingerprint: str = ""
    roots_pem: bytes = b""

    def evidence(self) -> pb.Evidence:
        """The token as it is now. IdentityError if there is none."""
        return pb.Evidence(kind=self.kind, token=self._token())

    def is_of(self, roots_pem: bytes) -> bool:
        """Whether a mesh with these roots is the one that is to be joined."""
        theirs = {fingerprint(root) for root in load_chain(roots_pem, "the roots on disk")}
        if self.root_fingerprint:
            return self.root_fingerprint in theirs
        return any(fingerprint(root) in theirs for root in load_chain(self.roots_pem, "the pinned roots"))

    def _token(self) -> str:
        if self.file is None:
            found, where = os.environ.get(self.variable, ""), f"the variable {self.variable}"
        else:
            where = str(self.file)
            try:
                with self.file.open(encoding="ascii") as file:
                    found = file.read(_LONGEST)
            except (OSError, UnicodeDecodeError) as error:
                raise IdentityError(
                    f"cannot read the token by which this host is attested, {where}: {error}"
                ) from error
        if not found.strip():
            raise IdentityError(f"there is no token in {where}: whoever attests this host is to write one there")
        return found.strip()


def parse_attestation(text: str, root: str) -> Attestation:
    """`kubernetes:/path`, `oidc:/path` or `oidc:env:VARIABLE`, and the root: a fingerprint or a file. UsageError for
    anything else."""
    kind, colon, where = text.partition(":")
    if kind not in KINDS or not colon or not where:
        raise UsageError(f"--attest {text}: write kubernetes:FILE or oidc:FILE, or env:VARIABLE in place of FILE")
    if not root:
        raise UsageError(
            "--attest needs --root, since such a token does not say whom to trust: the root's SHA-256, as "
            "`gossamer ca root` prints it, or a file that holds it"
        )
    pinned = _FINGERPRINT.fullmatch(root.strip())
    variable = where.removeprefix(_VARIABLE) if where.startswith(_VARIABLE) else ""
    return Attestation(
        kind=kind,
        file=None if variable else Path(where).absolute(),
        variable=variable,
        root_fingerprint=pinned[1].lower() if pinned else "",
        roots_pem=b"" if pinned else _roots(Path(root)),
    )


def _roots(path: Path) -> bytes:
    try:
        return chain_pem(load_chain(path.read_bytes(), str(path)))
    except (OSError, IdentityError) as error:
        raise UsageError(f"--root {path}: it is neither a SHA-256 in hexadecimal digits nor a file: {error}") from error


def token_folder(attestation: Attestation, shared: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folder of the token, to be hidden from applications: whoever reads the token can be this host. UsageError if
    others need that folder: one of `shared` lies in it, or is it."""
    if attestation.file is None:
        return ()
    folder = attestation.file.parent.resolve()
    for path in shared:
        if path.resolve().is_relative_to(folder):
            raise UsageError(
                f"--attest: the token's folder {folder} is hidden from the workloads, and {path} is in use there: keep "
                "the token in a folder of its own"
            )
    return (folder,)
