"""When to start again what has ended. Pure: time and chance are arguments.

Invariant: what ran well is started again at once; what keeps failing is tried ever more rarely, never less often than
every `limit` seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Seconds throughout. `failures` counts the runs that ended early, one after the other."""

    first: float = 0.1
    factor: float = 2.0
    limit: float = 30.0
    steady: float = 10.0
    """A run of this length was no failure."""
    failures: int = 0

    def after(self, uptime: float, chance: float) -> tuple[float, Backoff]:
        """How long to wait after a run of `uptime`, and the state that follows. `chance` lies in [0, 1)."""
        if uptime >= self.steady:
            return 0.0, replace(self, failures=0)
        wait = min(self.limit, self.first * self.factor ** min(self.failures, 60))
        return wait * (0.5 + chance / 2), replace(self, failures=self.failures + 1)
