"""What one service is told at its start: flags before environment variables before defaults.

The variables are those that the public Bookinfo images read, so that their deployments carry over.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Service = Literal["productpage", "details", "reviews", "ratings"]
SERVICES: tuple[Service, ...] = ("productpage", "details", "reviews", "ratings")
DEFAULT_PORT = 9080
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - a workload serves its pod's address, whichever that is
_ADDRESS = re.compile(r"[0-9a-fA-F.:]+|localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One service: where it listens (port 0: any free one), who it says it is, and where it finds the others."""

    service: Service
    host: str = ALL_ADDRESSES
    port: int = DEFAULT_PORT
    version: str = "v1"
    podname: str
    clustername: str = "null"
    details_url: str = f"http://details:{DEFAULT_PORT}"
    reviews_url: str = f"http://reviews:{DEFAULT_PORT}"
    ratings_url: str = f"http://ratings:{DEFAULT_PORT}"


def _base_url(environ: Mapping[str, str], service: str) -> str:
    host = environ.get(f"{service.upper()}_HOSTNAME") or service
    domain = environ.get("SERVICES_DOMAIN")
    port = environ.get(f"{service.upper()}_SERVICE_PORT") or str(DEFAULT_PORT)
    return f"http://{host}.{domain}:{port}" if domain else f"http://{host}:{port}"


def _host(environ: Mapping[str, str]) -> str:
    # Some shells and toolchains export HOST as the name of the machine or of a compiler's target.
    host = environ.get("HOST", "")
    return host if _ADDRESS.fullmatch(host) else ALL_ADDRESSES


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gossamer.demo.bookinfo", description="One service of Bookinfo.")
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--host", default=_host(environ), help="address (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=environ.get("PORT") or DEFAULT_PORT, help="0 takes any free one (default: 9080)"
    )
    parser.add_argument(
        "--version",
        default=environ.get("SERVICE_VERSION") or "v1",
        help="of reviews: v1 shows no stars, v2 black and v3 red ones (default: v1)",
    )
    parser.add_argument(
        "--podname", default=environ.get("POD_NAME") or environ.get("HOSTNAME"), help="shown as served by"
    )
    return parser


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings that `argv` and `environ` give. Prints usage and exits with 2 when they are wrong."""
    arguments = _parser(environ).parse_args(argv)
    return Settings(
        service=arguments.service,
        host=arguments.host,
        port=arguments.port,
        version=arguments.version,
        podname=arguments.podname or f"{arguments.service}-{arguments.version}",
        clustername=environ.get("CLUSTER_NAME") or "null",
        details_url=_base_url(environ, "details"),
        reviews_url=_base_url(environ, "reviews"),
        ratings_url=_base_url(environ, "ratings"),
    )
