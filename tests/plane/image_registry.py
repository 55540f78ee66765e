"""A registry of OCI images on loopback: what it serves, and what it asks of whoever pulls."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

ARTIFACT = "application/vnd.module.wasm.content.layer.v1+wasm"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TOKEN = "a-token"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def archive(files: dict[str, bytes], *, zipped: bool = True) -> bytes:
    """A layer with these files."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as written:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            written.addfile(entry, io.BytesIO(content))
    return gzip.compress(held.getvalue()) if zipped else held.getvalue()


def pull_secret(host: str, user: str = "ann", password: str = "pass") -> bytes:
    """What a pull secret for a registry holds."""
    return json.dumps({"auths": {host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}}).encode()


@dataclass(slots=True, kw_only=True)
class ImageRegistry:
    """What is served: `login` is USER:PASSWORD that it wants, `asks` how (`basic`, `bearer`, or nothing); `moved` sends
    who asks for layers there."""

    login: str = ""
    asks: str = ""
    moved: str = ""
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    host: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Paths that were asked for, with the authorization that came with them."""

    def put(self, name: str, *layers: tuple[str, bytes], kind: str = MANIFEST) -> str:
        """Have an image `REPOSITORY:TAG`; returns its digest."""
        entries = []
        for media, content in layers:
            self.blobs[digest_of(content)] = content
            entries.append({"mediaType": media, "digest": digest_of(content), "size": len(content)})
        return self.put_manifest(name, {"schemaVersion": 2, "mediaType": kind, "layers": entries})

    def put_manifest(self, name: str, manifest: dict[str, Any]) -> str:
        content = json.dumps(manifest).encode()
        repository, _, tag = name.partition(":")
        for reference in (tag, digest_of(content)):
            self.manifests[f"/v2/{repository}/manifests/{reference}"] = content
        return digest_of(content)

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        self.seen.append((path, authorization))
        basic = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if path.startswith("/token?"):
            if self.login and authorization != basic:
                return 401, {}, b""
            return 200, {}, json.dumps({"token": TOKEN}).encode()
        wanted = {"basic": basic, "bearer": f"Bearer {TOKEN}"}.get(self.asks)
        if wanted is not None and authorization != wanted:
            realm = f'Bearer realm="http://{self.host}/token",service="here",scope="repository:all:push"'
            return 401, {"www-authenticate": realm if self.asks == "bearer" else 'Basic realm="here"'}, b""
        if path in self.manifests:
            return 200, {}, self.manifests[path]
        blob = self.blobs.get(path.rpartition("/")[2]) if "/blobs/" in path else None
        if blob is not None and self.moved:
            return 307, {"location": f"{self.moved}{path}"}, b""
        return (200, {}, blob) if blob is not None else (404, {}, b"")


@asynccontextmanager
async def serving(registry: ImageRegistry) -> AsyncIterator[ImageRegistry]:
    """The registry, with its `host`, while the context lasts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path, authorization = (await reader.readline()).split()[1].decode(), ""
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(": ")
            authorization = value if name.lower() == "authorization" else authorization
        status, headers, body = registry.answer(path, authorization)
        told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\n{told}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        with suppress(ConnectionError):
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    served = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with served:
        registry.host = f"127.0.0.1:{served.sockets[0].getsockname()[1]}"
        yield registry
