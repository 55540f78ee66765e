"""How the page came about: one line for each call, with its time, its end, and whom the called sidecar saw calling.

Only what was observed is shown: identities come from the proxies (`x-forwarded-client-cert`), and the call from
reviews to ratings from what reviews says of it (`server-timing`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from gossamer.demo.bookinfo.upstream import Answer

_RATINGS = re.compile(r'(ratings|ratings-failed);dur=([0-9.]+);desc="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One call: `elapsed` in seconds, None when it was not made; `peer` is the caller's attested identity, if any."""

    name: str
    depth: int
    elapsed: float | None
    peer: str | None = None
    note: str = ""
    failed: bool = False


def hop_of(service: str, answer: Answer) -> Hop:
    """The call from productpage to `service`."""
    return Hop(
        name=answer.headers.get("x-bookinfo-pod", service),
        depth=1,
        elapsed=answer.elapsed,
        peer=answer.headers.get("x-bookinfo-peer"),
        note=", ".join(part for part in (answer.problem, "asked twice" if answer.attempts > 1 else "") if part),
        failed=bool(answer.problem),
    )


def ratings_hop(reviews: Answer) -> Hop:
    """The call from reviews to ratings, as reviews told of it."""
    found = _RATINGS.search(reviews.headers.get("server-timing", ""))
    if reviews.problem or not found:
        note = "unknown, since reviews gave no answer" if reviews.problem else "not asked by this version of reviews"
        return Hop(name="ratings", depth=2, elapsed=None, note=note)
    kind, millis, said = found.groups()
    failed = kind == "ratings-failed"
    return Hop(
        name="ratings" if failed else said,
        depth=2,
        elapsed=float(millis) / 1000,
        note=said if failed else "",
        failed=failed,
    )


def _note(hop: Hop) -> str:
    peer = escape(hop.peer or "").replace("/", "/<wbr>")
    caller = f'<span class="lock">mutual TLS</span> from <code>{peer}</code>' if peer else ""
    return " &middot; ".join(part for part in (escape(hop.note), caller) if part)


def _hop(hop: Hop, longest: float) -> str:
    state = "idle" if hop.elapsed is None else "bad" if hop.failed else "good"
    bar, took = "", "&ndash;"
    if hop.elapsed is not None:
        bar = f'<i style="width:{100 * hop.elapsed / longest:.1f}%"></i>'
        took = f"{hop.elapsed * 1000:.0f} ms" if hop.elapsed < 1 else f"{hop.elapsed:.2f} s"
    note = _note(hop)
    return (
        f'<li class="hop d{hop.depth} {state}"><span class="name"><b>{escape(hop.name)}</b></span>'
        f'<span class="track">{bar}</span><span class="ms">{took}</span>'
        f"{f'<span class=note>{note}</span>' if note else ''}</li>"
    )


def write_hops(hops: tuple[Hop, ...]) -> str:
    """The section "Behind this page" as HTML, and in words whether anybody vouched for the callers."""
    longest = max((hop.elapsed or 0.0 for hop in hops), default=0.0) or 1.0
    attested = any(hop.peer for hop in hops)
    seen = "identities attested by the mesh" if attested else "no proxy vouched for any caller"
    return (
        '<section class="card trace" id="trace"><header><h2>Behind this page</h2>'
        f'<span class="served">{seen}</span></header>'
        f'<ol class="hops">{"".join(_hop(hop, longest) for hop in hops)}</ol></section>'
    )
