"""Join tokens and what they grant: values and rules, without clock or file.

A token is a secret that one host may use once. It also pins the mesh's root, so that the host knows whom it gives the
secret to. Only its digest is kept; the secret has 256 random bits, so a plain hash of it cannot be searched.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from gossamer.ca.spiffe import check_host, check_namespace, check_service_account
from gossamer.core.errors import IdentityError

DEFAULT_LIFETIME: Final = timedelta(hours=1)
SECRET_BYTES: Final = 32
TOKEN_ID: Final = 12
"""Digits of a token's digest that name it in commands and logs."""
REASON: Final = "gossamer-reason"
"""Key of the trailing metadata that says by a `Refusal` why a token was refused."""
_VERSION: Final = "v1"
_ANY: Final = "*"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


class Refusal(StrEnum):
    """Why a token is refused, as a stable word for scripts."""

    MALFORMED = "token-malformed"
    UNKNOWN = "token-unknown"
    EXPIRED = "token-expired"
    USED = "token-used"
    WITHDRAWN = "token-withdrawn"
    UNTRUSTED = "token-untrusted"
    """Evidence of another issuer that this one, or what it is of, is none that the mesh believes."""


class TokenError(IdentityError):
    """A join token is refused."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Grant:
    """The identities that a host may ask for: a namespace and a service account, `*` standing for any."""

    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        if self.namespace != _ANY:
            check_namespace(self.namespace)
        if self.service_account != _ANY:
            check_service_account(self.service_account)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service_account}"

    @classmethod
    def parse(cls, text: str) -> Grant:
        """The grant that `NAMESPACE/SERVICE-ACCOUNT` spells; IdentityError otherwise."""
        namespace, slash, service_account = text.partition("/")
        if not slash:
            raise IdentityError(f"{text!r} is not a grant: write NAMESPACE/SERVICE-ACCOUNT, such as 'default/*'")
        return cls(namespace=namespace, service_account=service_account)

    def allows(self, namespace: str, service_account: str) -> bool:
        return self.namespace in (_ANY, namespace) and self.service_account in (_ANY, service_account)


def allows(grants: Iterable[Grant], namespace: str, service_account: str) -> bool:
    """Whether one of the grants covers the identity."""
    return any(grant.allows(namespace, service_account) for grant in grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What a person carries to the host: `v1.SECRET.ROOT`, the root by the SHA-256 of its certificate's DER."""

    secret: bytes = field(repr=False)
    root_fingerprint: str

    def reveal(self) -> str:
        """The token as text. Whoever has it can join."""
        return f"{_VERSION}.{base64.urlsafe_b64encode(self.secret).decode().rstrip('=')}.{self.root_fingerprint}"

    @property
    def digest(self) -> str:
        """What is kept of the token: SHA-256 of its secret, in hexadecimal digits."""
        return hashlib.sha256(self.secret).hexdigest()

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """The token of this text; TokenError, which never repeats the text, otherwise."""
        match text.strip().split("."):
            case [version, secret, root] if version == _VERSION and _FINGERPRINT.fullmatch(root):
                try:
                    raw = base64.b64decode(secret + "=" * (-len(secret) % 4), altchars=b"-_", validate=True)
                except (binascii.Error, ValueError):
                    raw = b""
                if len(raw) == SECRET_BYTES:
                    return cls(secret=raw, root_fingerprint=root)
            case [version, *_] if re.fullmatch(r"v[0-9]+", version) and version != _VERSION:
                raise TokenError(
                    Refusal.MALFORMED, f"the join token is of version {version}; this one reads {_VERSION}"
                )
        raise TokenError(Refusal.MALFORMED, "this is not a whole join token: copy it from 'v1.' to its last character")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What is kept of a token that was given out."""

    digest: str
    host: str
    grants: tuple[Grant, ...]
    created: datetime
    expires: datetime
    withdrawn: bool = False

    @property
    def id(self) -> str:
        """What the token is called among people; nothing of its secret."""
        return self.digest[:TOKEN_ID]

    def __post_init__(self) -> None:
        check_host(self.host)
        if not self.grants:
            raise IdentityError("a join token must grant something: NAMESPACE/SERVICE-ACCOUNT")
        if self.expires <= self.created:
            raise IdentityError("a join token must be valid for some time")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUse:
    """That a token was used: by which key (its fingerprint), when, from which address, and for which host. A token of
    another issuer ends by itself: `expires`."""

    key: str
    when: datetime
    address: str = ""
    host: str = ""
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """A host of the mesh: what it may ask for, and the keys that speak for it (fingerprints, the newest first)."""

    host: str
    grants: tuple[Grant, ...]
    keys: tuple[str, ...]
    token: str
    """Digest of the token by which it joined."""
    joined: datetime
    renewed: datetime
    revoked: bool = False
    attestor: str = ""
    """Who vouches for it, where it did not join by a join token."""
    subject: str = ""
    """Of whom its attestor spoke."""
    lifetime: timedelta | None = None
    """How long it is believed, and the certificates of its workloads are valid at most; None: as the mesh has it."""

    @property
    def how(self) -> str:
        """By what it has its grants, for messages."""
        return f"attestor {self.attestor} ({self.subject})" if self.attestor else "its join token"

    def problem(self, namespace: str, service_account: str) -> str:
        """Why it may not run what has this identity; empty if it may."""
        if allows(self.grants, namespace, service_account):
            return ""
        granted = ", ".join(str(grant) for grant in self.grants)
        return f"host {self.host} may not run {namespace}/{service_account}: {self.how} grants it {granted}"


def check_token(record: TokenRecord | None, now: datetime) -> TokenRecord:
    """The token's record, if it is known and not expired; TokenError otherwise."""
    if record is None:
        raise TokenError(
            Refusal.UNKNOWN,
            "the control plane knows no such join token: it was made by another control plane of this root, or long "
            "ago; make a new one by `gossamer ca token`",
        )
    if record.withdrawn:
        raise TokenError(
            Refusal.WITHDRAWN,
            f"the join token for host {record.host} was withdrawn; ask for a new one where it came from",
        )
    if record.expires <= now:
        raise TokenError(
            Refusal.EXPIRED,
            f"the join token for host {record.host} expired on {record.expires:%Y-%m-%d %H:%M:%S} UTC; make a new one "
            "by `gossamer ca token`",
        )
    return record


