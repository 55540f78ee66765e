"""A small proxy-wasm module, put together byte by byte: no compiler is needed to test with it.

It answers every response with a header `x-wasm`, whose value is the plugin's configuration.
"""

from __future__ import annotations

from collections.abc import Iterable

I32 = 0x7F
KEY, KEY_AT = b"x-wasm", 64
CONFIG_POINTER, CONFIG_SIZE = 16, 20
HEAP = 1024
PLUGIN_CONFIGURATION, RESPONSE_HEADERS = 7, 2
CONTINUE, OK = 0, 1


def module(*, starts: bool = True) -> bytes:
    """The module; `starts=False` for one that refuses its configuration."""
    types = [_type(n, r) for n, r in ((0, 0), (1, 1), (2, 0), (2, 1), (3, 1), (5, 1))]
    nothing, one, two, two_result, three, five = range(6)
    imports = [("proxy_get_buffer_bytes", five), ("proxy_add_header_map_value", five)]
    body = [
        ("proxy_abi_version_0_2_1", nothing, b""),
        ("proxy_on_memory_allocate", one, _ALLOCATE),
        ("proxy_on_context_create", two, b""),
        ("proxy_on_vm_start", two_result, _const(OK)),
        ("proxy_on_configure", two_result, _READ_CONFIG + _const(int(starts))),
        ("proxy_on_request_headers", three, _const(CONTINUE)),
        ("proxy_on_response_headers", three, _ADD_HEADER + _const(CONTINUE)),
    ]
    functions = [kind for _, kind, _ in body]
    exports = [(name, 0, len(imports) + index) for index, (name, _, _) in enumerate(body)]
    exports.append(("memory", 2, 0))
    sections = [
        (1, _vector(types)),
        (2, _vector(_text("env") + _text(name) + bytes((0, kind)) for name, kind in imports)),
        (3, _vector(bytes((kind,)) for kind in functions)),
        (5, _vector([bytes((0, 2))])),  # two pages of memory
        (6, _vector([bytes((I32, 1)) + _const(HEAP) + b"\x0b"])),
        (7, _vector(_text(name) + bytes((kind,)) + _unsigned(index) for name, kind, index in exports)),
        (10, _vector(_code(code) for _, _, code in body)),
        (11, _vector([b"\x00" + _const(KEY_AT) + b"\x0b" + _unsigned(len(KEY)) + KEY])),
    ]
    return b"\0asm\1\0\0\0" + b"".join(bytes((id_,)) + _unsigned(len(part)) + part for id_, part in sections)


def _unsigned(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def _signed(number: int) -> bytes:
    out = bytearray()
    while not -64 <= number < 64:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number & 0x7F))


def _const(number: int) -> bytes:
    return b"\x41" + _signed(number)


def _vector(parts: Iterable[bytes]) -> bytes:
    listed = list(parts)
    return _unsigned(len(listed)) + b"".join(listed)


def _text(text: str) -> bytes:
    return _unsigned(len(text)) + text.encode()


def _type(parameters: int, results: int) -> bytes:
    return b"\x60" + _vector([bytes((I32,))] * parameters) + _vector([bytes((I32,))] * results)


def _code(instructions: bytes) -> bytes:
    body = b"\x00" + instructions + b"\x0b"
    return _unsigned(len(body)) + body


def _load(address: int) -> bytes:
    return _const(address) + b"\x28\x02\x00"


_LOCAL_0, _LOCAL_1, _GLOBAL, _SET_GLOBAL, _ADD, _DROP = (
    b"\x20\x00",
    b"\x20\x01",
    b"\x23\x00",
    b"\x24\x00",
    b"\x6a",
    b"\x1a",
)
_ALLOCATE = _GLOBAL + _GLOBAL + _LOCAL_0 + _ADD + _SET_GLOBAL
_READ_CONFIG = (
    b"".join((_const(PLUGIN_CONFIGURATION), _const(0), _LOCAL_1, _const(CONFIG_POINTER), _const(CONFIG_SIZE)))
    + b"\x10\x00"
    + _DROP
)
_ADD_HEADER = (
    b"".join((_const(RESPONSE_HEADERS), _const(KEY_AT), _const(len(KEY)), _load(CONFIG_POINTER), _load(CONFIG_SIZE)))
    + b"\x10\x01"
    + _DROP
)
