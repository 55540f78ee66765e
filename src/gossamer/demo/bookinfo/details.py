"""details: the facts about a book."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gossamer.demo.bookinfo.server import reply
from gossamer.demo.bookinfo.settings import Settings


def book_details(book: int) -> dict[str, object]:
    """The record of `book`; every number is the same book, as in the Bookinfo that people know."""
    return {
        "id": book,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    }


def build_app(settings: Settings) -> Starlette:
    """The ASGI application of `/details/{id}` and `/health`."""

    async def details(request: Request) -> Response:
        return reply(request, settings, book_details(request.path_params["book"]))

    async def health(request: Request) -> Response:
        return reply(request, settings, {"status": "details is healthy"})

    return Starlette(routes=[Route("/details/{book:int}", details), Route("/health", health)])
