"""`gossamer explain`: what becomes of a request in the mesh, by which rules, and where they stand.

Contract: the exit code is 0 when the request is served or answered as configured, 1 when it is not, 2 for wrong usage.
It is `simulate`, asked of the mesh that runs (or of files), with every rule that was considered.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from gossamer.api.config import Config
from gossamer.api.profile import Profile
from gossamer.cli.asking import GOOD, People, ask, ask_outside
from gossamer.cli.cast import Cast, build_cast
from gossamer.cli.explain_view import explain_json, print_explanation
from gossamer.cli.inputs import FileOption, Inputs, MeshConfigOption, ProfileOption, load_inputs
from gossamer.cli.proxy import StateOption
from gossamer.cli.question import Question, parse_headers, parse_url
from gossamer.cli.render import Output, print_data, print_diagnostics
from gossamer.cli.running import open_running
from gossamer.cli.simulate_view import Answer
from gossamer.cli.token_check import check_token
from gossamer.core.errors import UsageError
from gossamer.core.memo import Memo

OUTSIDE: Final = "outside"
_FROM_HELP = "Who calls: namespace/name, namespace/label=value,..., or `outside` for a client that is not of the mesh."
_METHOD_HELP = "The HTTP method; for tcp:// and tls:// any word."
_URL_HELP = "http://, https://, tls:// or tcp:// HOST:PORT/PATH."
_JWT_HELP = "A file with a JSON Web Token: sent as `Authorization: Bearer`, and checked by its issuer's keys."
_GATEWAY_HELP = "The gateway by which a request from outside comes; by default the first that takes it."
_TO_HELP = "Ask this workload's own sidecar, as if the request were already on its way to it."


def command(
    caller: Annotated[str, typer.Argument(metavar="FROM", help=_FROM_HELP)],
    method: Annotated[str, typer.Argument(metavar="METHOD", help=_METHOD_HELP)],
    url: Annotated[str, typer.Argument(metavar="URL", help=_URL_HELP)],
    files: FileOption = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A header; may be repeated.")
    ] = None,
    jwt: Annotated[Path | None, typer.Option(metavar="FILE", help=_JWT_HELP)] = None,
    gateway: Annotated[str, typer.Option(metavar="WHO", help=_GATEWAY_HELP)] = "",
    target: Annotated[str, typer.Option("--to", metavar="WHO", help=_TO_HELP)] = "",
    client_ip: Annotated[str, typer.Option(metavar="IP", help="The address that the client has.")] = "",
    state: StateOption = None,
    mesh_config: MeshConfigOption = None,
    profile: ProfileOption = Profile.NONE,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = Output.TABLE,
) -> None:
    """Say what becomes of a request in the mesh that runs here (with -f: in files), and why.

    First the verdict, then the way: at every proxy the rules that were considered and the one that decided, with file
    and line, and what policies in a dry run would have said. Exits with 0 if the request is served, else with 1.

    [dim]gossamer explain default/productpage-v1 GET http://ratings:9080/ratings/0[/dim]

    [dim]gossamer explain outside GET http://shop.example/cart --jwt token.txt[/dim]
    """
    question = Question(
        url=parse_url(url),
        method=method.upper(),
        headers=(*parse_headers(header or ()), *(_bearer(jwt) if jwt else ())),
        check=check_token,
    )
    mesh = _files(files, mesh_config, profile) if files else _running(state)
    answer = _answer(mesh, question, People(caller=caller, target=target, gateway=gateway, client=client_ip))
    if output is Output.TABLE:
        print_explanation(answer, mesh.inputs)
    else:
        print_data(explain_json(answer, mesh.inputs.loaded.index), output)
    if answer.call.verdicts[0][0] not in GOOD:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Mesh:
    inputs: Inputs
    cast: Cast


def _running(state: Path | None) -> _Mesh:
    running = open_running(state)
    return _Mesh(inputs=running.inputs, cast=running.cast)


def _files(files: list[Path], mesh_config: Path | None, profile: Profile) -> _Mesh:
    memo = Memo()
    inputs = load_inputs(files, mesh_config, memo, profile=profile)
    errors = [diagnostic for diagnostic in inputs.diagnostics if diagnostic.is_error]
    print_diagnostics(errors, inputs.texts, file=sys.stderr)
    return _Mesh(inputs=inputs, cast=build_cast(inputs.loaded.config, memo))


def _answer(mesh: _Mesh, question: Question, people: People) -> Answer:
    if people.caller != OUTSIDE:
        if people.gateway:
            raise UsageError(f"--gateway goes with {OUTSIDE}: a workload's requests leave by its own sidecar")
        return ask(mesh.cast, question, people)
    if people.target:
        return ask(mesh.cast, question, People(target=people.target, client=people.client))
    gateways = (people.gateway,) if people.gateway else gateways_of(mesh.cast, mesh.inputs.loaded.config)
    return ask_outside(mesh.cast, question, gateways, people.client)


def gateways_of(cast: Cast, config: Config) -> Sequence[str]:
    """The gateways that run; where none is known, those that Gateway resources would select."""
    selected = (
        f"{gateway.namespace}/{','.join(f'{name}={value}' for name, value in gateway.spec.selector.items())}"
        for gateway in config.gateways
        if gateway.spec.selector
    )
    return cast.gateways() or tuple(dict.fromkeys(selected))


def _bearer(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--jwt {path} cannot be read: {error}") from error
    return (("authorization", f"Bearer {token.removeprefix('Bearer ')}"),)
