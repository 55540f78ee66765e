"""How this process lives with a heap of a million small values that hardly ever change.

Python's cyclic collector walks every one of them again and again, while streams wait. Ours hold no cycles to speak of:
what has settled is set aside, and the collector looks at what came after it.
"""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (25_000, 20, 50)
"""Allocations between collections of the young, and how many of these before one of the older: a push allocates
hundreds of thousands of values at once, nearly all of which stay or go by their reference count."""


def settle_heap() -> None:
    """Set aside all that is alive now. It takes some 100 ms for a large heap: call it when much was made and sent."""
    gc.set_threshold(*_THRESHOLDS)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
