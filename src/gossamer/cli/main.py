"""The `gossamer` command: which commands there are, and how a run of one ends.

Invariant: only the module of the command that was asked for is imported, so `gossamer --help` costs what typer costs.
A command's module has `command`, a typer-annotated function, or `app`, a Typer of subcommands. It returns nothing and
raises `typer.Exit(1)` for a negative result; what it raises of `core.errors` becomes a message and exit code 1 (2 for
UsageError, as for wrong options).
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NoReturn

import typer

from gossamer import __version__
from gossamer.cli.spare import await_words
from gossamer.core.errors import GossamerError, UsageError

RUNNING: Final = "A mesh that runs"
OFFLINE: Final = "On files, without a mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A command: where it is, what it does in one line, and under which heading it is listed."""

    name: str
    module: str
    summary: str
    panel: str


COMMANDS: Final[tuple[Entry, ...]] = (
    Entry(
        name="up",
        module="gossamer.cli.up",
        summary="Run the mesh of one file on this machine.",
        panel=RUNNING,
    ),
    Entry(
        name="demo",
        module="gossamer.cli.demo",
        summary="Run the bundled example, Bookinfo; with --check, its scripted tour.",
        panel=RUNNING,
    ),
    Entry(
        name="run",
        module="gossamer.cli.run",
        summary="Run one command with a sidecar.",
        panel=RUNNING,
    ),
    Entry(
        name="control-plane",
        module="gossamer.cli.control_plane",
        summary="Run the control plane, for agents on this and other hosts.",
        panel=RUNNING,
    ),
    Entry(
        name="agent",
        module="gossamer.cli.agent",
        summary="Run this host's workloads in a mesh.",
        panel=RUNNING,
    ),
    Entry(
        name="endpoints",
        module="gossamer.cli.endpoints",
        summary="Say who answers for a service, and why an endpoint is in or out of load balancing.",
        panel=RUNNING,
    ),
    Entry(
        name="explain",
        module="gossamer.cli.explain",
        summary="Say what becomes of a request, which rule decides, and where it stands.",
        panel=RUNNING,
    ),
    Entry(
        name="authz",
        module="gossamer.cli.authz",
        summary="Policies from what was seen: try them, learn them, move to STRICT mutual TLS.",
        panel=RUNNING,
    ),
    Entry(
        name="proxy",
        module="gossamer.cli.proxy",
        summary="Look at the proxies of a running mesh, and exchange their Envoys: list, config, stats, log, upgrade.",
        panel=RUNNING,
    ),
    Entry(
        name="status",
        module="gossamer.cli.status",
        summary="Say whether the mesh is well: control plane, configuration, proxies, capture, certificates.",
        panel=RUNNING,
    ),
    Entry(
        name="ca",
        module="gossamer.cli.ca",
        summary="The authority: its root, certificates, join tokens.",
        panel=RUNNING,
    ),
    Entry(
        name="security",
        module="gossamer.cli.security",
        summary="How the mesh stands by NIST SP 800-204A and 204B, control by control.",
        panel=RUNNING,
    ),
    Entry(
        name="validate",
        module="gossamer.cli.validate",
        summary="Check configuration and say what is wrong with it, line by line.",
        panel=OFFLINE,
    ),
    Entry(
        name="compile",
        module="gossamer.cli.compile",
        summary="Show what configuration tells one Envoy: listeners, routes, clusters, endpoints.",
        panel=OFFLINE,
    ),
    Entry(
        name="version",
        module="gossamer.cli.version",
        summary="The versions of all that it is made of, and which security advisories apply to its Envoy.",
        panel=OFFLINE,
    ),
    Entry(
        name="schema",
        module="gossamer.cli.schema",
        summary="Print the JSON Schema of gossamer.yaml, for editors.",
        panel=OFFLINE,
    ),
    Entry(
        name="simulate",
        module="gossamer.cli.simulate",
        summary="Follow one request through the proxies, and name the YAML that decides about it.",
        panel=OFFLINE,
    ),
)
_COMPLETING: Final = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
"""Where shells put the words that they want completed."""


def build_app(words: Iterable[str] = ()) -> typer.Typer:
    """The command line; of its commands only the first that is among `words` is loaded."""
    app = typer.Typer(
        name="gossamer",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_gossamer)
    names = {entry.name for entry in COMMANDS}
    asked = next((word for word in words if word in names), "")
    for entry in COMMANDS:
        if entry.name == asked:
            _add(app, entry)
        else:
            app.command(entry.name, help=entry.summary, rich_help_panel=entry.panel)(_not_loaded)
    return app


def _add(app: typer.Typer, entry: Entry) -> None:
    gc.disable()  # what importing makes stays: to look for garbage in it takes a fifth of the time, and finds none
    try:
        module = importlib.import_module(entry.module)
    finally:
        gc.enable()
    if hasattr(module, "app"):
        app.add_typer(module.app, name=entry.name, help=entry.summary, rich_help_panel=entry.panel)
    else:
        app.command(entry.name, rich_help_panel=entry.panel)(module.command)


def _not_loaded() -> NoReturn:
    raise AssertionError("only the command that is asked for runs, and that one is loaded")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gossamer {__version__}")
        raise typer.Exit


def _gossamer(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """A service mesh on real Envoy proxies: Istio's YAML, no Kubernetes needed."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code: 0 done, 1 negative result or failure, 2 wrong usage."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # refused handshakes are events of ours, not gRPC's to print
    words = [*arguments, *(word for name in _COMPLETING for word in os.environ.get(name, "").split())]
    try:
        app = build_app(words)
        told = await_words(arguments)
        if told is not None:
            app(args=told, prog_name="gossamer")
    except GossamerError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
        return 2 if isinstance(error, UsageError) else 1
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def main() -> NoReturn:
    """Entry point of the `gossamer` script."""
    sys.exit(run(sys.argv[1:]))
