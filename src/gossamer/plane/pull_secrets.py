"""Credentials for registries, out of a Kubernetes pull secret (`kubernetes.io/dockerconfigjson`).

Invariant: credentials are for the registry that the secret names them for, and are in nothing that is shown or logged.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from dataclasses import dataclass, field
from typing import Any, Final

from gossamer.model.images import HUB, Image
from gossamer.plane.download import DownloadError

KEY: Final = ".dockerconfigjson"
_HUB_NAMES: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user of a registry."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The header `authorization` of HTTP Basic."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def login_for(config: bytes, image: Image, name: str) -> Login:
    """Who may pull an image, by the pull secret `name`. DownloadError if it says nobody."""
    try:
        document = json.loads(config)
        entries = document["auths"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DownloadError(f"Secret {name} holds no Docker configuration with auths under {KEY}") from error
    fitting = [(len(where), entry) for where, entry in entries if _is_for(where, image)]
    if not fitting:
        raise DownloadError(f"Secret {name} has no credentials for {image.host}")
    return _login(max(fitting, key=lambda pair: pair[0])[1], name)


def _is_for(where: str, image: Image) -> bool:
    """Kubernetes' rule: a registry, whose parts may be globs, or a part of its repositories."""
    place = where.partition("://")[2 if "://" in where else 0]
    host, _, path = place.partition("/")
    path = path.rstrip("/")
    if host in _HUB_NAMES:
        host, path = HUB, "" if path in ("v1", "v2") else path
    own, wanted = image.host.split("."), host.split(".")
    if len(own) != len(wanted) or not all(fnmatch.fnmatchcase(*pair) for pair in zip(own, wanted, strict=True)):
        return False
    return not path or path in ("v1", "v2") or f"{image.repository}/".startswith(f"{path}/")


def _login(entry: Any, name: str) -> Login:
    found = entry if isinstance(entry, dict) else {}
    user, password = found.get("username"), found.get("password")
    if isinstance(found.get("auth"), str) and found["auth"]:
        try:
            user, _, password = base64.b64decode(found["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise DownloadError(f"Secret {name} has credentials whose auth is no Base64") from error
    if not isinstance(user, str) or not isinstance(password, str) or not user:
        raise DownloadError(f"Secret {name} has credentials without a user and a password")
    return Login(user=user, password=password)
