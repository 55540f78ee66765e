"""Certificates as PEM text, as far as that can be told without knowing what is in them.

Rules: RFC 7468.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_SEQUENCE: Final = 0x30


def certificates_problem(text: str) -> str:
    """What is wrong with a text that should hold certificates; empty if nothing is."""
    blocks = _BLOCK.findall(text)
    if not blocks:
        return "there is no certificate in PEM (-----BEGIN CERTIFICATE-----)"
    for label, content in blocks:
        if "PRIVATE KEY" in label:
            return "there is a private key in it: whoever reads the configuration has it now, so it should be replaced"
        if label != "CERTIFICATE":
            return f"there is a {label.lower()} where certificates are expected"
        try:
            der = base64.b64decode("".join(content.split()), validate=True)
        except binascii.Error:
            der = b""
        if not der or der[0] != _SEQUENCE:
            return "a certificate in it is damaged"
    return ""