def check_use(record: TokenRecord, use: TokenUse, key: str, host: HostRecord | None) -> None:
    """Whether the use of a token already made may be repeated; TokenError if not.

    A host whose answer was lost may ask again with the same key: nobody else can make use of the answer. Not once it
    was revoked, or has joined again by a later token.
    """
    again = use.key == key and (
        host is None or host.joined < use.when or (host.token == record.digest and not host.revoked)
    )
    if not again:
        raise TokenError(
            Refusal.USED,
            f"the join token for host {record.host} was used on {use.when:%Y-%m-%d %H:%M:%S} UTC"
            f"{f' from {use.address}' if use.address else ''}, and a token serves once; if that was not this host, "
            f"somebody else has its identity: `gossamer ca revoke {record.host}`; then make a new token",
        )


def withdrawn(found: list[tuple[TokenRecord, TokenUse | None]], id: str) -> TokenRecord:
    """The one token that was found by its `id`, as it is when nobody may join by it any more. IdentityError if there is
    not one, or it has served."""
    if len(found) != 1:
        raise IdentityError(f"{'several join tokens begin' if found else 'no join token begins'} with {id!r}")
    record, use = found[0]
    if use is not None:
        raise IdentityError(f"host {record.host} has joined by this token already: revoke the host")
    return replace(record, withdrawn=True)


def check_again(use: TokenUse, again: TokenUse, *, proved: bool) -> None:
    """Whether a token of another issuer may be shown again: by the same key, or by the same host if that is `proved` by
    its certificate; TokenError if not."""
    if again.key != use.key and not (proved and again.host == use.host):
        raise TokenError(
            Refusal.USED,
            f"this token brought in host {use.host} on {use.when:%Y-%m-%d %H:%M:%S} UTC"
            f"{f' from {use.address}' if use.address else ''}, with another key: if that was this host, keep its state "
            "folder; if not, revoke that host; then show a new token",
        )


def renewed(record: HostRecord, *, current: str, new: str, now: datetime) -> HostRecord:
    """The record after a renewal: the key in use stays good, so that a lost answer locks nobody out."""
    return replace(record, keys=tuple(dict.fromkeys((new, current))), renewed=now)
