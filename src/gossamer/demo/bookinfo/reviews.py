"""reviews: what readers wrote. v1 asks nobody; v2 adds black stars and v3 red ones, both from ratings.

v2 waits 10 s for ratings and v3 2.5 s: Istio's fault injection task shows with them that productpage, which waits
3 s and asks once more, loses the reviews of v2 when ratings is 7 s late, and only the stars of v3.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gossamer.demo.bookinfo.context import forward_headers
from gossamer.demo.bookinfo.server import about_us, reply
from gossamer.demo.bookinfo.settings import Settings
from gossamer.demo.bookinfo.upstream import Answer, Upstream

STAR_COLORS = {"v2": "black", "v3": "red"}
RATINGS_DEADLINES = {"v2": 10.0, "v3": 2.5}

REVIEWS = {
    "Reviewer1": (
        "Two pairs of twins, one town and not a single straight answer. I laughed from the first mistaken dinner to "
        "the last, and read half of it aloud to a friend who had only asked for the time."
    ),
    "Reviewer2": (
        "Very funny, a little cruel, and over before you tire of it. You may lose track of who is whom, but so does "
        "everybody on the stage, and that is half the pleasure."
    ),
}


def rating_of(reviewer: str, answer: Answer, color: str) -> dict[str, object]:
    """The stars that `reviewer` gave by what ratings answered, or why there are none."""
    if answer.problem:
        return {"error": "The ratings service cannot be asked right now"}
    ratings = answer.body.get("ratings") if isinstance(answer.body, dict) else None
    stars = ratings.get(reviewer) if isinstance(ratings, dict) else None
    if not isinstance(stars, int):
        return {"error": "This reviewer gave no rating"}
    return {"stars": stars, "color": color}


def server_timing(answer: Answer) -> str:
    """The call to ratings as a Server-Timing entry (W3C), so that the page can show a hop that it cannot see."""
    said = answer.problem or answer.headers.get("x-bookinfo-pod", "ratings")
    text = "".join(letter for letter in said if letter.isascii() and letter.isprintable() and letter not in '"\\')
    name = "ratings-failed" if answer.problem else "ratings"
    return f'{name};dur={answer.elapsed * 1000:.1f};desc="{text}"'


def build_app(settings: Settings) -> Starlette:
    """The ASGI application of `/reviews/{id}` and `/health` in the settings' version."""
    color = STAR_COLORS.get(settings.version)
    ratings = Upstream("ratings", settings.ratings_url, deadline=RATINGS_DEADLINES.get(settings.version, 10.0))

    async def reviews(request: Request) -> Response:
        book = request.path_params["book"]
        written: list[dict[str, object]] = [{"reviewer": name, "text": text} for name, text in REVIEWS.items()]
        headers = about_us(request, settings)
        if color:
            answer = await ratings.get(f"/ratings/{book}", forward_headers(request.headers.raw))
            headers["server-timing"] = server_timing(answer)
            for review in written:
                review["rating"] = rating_of(str(review["reviewer"]), answer, color)
        body = {"id": str(book), "podname": settings.podname, "clustername": settings.clustername, "reviews": written}
        response = reply(request, settings, body | {"version": settings.version})
        response.headers.update(headers)
        return response

    async def health(request: Request) -> Response:
        return reply(request, settings, {"status": "reviews is healthy"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await ratings.aclose()

    return Starlette(routes=[Route("/reviews/{book:int}", reviews), Route("/health", health)], lifespan=lifespan)
