"""What a control plane tells commands on its own host: its status, its proxies, its diagnostics, new join tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gossamer import __version__
from gossamer.ca.authority import Authority
from gossamer.ca.issue import create_token
from gossamer.ca.ledger import Ledger
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.errors import GossamerError
from gossamer.core.latest import Latest
from gossamer.sources.registry import Registration
from gossamer.xds.status import ProxyStatus


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How the API reads a control plane."""

    bound: Callable[[], dict[str, str]]
    ready: Callable[[], bool]
    diagnostics: Callable[[], Diagnostics]
    proxies: Callable[[], Sequence[ProxyStatus]]
    registrations: Callable[[], Sequence[Registration]]
    generation: Callable[[], int]
    keys: Callable[[], list[dict[str, Any]]]
    endpoints: Callable[[str, str], list[dict[str, Any]]]
    """Of a service, as one workload sees it or (empty) all do."""
    snapshot: Callable[[], dict[str, Any]]
    """All that the mesh is made of, as `plane.snapshot` has it."""
    seen: Callable[[], dict[str, Any]]
    """What sidecars have seen."""
    authority: Latest[Authority]
    ledger: Ledger
    since: datetime
    """When the process began to serve."""


def local_routes(view: View) -> list[Route]:
    """The API's routes, each answering from `view` at the time of the request."""

    async def status(_: Request) -> Response:
        return JSONResponse(
            {
                "version": __version__,
                "since": view.since.isoformat(timespec="seconds"),
                "ready": view.ready(),
                "generation": view.generation(),
                **view.bound(),
                "trust_domain": view.authority.value.trust_domain,
                "diagnostics": [diagnostic.to_json() for diagnostic in view.diagnostics()],
                "proxies": [_proxy(row) for row in view.proxies()],
                "workloads": [_workload(row) for row in view.registrations()],
                "keys": view.keys(),
                "root": {
                    "sha256": view.authority.value.root_fingerprint,
                    "ends": view.authority.value.root_ends.isoformat(timespec="seconds"),
                },
            }
        )

    async def proxies(_: Request) -> Response:
        return JSONResponse([_proxy(row) for row in view.proxies()])

    async def endpoints(request: Request) -> Response:
        query = request.query_params
        try:
            return JSONResponse(view.endpoints(query.get("service", ""), query.get("from", "")))
        except GossamerError as error:
            return PlainTextResponse(str(error), status_code=404)

    async def snapshot(_: Request) -> Response:
        return JSONResponse(view.snapshot())

    async def seen(_: Request) -> Response:
        return JSONResponse(view.seen())

    async def roots(_: Request) -> Response:
        return PlainTextResponse(view.authority.value.roots_pem)

    async def token(request: Request) -> Response:
        body = await request.json()
        try:
            made = create_token(
                view.authority.value,
                view.ledger,
                host=body["host"],
                grants=body["grants"],
                now=datetime.now(UTC),
                lifetime=timedelta(seconds=float(body.get("lifetime_s", 3600))),
            )
        except GossamerError as error:
            return PlainTextResponse(str(error), status_code=400)
        return JSONResponse({"token": made})

    return [
        Route("/v1/status", status),
        Route("/v1/proxies", proxies),
        Route("/v1/endpoints", endpoints),
        Route("/v1/snapshot", snapshot),
        Route("/v1/seen", seen),
        Route("/v1/roots", roots),
        Route("/v1/tokens", token, methods=["POST"]),
    ]


def _proxy(row: ProxyStatus) -> dict[str, Any]:
    return {
        "name": row.name,
        "state": row.state.value,
        "node": row.node,
        "version": row.version,
        "address": row.address,
        "connected_s": round(row.connected_s, 1),
        "types": [
            {
                "type": item.type_url.rpartition(".")[2],
                "state": item.state.value,
                "resources": item.resources,
                "in_flight": item.in_flight,
                "waiting": item.waiting,
                "open_s": round(item.open_s, 3),
                "rejections": [
                    {
                        "name": rejection.name,
                        "message": rejection.message,
                        "origins": [str(origin) for origin in rejection.origins],
                    }
                    for rejection in item.rejections
                ],
            }
            for item in row.types
        ],
    }


def _workload(row: Registration) -> dict[str, Any]:
    return {
        "namespace": row.proxy.namespace,
        "name": row.proxy.name,
        "type": row.proxy.type.value,
        "service_account": row.proxy.service_account,
        "host": row.host,
        "health": row.workload.health.value,
        "message": row.state_message,
        "address": row.workload.address,
        "ports": {str(port): dialled for port, dialled in row.workload.ports.items()},
        "capture": row.proxy.capture.mode.value,
        "bypassable": row.proxy.capture.mode.value == "explicit",
    }
