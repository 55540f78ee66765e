"""The product page as HTML: one document with its style inside it. Whatever another service said is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from gossamer.demo.bookinfo.hops import Hop, write_hops
from gossamer.demo.bookinfo.upstream import Answer

DETAIL_ROWS = (
    ("type", "Format"),
    ("pages", "Pages"),
    ("publisher", "Publisher"),
    ("language", "Language"),
    ("ISBN-10", "ISBN-10"),
    ("ISBN-13", "ISBN-13"),
)
STAR = "M12 2.2l2.9 6.3 6.9.8-5.1 4.7 1.4 6.8L12 17.4l-6.1 3.4 1.4-6.8L2.2 9.3l6.9-.8z"
WARNING = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3 22 20H2zM12 9.5v5M12 17.3v.1"/></svg>'


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductPage:
    """All that the page shows: the product, what details and reviews answered, who looks, and how it was made."""

    title: str
    summary: str
    details: Answer
    reviews: Answer
    user: str | None
    notice: str = ""
    hops: tuple[Hop, ...] = ()


@cache
def asset(name: str) -> str:
    """The text of a file beside this module, such as `page.css`."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8").strip()


def _session(user: str | None) -> str:
    if user:
        return (
            f'<span class="who">Signed in as <b>{escape(user)}</b></span>'
            '<a class="button quiet" href="/logout">Sign out</a>'
        )
    return """<details class="signin"><summary class="button" role="button">Sign in</summary>
<form method="post" action="/login">
<label for="username">Your name</label>
<input id="username" name="username" autocomplete="username" maxlength="64" required placeholder="jason">
<button class="button">Sign in</button>
<p>Any name will do, and no password. Your requests then carry it in the header <code>end-user</code>,
by which a mesh can route.</p>
</form></details>"""


def write_document(title: str, body: str, *, user: str | None) -> str:
    """A whole HTML document around `body`, which must be HTML already."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" type="image/svg+xml" href="/static/icon.svg">
<style>{asset("page.css")}</style>
</head>
<body>
<div class="bar"><div class="wrap">
<a class="mark" href="/productpage">{asset("icon.svg")}<span>Bookinfo</span></a>{_session(user)}
</div></div>
{body}
<footer><div class="wrap">Bookinfo is the example application of Gossamer: four small services
that a mesh ties together.</div></footer>
</body>
</html>
"""


def _trouble(headline: str, reason: str) -> str:
    return f'<div class="trouble" role="alert">{WARNING}<h3>{escape(headline)}</h3><p>{escape(reason)}</p></div>'


def _reason(service: str, answer: Answer) -> str:
    again = ", asked twice" if answer.attempts > 1 else ""
    return f"The {service} service {answer.problem}{again}."


def _star(filled: float) -> str:
    hidden = 100 - round(100 * min(max(filled, 0), 1))
    bright = f'<path class="on" d="{STAR}" style="clip-path:inset(0 {hidden}% 0 0)"/>'
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{STAR}"/>{bright if hidden < 100 else ""}</svg>'


def _stars(count: float, color: str) -> str:
    shapes = "".join(_star(count - index) for index in range(5))
    label = escape(f"{count:g} of 5 {color} stars")
    return f'<span class="stars {escape(color)}" role="img" aria-label="{label}" title="{label}">{shapes}</span>'


def _rating(review: Mapping[str, object]) -> str:
    rating = review.get("rating")
    if not isinstance(rating, dict):
        return ""
    stars = rating.get("stars")
    if isinstance(stars, int):
        return _stars(stars, str(rating.get("color", "black")))
    return f'<span class="norating">{escape(str(rating.get("error", "No rating")))}</span>'


def _review(review: Mapping[str, object]) -> str:
    name = str(review.get("reviewer", "Somebody"))
    initials = "".join(letter for letter in name if letter.isupper() or letter.isdigit())[:2] or name[:1]
    return (
        f'<article class="review"><span class="face" aria-hidden="true">{escape(initials)}</span>'
        f'<div class="by"><b>{escape(name)}</b>{_rating(review)}</div>'
        f"<blockquote>{escape(str(review.get('text', '')))}</blockquote></article>"
    )


