"""What an agent tells commands on its own host: its workloads, and each one's Envoy."""

from __future__ import annotations

import dataclasses

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gossamer import __version__
from gossamer.core.errors import EnvoyError, GossamerError, UnavailableError
from gossamer.node.agent import Agent
from gossamer.node.binary import find_envoy
from gossamer.node.log_file import read_tail
from gossamer.node.sidecar import Sidecar
from gossamer.node.sidecar_status import view_sidecar
from gossamer.node.upgrade import exchange_envoy


def local_routes(agent: Agent) -> list[Route]:
    """The API's routes, each answering from `agent` at the time of the request."""

    async def status(_: Request) -> Response:
        host = agent.host
        return JSONResponse(
            {
                "version": __version__,
                "host": host.identities.host.value.host,
                "capture": str(host.choice),
                "bypassable": host.choice.mode.value == "explicit",
                "control_plane": host.settings.control_plane,
                "ready": all(sidecar.ready.is_set() for sidecar in agent.sidecars.values()),
                "workloads": [dataclasses.asdict(view_sidecar(sidecar)) for sidecar in agent.sidecars.values()],
            }
        )

    async def envoy(request: Request) -> Response:
        sidecar = _named(agent, request)
        if sidecar is None or sidecar.envoy is None:
            return PlainTextResponse("no such workload on this host", status_code=404)
        admin = sidecar.envoy.admin
        try:
            match request.path_params["what"]:
                case "config":
                    return JSONResponse(await admin.config_dump(resource=request.query_params.get("resource", "")))
                case "stats":
                    return JSONResponse(await admin.stats(request.query_params.get("pattern", "")))
                case "clusters":
                    return JSONResponse(await admin.clusters())
        except (UnavailableError, EnvoyError) as error:
            return PlainTextResponse(str(error), status_code=503)
        return PlainTextResponse("ask for config, stats, clusters or log", status_code=404)

    async def log(request: Request) -> Response:
        sidecar = _named(agent, request)
        if sidecar is None:
            return PlainTextResponse("no such workload on this host", status_code=404)
        path = sidecar.application_log if request.query_params.get("of") == "application" else sidecar.log
        return PlainTextResponse(read_tail(path, size=int(request.query_params.get("bytes", "65536"))))

    async def upgrade(request: Request) -> Response:
        sidecar = _named(agent, request)
        if sidecar is None:
            return PlainTextResponse("no such workload on this host", status_code=404)
        asked = await request.json()
        try:
            binary = find_envoy(asked["envoy"]) if asked.get("envoy") else None
            done = await exchange_envoy(agent.host, sidecar, binary, int(asked.get("shutdown_seconds", 0)))
        except GossamerError as error:
            return PlainTextResponse(str(error), status_code=409)
        return JSONResponse(dataclasses.asdict(done))

    return [
        Route("/v1/status", status),
        Route("/v1/workloads/{namespace}/{name}/upgrade", upgrade, methods=["POST"]),
        Route("/v1/workloads/{namespace}/{name}/log", log),
        Route("/v1/workloads/{namespace}/{name}/{what}", envoy),
    ]


def _named(agent: Agent, request: Request) -> Sidecar | None:
    return agent.sidecars.get((request.path_params["namespace"], request.path_params["name"]))
