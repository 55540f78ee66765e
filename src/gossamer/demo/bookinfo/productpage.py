"""productpage: the page that people see, made of what details and reviews answer. It is whole whatever fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from gossamer.demo.bookinfo.context import forward_headers, peer_identity
from gossamer.demo.bookinfo.hops import Hop, hop_of, ratings_hop
from gossamer.demo.bookinfo.page import ProductPage, asset, write_index, write_product_page
from gossamer.demo.bookinfo.server import about_us, reply
from gossamer.demo.bookinfo.settings import Settings
from gossamer.demo.bookinfo.upstream import Answer, Upstream

DEADLINE_SECONDS = 3.0
REVIEWS_ATTEMPTS = 2  # so that a mesh timeout shorter than the deadline is felt twice, as Istio's timeout task shows
LONGEST_NAME = 64
LONGEST_FORM = 4096

PRODUCTS: tuple[Mapping[str, object], ...] = (
    {
        "id": 0,
        "title": "The Comedy of Errors",
        "descriptionHtml": (
            "Two pairs of twins, parted by a shipwreck when they were small, walk about the same town on the same day, "
            "and nobody in it knows that there are two of each. Shakespeare wrote it early and kept it short, and of "
            "all his plays it comes nearest to a farce: wrong dinners, wrong debts, wrong arrests and one gold chain."
        ),
    },
)
REFUSED_NAME = f"A name travels in an HTTP header: use 1 to {LONGEST_NAME} printable ASCII characters."
PAGE_HEADERS = {
    "cache-control": "no-store",  # two loads must be two requests, or a canary could not be seen
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'",
    "referrer-policy": "no-referrer",
}


def parse_user(name: str) -> str | None:
    """`name` without surrounding blanks, or None when it cannot stand in a header."""
    name = name.strip()
    return name if 0 < len(name) <= LONGEST_NAME and name.isascii() and name.isprintable() else None


def session_user(request: Request) -> str | None:
    """Who is signed in: by the cookie, else by an `end-user` header, so that a command line needs no cookie."""
    cookie = request.cookies.get("session")
    return parse_user(unquote(cookie) if cookie else request.headers.get("end-user", ""))


async def _form_field(request: Request, name: str) -> str:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get(name, [""])[0]


@dataclass(frozen=True, slots=True)
class Bookshop:
    """The endpoints, with whom they ask."""

    settings: Settings
    details: Upstream
    reviews: Upstream
    ratings: Upstream

    async def ask(self, upstream: Upstream, request: Request, book: int) -> Answer:
        """What `upstream` says of `book`, asked on behalf of whoever sent `request`."""
        headers = forward_headers(request.headers.raw, end_user=session_user(request))
        return await upstream.get(f"/{upstream.name}/{book}", headers)

    async def productpage(self, request: Request) -> Response:
        """The HTML page; 200 also when a part of it could not be had, which it then says."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            details = tasks.create_task(self.ask(self.details, request, 0))
            reviews = tasks.create_task(self.ask(self.reviews, request, 0))
        whole = Hop(
            name=self.settings.podname,
            depth=0,
            elapsed=time.monotonic() - started,
            peer=peer_identity(request.headers.getlist("x-forwarded-client-cert")),
        )
        page = ProductPage(
            title=str(PRODUCTS[0]["title"]),
            summary=str(PRODUCTS[0]["descriptionHtml"]),
            details=details.result(),
            reviews=reviews.result(),
            user=session_user(request),
            notice=REFUSED_NAME if request.query_params.get("signin") == "refused" else "",
            hops=(
                whole,
                hop_of("details", details.result()),
                hop_of("reviews", reviews.result()),
                ratings_hop(reviews.result()),
            ),
        )
        return HTMLResponse(write_product_page(page), headers=PAGE_HEADERS | about_us(request, self.settings))

    async def index(self, request: Request) -> Response:
        """A way in for who opens the address alone."""
        upstreams = {upstream.name: upstream.base for upstream in (self.details, self.reviews, self.ratings)}
        return HTMLResponse(write_index(upstreams, user=session_user(request)), headers=PAGE_HEADERS)

    async def login(self, request: Request) -> Response:
        """Sign in by name: everybody is believed. Back to the page, which says so when the name cannot be used."""
        user = parse_user(await _form_field(request, "username"))
        if user is None:
            return RedirectResponse("/productpage?signin=refused", status_code=303)
        response = RedirectResponse("/productpage", status_code=303)
        response.set_cookie("session", quote(user, safe=""), httponly=True, samesite="lax")
        return response

    async def logout(self, _request: Request) -> Response:
        """Forget who is signed in."""
        response = RedirectResponse("/productpage", status_code=303)
        response.delete_cookie("session", httponly=True, samesite="lax")
        return response

    async def icon(self, _request: Request) -> Response:
        """The page's icon, the one thing that it does not carry inside it."""
        return Response(asset("icon.svg"), media_type="image/svg+xml", headers={"cache-control": "max-age=3600"})

    async def health(self, request: Request) -> Response:
        """200 when this process serves; the others' health is theirs to tell."""
        return reply(request, self.settings, {"status": "productpage is healthy"})

    async def products(self, request: Request) -> Response:
        """All products."""
        return reply(request, self.settings, PRODUCTS)

    async def product(self, request: Request) -> Response:
        """The details of one product."""
        return await self._answer(self.details, request)

    async def product_reviews(self, request: Request) -> Response:
        """The reviews of one product."""
        return await self._answer(self.reviews, request)

    async def product_ratings(self, request: Request) -> Response:
        """The ratings of one product, asked from ratings itself."""
        return await self._answer(self.ratings, request)

    async def _answer(self, upstream: Upstream, request: Request) -> Response:
        book = request.path_params["book"]
        if book >= len(PRODUCTS):
            return reply(request, self.settings, {"error": f"There is no product {book}"}, status=404)
        answer = await self.ask(upstream, request, book)
        body = {"error": f"The {upstream.name} service {answer.problem}"} if answer.problem else answer.body
        return reply(request, self.settings, body, status=answer.status)


def build_app(settings: Settings) -> Starlette:
    """The ASGI application of the page, the sign-in and the API."""
    shop = Bookshop(
        settings,
        Upstream("details", settings.details_url, deadline=DEADLINE_SECONDS),
        Upstream("reviews", settings.reviews_url, deadline=DEADLINE_SECONDS, attempts=REVIEWS_ATTEMPTS),
        Upstream("ratings", settings.ratings_url, deadline=DEADLINE_SECONDS),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for upstream in (shop.details, shop.reviews, shop.ratings):
            await upstream.aclose()

    routes = [
        Route("/", shop.index),
        Route("/productpage", shop.productpage),
        Route("/login", shop.login, methods=["POST"]),
        Route("/logout", shop.logout, methods=["GET", "POST"]),
        Route("/health", shop.health),
        Route("/static/icon.svg", shop.icon),
        Route("/api/v1/products", shop.products),
        Route("/api/v1/products/{book:int}", shop.product),
        Route("/api/v1/products/{book:int}/reviews", shop.product_reviews),
        Route("/api/v1/products/{book:int}/ratings", shop.product_ratings),
    ]
    return Starlette(routes=routes, lifespan=lifespan)
