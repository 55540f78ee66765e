"""What a sidecar serves: its workload's ports, as they are captured (15006) or bound for other sidecars (mesh ports).

Invariant: no byte reaches the application but through a chain that asks its PeerAuthentication's kind of TLS and holds
the policy slots, unknown ports included.
"""

from __future__ import annotations

from gossamer.compile.draft import Draft
from gossamer.core.memo import Memo
from gossamer.model.view import ProxyView


def compile_inbound(view: ProxyView, memo: Memo) -> tuple[Draft, ...]:
    """The listeners, clusters and policy slots (ECDS) of a sidecar's inbound side; routes stand inline.

    Every draft states its references. `memo` shares what proxies with equal policies have in common (the slots).
    """
    raise NotImplementedError
