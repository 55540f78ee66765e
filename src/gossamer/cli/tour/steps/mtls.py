"""Step 1: every call travels in mutual TLS, its caller is attested, and plaintext is refused.

Who called is what the called sidecar saw in the caller's certificate (`x-forwarded-client-cert`); who is refused is
found out at each sidecar's own socket, past every other sidecar.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

from gossamer.cli.tour.load import Reply, open_client, send_requests
from gossamer.cli.tour.report import Check, Rows, StepReport, tally
from gossamer.cli.tour.running import MeshStatus
from gossamer.cli.tour.scene import PAGE, RATINGS, Scene, status_of

PAGES = 60
APART_S = 3.0
WORKLOADS = tuple(
    f"default/{name}"
    for name in ("productpage-v1", "details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3")
)
CALLERS = {
    "productpage": "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account",
    "details": "spiffe://cluster.local/ns/default/sa/bookinfo-productpage",
    "reviews": "spiffe://cluster.local/ns/default/sa/bookinfo-productpage",
}
REFUSED = "refused"
_HOP = re.compile(r'<li class="hop d\d (\w+)"><span class="name"><b>([^<]+)</b>(.*?)</li>')
_PEER = re.compile(r"<code>(.*?)</code>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A call as the page tells of it: who was called, and the caller's attested identity, empty if there is none."""

    called: str
    caller: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How often each call was seen on the pages; what each sidecar did with plaintext and with TLS that brings no
    certificate (`refused` or what else); what productpage got from ratings, which it may not ask."""

    pages: Counter[str]
    hops: Counter[Hop]
    plaintext: Mapping[str, str]
    anonymous: Mapping[str, str]
    trespass: str
    certificates_end: datetime | None = None
    proxies: int = 0


def hops_of(html: str) -> tuple[Hop, ...]:
    """The calls that succeeded, from the page's own account of how it was made."""
    found = []
    for state, called, rest in _HOP.findall(html):
        if state == "good":
            peer = _PEER.search(rest)
            found.append(Hop(called=unescape(called), caller=unescape(peer[1].replace("<wbr>", "")) if peer else ""))
    return tuple(found)


async def tour_mtls(scene: Scene) -> StepReport:
    """Load pages and read who called whom; then try every sidecar without an identity."""
    scene.teller.say(f"loading {PAGES} pages")
    hops: Counter[Hop] = Counter()

    def label(reply: Reply) -> str:
        hops.update(hops_of(reply.body.decode("utf-8", "replace")))
        return status_of(reply)

    pages = await send_requests(scene.requests(PAGE, label), PAGES, told=lambda done: scene.teller.count(done, PAGES))
    scene.teller.say("knocking at every sidecar without an identity")
    addresses = {name: scene.mesh.mesh_address(name) for name in WORKLOADS}
    plaintext = await asyncio.gather(*(try_plaintext(*address) for address in addresses.values()))
    anonymous = await asyncio.gather(*(try_anonymous_tls(*address) for address in addresses.values()))
    async with open_client(scene.mesh.ingress) as client:
        trespass = await client.get(RATINGS)
    status = await scene.mesh.status()
    return report(
        Measured(
            pages=pages.statuses(),
            hops=hops,
            plaintext=dict(zip(addresses, plaintext, strict=True)),
            anonymous=dict(zip(addresses, anonymous, strict=True)),
            trespass=f"{status_of(trespass)} {trespass.body.decode('utf-8', 'replace')[:80]}",
            certificates_end=_first_end(status),
            proxies=len(status.proxies),
        ),
        scene.logs_of("envoy default/productpage-v1", "envoy default/details-v1"),
    )


def _first_end(status: MeshStatus) -> datetime | None:
    return min((proxy.certificate_expires for proxy in status.proxies if proxy.certificate_expires), default=None)


async def try_plaintext(host: str, port: int) -> str:
    """What a sidecar does with an HTTP request in the clear: `refused`, or what else came of it."""
    return await _attempt(host, port, None)


