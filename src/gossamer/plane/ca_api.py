"""What a control plane tells commands on its own host of its authority, and what they may ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gossamer.ca.describe import describe_authority
from gossamer.ca.revocation import Kind
from gossamer.core.errors import GossamerError
from gossamer.plane.revoking import Revoking
from gossamer.plane.rotating import Rotating


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityView:
    """How the API reads and moves the authority."""

    rotating: Rotating
    revoking: Revoking
    clock: Callable[[], datetime]
    federated: Callable[[], list[dict[str, Any]]]


def ca_routes(view: AuthorityView) -> list[Route]:
    """`/v1/ca` and what is below it."""

    async def status(_: Request) -> Response:
        rotating, now = view.rotating, view.clock()
        found = describe_authority(rotating.custody, view.revoking.latest.value, view.revoking.issued.valid(now), now)
        found["rotation"]["awaited"] = list(rotating.awaited())
        found["problem"] = rotating.problem
        found["federated"] = view.federated()
        return JSONResponse(found)

    async def rotate(request: Request) -> Response:
        body = await request.json()
        said: tuple[str, ...] = ()
        try:
            match body["action"]:
                case "start":
                    patience = body.get("patience_s")
                    view.rotating.start(None if patience is None else timedelta(seconds=float(patience)))
                case "abort":
                    view.rotating.abort()
                case "continue":
                    said = view.rotating.go_on()
                case other:
                    return PlainTextResponse(f"no such action: {other}", status_code=400)
        except GossamerError as error:
            return PlainTextResponse(str(error), status_code=409)
        rotation = view.rotating.custody.rotation
        return JSONResponse({"phase": rotation.phase.value, "refused": list(said)})

    async def revoke(request: Request) -> Response:
        body = await request.json()
        try:
            kind, name = Kind(body["kind"]), str(body["name"])
            if body.get("undo"):
                view.revoking.undo(kind, name)
                return JSONResponse({"certificates": 0})
            return JSONResponse({"certificates": len(view.revoking.revoke(kind, name).serials)})
        except GossamerError as error:
            return PlainTextResponse(str(error), status_code=409)

    return [
        Route("/v1/ca", status),
        Route("/v1/ca/rotation", rotate, methods=["POST"]),
        Route("/v1/ca/revocations", revoke, methods=["POST"]),
    ]
