"""Ciphers and curves of TLS, wherever they are chosen: in Gateways, Sidecars and MeshConfig.

Rules: what Envoy's BoringSSL takes. What it does not know is warned of and left out, so that the rest of a list holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gossamer.api.findings import At
from gossamer.api.mesh_config import MeshTLSConfig

CIPHER_SUITES: Final = frozenset((
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA",
    "AES256-SHA", "DES-CBC3-SHA", "ECDHE-PSK-AES128-CBC-SHA", "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-CBC-SHA", "PSK-AES256-CBC-SHA",
))  # fmt: skip
"""What BoringSSL takes for TLS 1.2 and older; the ciphers of TLS 1.3 cannot be chosen."""
CURVES: Final = ("P-256", "P-384", "P-521", "X25519", "X25519MLKEM768", "MLKEM1024")


def is_old_cipher(name: str) -> bool:
    """Whether TLS before 1.2 knows this cipher suite."""
    return name in CIPHER_SUITES and not name.endswith(("SHA256", "SHA384", "POLY1305"))


def check_ciphers(names: Sequence[str], at: At) -> None:
    """Say which cipher suites do nothing."""
    for index, name in enumerate(names):
        if name not in CIPHER_SUITES:
            at[index].warning("no-effect", f'"{name}" is no cipher suite that Envoy knows; it is left out')
        elif name in names[:index]:
            at[index].warning("no-effect", f'"{name}" is here twice')


def check_curves(names: Sequence[str], at: At) -> None:
    """Say which curves do nothing."""
    for index, name in enumerate(names):
        if name not in CURVES:
            message = f'"{name}" is no curve that Envoy knows; it is left out'
            at[index].warning("no-effect", message, f"the curves are {', '.join(CURVES)}")


def check_mesh_tls(config: MeshTLSConfig, at: At) -> None:
    """What MeshConfig chooses. A list of which nothing is left would mean no limit at all, and so is an error."""
    check_ciphers(config.cipher_suites, at["cipherSuites"])
    check_curves(config.ecdh_curves, at["ecdhCurves"])
    if config.cipher_suites and not CIPHER_SUITES.intersection(config.cipher_suites):
        at["cipherSuites"].error("invalid-value", "none of these is a cipher suite that Envoy knows")
    if config.ecdh_curves and not set(CURVES).intersection(config.ecdh_curves):
        at["ecdhCurves"].error("invalid-value", "none of these is a curve that Envoy knows")
