"""The names by which the streams of an Envoy's observations are told apart. Alone here, so that an agent, which reads
them, needs nothing of what compiles.

Invariant: an agent knows every name that a control plane of its own version gives.
"""

from __future__ import annotations

from typing import Final

HTTP: Final = "http"
"""Requests; their path is the one that policies saw."""
ROUTED: Final = "http-routed"
"""Requests whose path a route may have rewritten after policies saw it."""
TCP: Final = "tcp"
"""Connections without HTTP: every minute while they last, and once when they end. (When the application is reached the
caller's handshake may not be done yet: who it is is not known then.)"""
REFUSED: Final = "refused"
"""Connections that fit no filter chain: plaintext to a port that wants mutual TLS."""
