"""What to do about configuration that the simulator does not know: say so.

Invariant: the simulator never guesses. Where the unknown decides, it raises NotSimulatedError, which ends in an Outcome
with the verdict UNKNOWN; where it cannot change the answer it is left out.
"""

from __future__ import annotations


class NotSimulatedError(Exception):
    """The message names what is not simulated. It never leaves this room."""