def _reviews_of(body: Mapping[str, object]) -> Iterable[Mapping[str, object]]:
    reviews = body.get("reviews")
    return [review for review in reviews if isinstance(review, dict)] if isinstance(reviews, list) else []


def _reviews_card(answer: Answer) -> str:
    if answer.problem or not isinstance(answer.body, dict):
        inside = _trouble("The reviews of this book are out of reach", _reason("reviews", answer))
        return f'<section class="card" id="reviews"><header><h2>Reviews</h2></header>{inside}</section>'
    body = answer.body
    reviews = list(_reviews_of(body))
    version, pod = escape(str(body.get("version", ""))), escape(str(body.get("podname", "")))
    plain = ""
    if not any("rating" in review for review in reviews):
        plain = '<p class="plain">This version of reviews shows no stars: it does not ask the ratings service.</p>'
    return (
        '<section class="card" id="reviews"><header><h2>Reviews</h2>'
        f'<span class="served">by <b id="reviews-pod">{pod}</b></span>'
        f'<span class="chip" id="reviews-version">{version}</span></header>'
        f"{''.join(map(_review, reviews))}{plain}</section>"
    )


def _details_card(answer: Answer) -> str:
    if answer.problem or not isinstance(answer.body, dict):
        inside = _trouble("The details of this book are out of reach", _reason("details", answer))
    else:
        body = answer.body
        rows = (
            f"<div><dt>{label}</dt><dd>{escape(str(body[key]))}</dd></div>" for key, label in DETAIL_ROWS if key in body
        )
        inside = f"<dl>{''.join(rows)}</dl>"
    return f'<section class="card" id="details"><header><h2>Details</h2></header>{inside}</section>'


def _verdict(answer: Answer) -> str:
    """The average of the stars, if there are any."""
    found = _reviews_of(answer.body) if isinstance(answer.body, dict) and not answer.problem else []
    ratings = [review.get("rating") for review in found]
    stars = [rating["stars"] for rating in ratings if isinstance(rating, dict) and isinstance(rating.get("stars"), int)]
    if not stars:
        return ""
    color = next(str(rating.get("color")) for rating in ratings if isinstance(rating, dict) and "stars" in rating)
    average = sum(stars) / len(stars)
    return (
        f'<p class="verdict">{_stars(round(average, 1), color)}<span>{average:.1f} from {len(stars)} readers</span></p>'
    )


def write_product_page(page: ProductPage) -> str:
    """The HTML document of `page`. It is whole whatever failed: a failure is shown where its part would stand."""
    known = page.details.body if isinstance(page.details.body, dict) and not page.details.problem else {}
    eyebrow = (
        " &middot; ".join(escape(str(known[key])) for key in ("author", "year") if key in known)
        or "A play in five acts"
    )
    notice = f'<div class="notice">{_trouble("You are not signed in", page.notice)}</div>' if page.notice else ""
    body = f"""<main class="wrap">{notice}
<div class="hero"><div class="book">{asset("cover.svg")}</div>
<div class="words"><div class="title"><p class="eyebrow">{eyebrow}</p><h1>{escape(page.title)}</h1></div>
<p class="lede">{escape(page.summary)}</p>{_verdict(page.reviews)}</div></div>
<div class="columns">{_details_card(page.details)}{_reviews_card(page.reviews)}</div>
{write_hops(page.hops)}
</main>"""
    return write_document(page.title, body, user=page.user)


def write_index(upstreams: Mapping[str, str], *, user: str | None) -> str:
    """The page at `/`: what this service is and whom it asks, by name and address."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd><code>{escape(url)}</code></dd></div>" for name, url in upstreams.items()
    )
    body = f"""<main class="wrap"><div class="plainpage">
<p class="eyebrow">productpage</p><h1>A bookshop with one book</h1>
<p class="lede">This service makes the product page from the answers of the others.</p>
<p class="verdict"><a class="button" href="/productpage">Open the product page</a>
<a class="button quiet" href="/api/v1/products">See the API</a></p>
<section class="card"><header><h2>Whom it asks</h2></header><dl>{rows}</dl></section></div></main>"""
    return write_document("Bookinfo", body, user=user)