async def try_anonymous_tls(host: str, port: int) -> str:
    """What a sidecar does with TLS from a client that has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is the client that has to prove itself here
    context.set_alpn_protocols(["istio"])
    return await _attempt(host, port, context)


async def _attempt(host: str, port: int, context: ssl.SSLContext | None) -> str:
    try:
        async with asyncio.timeout(APART_S):
            reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return f"nobody listens at {host}:{port} ({error.strerror or type(error).__name__})"
    try:
        async with asyncio.timeout(APART_S):
            if context is not None:
                await writer.start_tls(context)
            writer.write(b"GET /health HTTP/1.1\r\nhost: demo\r\n\r\n")
            answer = await reader.read(64)
    except TimeoutError:
        return f"left hanging for {APART_S:g} s"
    except OSError:  # a reset, or a TLS alert
        return REFUSED
    finally:
        writer.transport.abort()
    return f"answered {answer.splitlines()[0].decode('latin-1')!r}" if answer else REFUSED


def report(measured: Measured, logs: tuple[Path, ...]) -> StepReport:
    """What the measurements say."""
    attested = sum(count for hop, count in measured.hops.items() if hop.caller)
    rows = [
        (hop.called, _account(hop.caller) or _by_policy(hop), str(count))
        for hop, count in sorted(measured.hops.items(), key=lambda item: item[0].called)
    ]
    ends = measured.certificates_end
    checks = (
        Check(
            claim=f"{PAGES} pages are whole",
            seen=tally(measured.pages),
            passed=measured.pages == Counter({"200": PAGES}),
        ),
        Check(
            claim="every proxy has a certificate of its own, renewed in time",
            seen=f"{measured.proxies} proxies, the first ends in {_hours(ends) if ends else 'no time that is known'}",
            passed=ends is not None and ends > datetime.now(UTC),
        ),
        _callers(measured),
        _refusals("plaintext is refused by every sidecar", measured.plaintext),
        _refusals("TLS without a certificate is refused by every sidecar", measured.anonymous),
        Check(
            claim="productpage may not ask ratings itself",
            seen=measured.trespass,
            passed=measured.trespass.startswith("403"),
        ),
    )
    return StepReport(
        about="Every caller shows a certificate, and the called sidecar says whom it saw.",
        figure=f"{attested} calls attested, {len(measured.plaintext)} sidecars refuse plaintext",
        blocks=(Rows(columns=("called", "by (namespace/account)", "calls"), rows=tuple(rows), right=(2,)),),
        checks=checks,
        logs=logs,
    )


def _hours(end: datetime) -> str:
    minutes = max(0, int((end - datetime.now(UTC)).total_seconds() // 60))
    return f"{minutes // 60} h {minutes % 60} min"


def _account(identity: str) -> str:
    """`NAMESPACE/ACCOUNT` of a SPIFFE identity."""
    parts = identity.split("/")
    return f"{parts[-3]}/{parts[-1]}" if len(parts) > 4 else identity


def _by_policy(hop: Hop) -> str:
    return "default/bookinfo-reviews, no other may" if hop.called.startswith("ratings") else "nobody"


def _callers(measured: Measured) -> Check:
    wrong = []
    for hop, count in measured.hops.items():
        wanted = CALLERS.get(hop.called.rpartition("-")[0])
        if wanted and hop.caller != wanted:
            wrong.append(f"{hop.called} saw {hop.caller or 'nobody'} {count} times")
    missing = CALLERS.keys() - {hop.called.rpartition("-")[0] for hop in measured.hops}
    wrong += [f"no call to {service}" for service in sorted(missing)]
    attested = sum(count for hop, count in measured.hops.items() if hop.caller)
    return Check(
        claim="every caller is who it should be",
        seen="; ".join(wrong) or f"{attested} attested calls, no other",
        passed=not wrong,
    )


def _refusals(claim: str, attempts: Mapping[str, str]) -> Check:
    wrong = [f"{name} {did}" for name, did in attempts.items() if did != REFUSED]
    refused = f"{len(attempts) - len(wrong)} of {len(attempts)} attempts"
    return Check(claim=claim, seen="; ".join(wrong) or refused, passed=bool(attempts) and not wrong)
