"""A connection as Envoy knows it, and the notes that are taken while it is decided.

Invariant: both live for one simulation only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gossamer.core.ids import Origin
from gossamer.simulate.origins import merged
from gossamer.simulate.outcome import Outcome, PolicyDecision, Verdict
from gossamer.simulate.request import Address, Certificate, Request


@dataclass(slots=True, kw_only=True)
class Connection:
    """What listener filters saw and the handshake settled. `peer` is what the client has shown and Envoy verified."""

    request: Request
    destination: Address
    source: Address
    transport: str = "raw_buffer"
    server_name: str = ""
    alpn: tuple[str, ...] = ()
    terminated: bool = False
    negotiated: str = ""
    peer: Certificate | None = None
    looked_up: Address | None = None
    """The host, by name or address, that a lookup is made for, and the port that it is called on."""


@dataclass(slots=True, kw_only=True)
class Trace:
    """Collects an Outcome on the way; `end` closes it."""

    outcome: Outcome = field(default_factory=lambda: Outcome(verdict=Verdict.UNKNOWN, reason=""))
    policies: list[PolicyDecision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origins: list[tuple[Origin, ...]] = field(default_factory=list)
    asked: str = ""
    """The authorizer that has the last word, if one is asked."""

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def end(self, verdict: Verdict, reason: str, *, status: int = 0, flag: str = "") -> Outcome:
        """The outcome. Who turned the request away is named before whose route it had taken. Unless it is turned away
        whatever an authorizer says, nobody here knows how it ends."""
        if self.asked and verdict is not Verdict.DENIED:
            verdict, reason = Verdict.UNKNOWN, f"{self.asked} decides; if it lets the request through: {reason}"
        refusal = next((p.origins for p in self.policies if not p.allowed and not p.shadow), ())
        admitted = [p.origins for p in self.policies if p.allowed and p.policy and not p.shadow]
        return replace(
            self.outcome,
            verdict=verdict,
            reason=reason,
            status=status,
            flag=flag,
            policies=tuple(self.policies),
            notes=tuple(self.notes),
            origins=merged(refusal, *self.origins, *admitted),
        )
