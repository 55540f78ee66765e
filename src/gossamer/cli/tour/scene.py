"""What every step works with: the mesh, the edits that it makes to it, and questions asked until the answer changes.

Invariant: an edit is remembered until it is undone, so a step that breaks off leaves nothing behind for the next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from gossamer.cli.tour.load import Client, Reply, Requests
from gossamer.cli.tour.running import RunningMesh
from gossamer.core.errors import GossamerError
from gossamer.demo.mesh import apply_edit, undo_edit

REVIEWS: Final = "/api/v1/products/0/reviews"
DETAILS: Final = "/api/v1/products/0"
RATINGS: Final = "/api/v1/products/0/ratings"
PRODUCTS: Final = "/api/v1/products"
PAGE: Final = "/productpage"
JASON: Final = {"end-user": "jason"}
SETTLE: Final = 14
"""Equal answers in a row after which an edit is taken for live: by chance, one in three each, once in five million."""
EFFECT_S: Final = 8.0


class UnmetError(GossamerError):
    """What a step waited for did not come. `expected` and `seen` go to the report."""

    def __init__(self, expected: str, seen: str, logs: tuple[Path, ...] = ()) -> None:
        super().__init__(f"expected {expected}, saw {seen}")
        self.expected = expected
        self.seen = seen
        self.logs = logs


class Teller(Protocol):
    """Whoever shows a person what goes on."""

    def say(self, text: str) -> None:
        """What happens now, in a few words."""

    def count(self, done: int, total: int) -> None:
        """How much of it is done."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """The mesh of the tour, and its edits."""

    mesh: RunningMesh
    teller: Teller
    _edits: dict[str, None] = field(default_factory=dict)

    def edit(self, name: str) -> float:
        """Make an edit of the tour (`reviews/v1`); returns the time just before (monotonic clock)."""
        self._edits[name] = None
        before = time.monotonic()
        apply_edit(self.mesh.folder, name)
        return before

    def undo(self, name: str) -> float:
        """Give the edited file its first text again; returns the time just before."""
        before = time.monotonic()
        undo_edit(self.mesh.folder, name)
        self._edits.pop(name, None)
        return before

    def undo_all(self) -> None:
        """Undo what is left of all edits."""
        for name in tuple(self._edits):
            self.undo(name)

    def requests(self, path: str, label: Callable[[Reply], str], headers: Mapping[str, str] | None = None) -> Requests:
        """Requests to the ingress gateway, as fast as four connections go."""
        return Requests(base=self.mesh.ingress, path=path, headers=headers or {}, label=label)

    def logs_of(self, *names: str) -> tuple[Path, ...]:
        """Where these parts of the mesh write."""
        return tuple(self.mesh.log(name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request whose answers, sorted by `label`, are asked for again and again."""

    path: str
    label: Callable[[Reply], str]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The answer that was waited for, when it was there (monotonic clock), and how many were asked for."""

    reply: Reply
    at: float
    asked: int


async def ask_until(
    client: Client,
    question: Question,
    wanted: Callable[[Sequence[str]], bool],
    expected: str,
    timeout_s: float = EFFECT_S,
) -> Seen:
    """Ask, one request after another, until `wanted` says yes to the labels so far. UnmetError after `timeout_s`."""
    labels: list[str] = []
    deadline = time.monotonic() + timeout_s
    while True:
        reply = await client.get(question.path, question.headers)
        labels.append(question.label(reply))
        now = time.monotonic()
        if wanted(labels):
            return Seen(reply=reply, at=now, asked=len(labels))
        if now > deadline:
            last = ", ".join(dict.fromkeys(labels[-SETTLE:]))
            raise UnmetError(f"{expected} within {timeout_s:g} s", f"{last} in the last of {len(labels)} answers")


async def settle(scene: Scene, client: Client, edit: str, version: str) -> None:
    """Make an edit after which reviews is of one version alone, and wait until it certainly is."""
    scene.teller.say(f"everybody to reviews {version}")
    scene.edit(edit)
    await ask_until(client, Question(path=REVIEWS, label=version_of), settled(version), f"reviews {version} alone")


def settled(label: str) -> Callable[[Sequence[str]], bool]:
    """Whether the last answers were all `label`."""
    return lambda labels: len(labels) >= SETTLE and all(known == label for known in labels[-SETTLE:])


def last_is(label: str) -> Callable[[Sequence[str]], bool]:
    """Whether the newest answer was `label`."""
    return lambda labels: labels[-1] == label


def status_of(reply: Reply) -> str:
    """The status as text, or why there is none."""
    return str(reply.status) if reply.status else reply.problem


def version_of(reply: Reply) -> str:
    """The version of reviews that answered, else the status."""
    body = _json(reply)
    return str(body["version"]) if reply.status == 200 and "version" in body else status_of(reply)


def stars_of(reply: Reply) -> str:
    """What a reader sees of the stars: `red stars`, `black stars`, `no stars`, `stars lost` when ratings failed, else
    the status."""
    if reply.status != 200:
        return status_of(reply)
    reviews = _json(reply).get("reviews")
    ratings = (
        [review.get("rating") for review in reviews if isinstance(review, dict)] if isinstance(reviews, list) else []
    )
    found = [rating for rating in ratings if isinstance(rating, dict)]
    if not found:
        return "no stars"
    return f"{found[0]['color']} stars" if "color" in found[0] else "stars lost"


def _json(reply: Reply) -> Mapping[str, object]:
    try:
        body = json.loads(reply.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
