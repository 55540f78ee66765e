"""References to OCI images, as URLs of modules name them.

Docker's rules: a first part with a dot, a colon, or `localhost` is the registry, else it is Docker Hub; without a tag
and a digest the tag is `latest`. Invariant: what is here can stand in the path of a request as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

HUB: Final = "docker.io"
LATEST: Final = "latest"
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: `host` (with a port, if it names one), `repository`, and a `tag` or a `digest` (`sha256:…`)."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def reference(self) -> str:
        """What is asked for: the digest before the tag."""
        return self.digest or self.tag


def image_of(url: str) -> Image | None:
    """The image that `oci://HOST/REPOSITORY:TAG@DIGEST` names, with or without a scheme; None if it names none."""
    name, at, digest = url.partition("://")[2 if "://" in url else 0].partition("@")
    host, slash, path = name.partition("/")
    if not (slash and ("." in host or ":" in host or host == "localhost")):
        host, path = HUB, name if slash else f"library/{name}"
    repository, colon, tag = path.partition(":")
    if not colon and not at:
        tag = LATEST
    fits = _HOST.fullmatch(host) and _REPOSITORY.fullmatch(repository)
    if not fits or ((tag or colon) and not _TAG.fullmatch(tag)) or (at and not _DIGEST.fullmatch(digest)):
        return None
    return Image(host=host, repository=repository, tag=tag, digest=digest)
