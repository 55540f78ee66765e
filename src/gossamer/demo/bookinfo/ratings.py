"""ratings: how many stars each reviewer gave a book. What is posted lives as long as the process."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gossamer.demo.bookinfo.server import reply
from gossamer.demo.bookinfo.settings import Settings

DEFAULT_RATINGS = {"Reviewer1": 5, "Reviewer2": 4}
MOST_BOOKS = 1000
MOST_REVIEWERS = 100


def parse_ratings(body: object) -> dict[str, int] | str:
    """The ratings in a posted JSON value, or what is wrong with it."""
    if not isinstance(body, dict) or not body:
        return 'want an object of reviewer and stars, such as {"Reviewer1": 5}'
    if len(body) > MOST_REVIEWERS:
        return f"want at most {MOST_REVIEWERS} reviewers, got {len(body)}"
    for reviewer, stars in body.items():
        if type(stars) is not int or not 0 <= stars <= 5:
            return f"want 0 to 5 stars from {reviewer}, got {stars!r}"
    return dict(body)


def build_app(settings: Settings) -> Starlette:
    """The ASGI application of `/ratings/{id}` (GET and POST) and `/health`."""
    posted: dict[int, dict[str, int]] = {}

    async def read(request: Request) -> Response:
        book = request.path_params["book"]
        return reply(request, settings, {"id": book, "ratings": posted.get(book, DEFAULT_RATINGS)})

    async def write(request: Request) -> Response:
        book = request.path_params["book"]
        try:
            ratings = parse_ratings(await request.json())
        except ValueError as error:
            ratings = f"want JSON: {error}"
        if isinstance(ratings, str):
            return reply(request, settings, {"error": ratings}, status=400)
        if book not in posted and len(posted) >= MOST_BOOKS:
            return reply(request, settings, {"error": f"holds ratings of {MOST_BOOKS} books already"}, status=507)
        posted[book] = ratings
        return reply(request, settings, {"id": book, "ratings": ratings})

    async def health(request: Request) -> Response:
        return reply(request, settings, {"status": "ratings is healthy"})

    return Starlette(
        routes=[
            Route("/ratings/{book:int}", read, methods=["GET"]),
            Route("/ratings/{book:int}", write, methods=["POST"]),
            Route("/health", health),
        ]
    )
