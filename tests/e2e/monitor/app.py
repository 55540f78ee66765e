"""What runs behind the sidecars of the tests of the reference monitor.

`python -m tests.e2e.monitor.app` serves HTTP/1.1 on port 8080, by hand, so that what reaches it is seen byte for byte:

- any request is answered by JSON: `head` and `body` as they came, and `peer`;
- `GET /-/seen` tells the heads of all requests so far (but such as this), and what came to UDP port 8081;
- `POST /-/run` runs its body as a Python program and tells what that prints.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

HTTP, UDP = 8080, 8081
_SEEN: list[str] = []


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
            answer = json.dumps(await _answer(head, await _body(head, reader))).encode()
            lines = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
            writer.write(lines.encode() + answer)
            await writer.drain()
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def _body(head: str, reader: asyncio.StreamReader) -> str:
    """By the rules of RFC 9112, section 6: chunks before a length."""
    headers = dict(line.lower().split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
    found = b""
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int((await reader.readline()).split(b";")[0], 16):
            found += await reader.readexactly(size)
            await reader.readline()
        while (await reader.readline()).strip():
            pass
    elif "content-length" in headers:
        found = await reader.readexactly(int(headers["content-length"]))
    return found.decode("latin-1")


async def _answer(head: str, body: str) -> dict[str, Any]:
    line = head.partition("\r\n")[0]
    if line.startswith("GET /-/seen "):
        return {"seen": list(_SEEN)}
    if line.startswith("POST /-/run "):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", body), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await child.communicate()
        return {"said": said.decode(errors="replace")}
    _SEEN.append(head)
    return {"head": head, "body": body}


class _Datagrams(asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        _SEEN.append(f"UDP {data.decode('latin-1')}")


async def _main() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Datagrams, local_addr=("::", UDP))
    server = await asyncio.start_server(_serve, ["0.0.0.0", "::"], HTTP)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
