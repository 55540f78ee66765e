"""Where newer advisories come from: a file, or a URL that answers as GitHub does.

Invariant: whatever is read has a size and a time that it may take, and only the host that was named is asked.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpcore

from gossamer.cli.advisories import OddError
from gossamer.core.errors import UnavailableError, UsageError

GITHUB: Final = "https://api.github.com/repos/envoyproxy/envoy/security-advisories?per_page=100&state=published"
LARGEST: Final = 8 << 20
"""Bytes of a page."""
PAGES: Final = 20
SECONDS: Final = 30.0
"""For all pages together."""
_NEXT: Final = re.compile(r'<([^>]+)>\s*;\s*rel="next"')
_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


def read_pages(source: str) -> Iterator[str]:
    """The pages at a URL, or the one of a file. UnavailableError if they cannot be had, OddError if they are too large,
    UsageError for what is no place."""
    if "://" not in source:
        yield _read_file(Path(source))
        return
    if urlsplit(source).scheme not in ("https", "http"):
        raise UsageError(f"{source} is neither a file nor an http(s) URL")
    deadline, url = time.monotonic() + SECONDS, source
    with httpcore.ConnectionPool() as pool:
        for _ in range(PAGES):
            text, following = _fetch(pool, url, deadline)
            yield text
            if not following:
                return
            url = urljoin(url, following)
            if urlsplit(url)[:2] != urlsplit(source)[:2]:
                raise OddError(f"{source} sends us on to another host: {url}")
    raise OddError(f"{source} has more than {PAGES} pages")


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return _text(content, str(path))


def _fetch(pool: httpcore.ConnectionPool, url: str, deadline: float) -> tuple[str, str]:
    """A page, and where the next one is (empty for none)."""
    headers = [("accept", "application/vnd.github+json"), ("user-agent", "gossamer"), ("host", urlsplit(url).netloc)]
    left = max(deadline - time.monotonic(), 0.1)
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), left)
    content = bytearray()
    try:
        with pool.stream("GET", url, headers=headers, extensions={"timeout": timeouts}) as answer:
            if answer.status != 200:
                raise UnavailableError(f"{url} answers {answer.status}")
            for part in answer.iter_stream():
                content += part
                if len(content) > LARGEST:
                    break
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{url} takes longer than {SECONDS:g} s")
            link = dict(answer.headers).get(b"Link", dict(answer.headers).get(b"link", b"")).decode("latin-1")
    except _ERRORS as error:
        raise UnavailableError(f"{url} cannot be reached: {error or type(error).__name__}") from error
    found = _NEXT.search(link)
    return _text(bytes(content), url), found[1] if found else ""


def _text(content: bytes, where: str) -> str:
    if len(content) > LARGEST:
        raise OddError(f"{where} is larger than {LARGEST >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise OddError(f"{where} is no text: {error}") from error
